//! `#[derive(Shape)]`: the shape of what serde's derive writes.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Ident, LitStr, Result, parse_quote};

use crate::names;

pub fn expand(item: &DeriveInput) -> Result<TokenStream> {
    let style = Serde::read(&item.attrs)?;
    let body = match &item.data {
        Data::Struct(data) => fields(&data.fields, style.rename_all.as_ref(), style.default)?,
        Data::Enum(data) if data.variants.is_empty() => {
            return Err(Error::new_spanned(&item.ident, "data needs at least one variant"));
        }
        Data::Enum(data) => {
            let mut alternatives = Vec::new();
            for variant in &data.variants {
                let serde = Serde::read(&variant.attrs)?;
                let name = serde.name(&variant.ident, style.rename_all.as_ref(), true)?;
                alternatives.push(if matches!(variant.fields, Fields::Unit) {
                    let literal = names::quoted(&name);
                    quote!(to.text(#literal);)
                } else {
                    let start = format!("{{{}: ", names::key(&name));
                    let inner = fields(&variant.fields, serde.rename_all.as_ref(), false)?;
                    quote!(to.text(#start); #inner to.text("}");)
                });
            }
            let first = &alternatives[0];
            let rest = &alternatives[1..];
            quote!(#first #(to.text(" | "); #rest)*)
        }
        Data::Union(data) => return Err(Error::new_spanned(data.union_token, "data is a `struct` or an `enum`")),
    };
    let name = &item.ident;
    let mut generics = item.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::charm_sdk::Shape));
    }
    let (before, arguments, conditions) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #before ::charm_sdk::Shape for #name #arguments #conditions {
            fn write_shape(to: &mut ::charm_sdk::ShapeText) {
                to.once::<Self>(|to| { #body });
            }
        }
    })
}

/// The shape of the fields of a struct or variant.
fn fields(fields: &Fields, style: Option<&LitStr>, all_default: bool) -> Result<TokenStream> {
    let mut parts = Vec::new();
    for field in fields {
        let serde = Serde::read(&field.attrs)?;
        let ty = &field.ty;
        parts.push(match &field.ident {
            Some(ident) => {
                let key = names::key(&serde.name(ident, style, false)?);
                let may_be_missing = all_default || serde.default;
                quote!(to.field::<#ty>(#key, #may_be_missing);)
            }
            None => quote!(<#ty as ::charm_sdk::Shape>::write_shape(to);),
        });
    }
    Ok(match fields {
        Fields::Unit => quote!(to.text("null");),
        Fields::Named(_) => quote!(to.text("{"); #(#parts)* to.text("}");),
        Fields::Unnamed(_) if parts.len() == 1 => quote!(#(#parts)*),
        // A tuple is a list: any of the types at any place is the closest that a shape can say.
        Fields::Unnamed(_) if parts.is_empty() => quote!(to.text("[any]");),
        Fields::Unnamed(_) => {
            let (first, rest) = (&parts[0], &parts[1..]);
            quote!(to.text("["); #first #(to.text(" | "); #rest)* to.text("]");)
        }
    })
}

/// The serde attributes that a shape understands.
#[derive(Default)]
struct Serde {
    rename: Option<LitStr>,
    rename_all: Option<LitStr>,
    default: bool,
}

impl Serde {
    fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut serde = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            attribute.parse_nested_meta(|meta| {
                let word = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
                match word.as_str() {
                    "rename" => serde.rename = Some(meta.value()?.parse()?),
                    "rename_all" => serde.rename_all = Some(meta.value()?.parse()?),
                    "default" => {
                        serde.default = true;
                        if meta.input.peek(syn::Token![=]) {
                            meta.value()?.parse::<LitStr>()?;
                        }
                    }
                    "skip_serializing_if" => {
                        serde.default = true;
                        meta.value()?.parse::<LitStr>()?;
                    }
                    "crate" | "bound" => {
                        meta.value()?.parse::<LitStr>()?;
                    }
                    "deny_unknown_fields" => {}
                    _ => {
                        let words = format!(
                            "the shape can not follow `{word}`: use `rename`, `rename_all`, `default` or \
                             `skip_serializing_if`, or write `impl Shape` by hand"
                        );
                        return Err(Error::new(meta.path.span(), words));
                    }
                }
                Ok(())
            })?;
        }
        Ok(serde)
    }

    fn name(&self, ident: &Ident, style: Option<&LitStr>, is_variant: bool) -> Result<String> {
        let plain = ident.to_string();
        let plain = plain.trim_start_matches("r#");
        match (&self.rename, style) {
            (Some(name), _) => Ok(name.value()),
            (None, Some(style)) => names::restyle(plain, &style.value(), is_variant)
                .ok_or_else(|| Error::new_spanned(style, "serde knows no such style")),
            (None, None) => Ok(plain.into()),
        }
    }
}
