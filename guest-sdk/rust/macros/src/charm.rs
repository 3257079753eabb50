//! `#[charm]`: a struct of cells becomes a charm.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Fields, ItemStruct, LitStr, Result, Token};

use crate::names;

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let tags = tags(arguments)?;
    let mut item: ItemStruct = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "a charm is a struct: `#[charm] pub struct Name { .. }`"))?;
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "a charm has no type parameters"));
    }
    if matches!(item.fields, Fields::Unnamed(_)) {
        return Err(Error::new_spanned(&item.fields, "name the cells: `{ total: Cell<i64> }`"));
    }
    let (mut opened, mut declared) = (Vec::new(), Vec::new());
    for field in &mut item.fields {
        let private = names::private(&mut field.attrs)?;
        let (Some(ident), ty) = (&field.ident, &field.ty) else { continue };
        let name = names::kebab(ident);
        opened.push(quote_spanned!(ty.span()=> #ident: <#ty as ::charm_sdk::__private::CharmField>::open(#name)));
        declared.push(quote_spanned!(ty.span()=> <#ty as ::charm_sdk::__private::CharmField>::declare(#name) #private));
    }
    let name = &item.ident;
    Ok(quote! {
        #item

        impl ::charm_sdk::Charm for #name {
            const TAGS: &'static [&'static str] = &[#(#tags),*];

            fn open() -> Self {
                Self { #(#opened),* }
            }

            fn cells() -> ::std::vec::Vec<::charm_sdk::Declaration> {
                ::std::vec![#(#declared),*]
            }
        }
    })
}

/// The tags of `tags("#one", "#two")`.
fn tags(arguments: TokenStream) -> Result<Vec<LitStr>> {
    let mut tags = Vec::new();
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("tags") {
            return Err(meta.error("write `#[charm(tags(\"#name\"))]`, or `#[charm]` for a charm without tags"));
        }
        let inside;
        syn::parenthesized!(inside in meta.input);
        for tag in Punctuated::<LitStr, Token![,]>::parse_terminated(&inside)? {
            names::tag(&tag)?;
            tags.push(tag);
        }
        Ok(())
    });
    parser.parse2(arguments)?;
    Ok(tags)
}
