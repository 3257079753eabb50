//! `#[derive(Shape)]`: the shape of what serde's derives write and read. It lets in nothing that the type refuses, but
//! for what only the type's own code knows.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DataEnum, DeriveInput, Error, Field, Fields, Ident, Result, Type, Variant, parse_quote};

use crate::case::Style;
use crate::names;
use crate::serde::Serde;

/// The implementation. After an error one that says nothing, so that the error stands alone.
pub fn expand(item: &DeriveInput) -> TokenStream {
    let (error, (body, stands_for)) = match body(item) {
        Ok(body) => (None, body),
        Err(error) => (Some(error.into_compile_error()), (quote!(to.text("any");), None)),
    };
    let name = &item.ident;
    let mut generics = item.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::charm_sdk::Shape));
    }
    let (before, arguments, conditions) = generics.split_for_impl();
    let optional =
        stands_for.map(|ty| quote!(const OPTIONAL: ::core::primitive::bool = <#ty as ::charm_sdk::Shape>::OPTIONAL;));
    quote! {
        #error

        #[automatically_derived]
        impl #before ::charm_sdk::Shape for #name #arguments #conditions {
            #optional

            fn write_shape(to: &mut ::charm_sdk::ShapeText) {
                to.once::<Self>(|to| { #body });
            }
        }
    }
}

/// What writes the shape, and the type that this one is read as, if there is one.
fn body(item: &DeriveInput) -> Result<(TokenStream, Option<Type>)> {
    let serde = Serde::read(&item.attrs)?;
    if let Some(shape) = &serde.shape {
        return Ok((quote!(to.text(#shape);), None));
    }
    if serde.from.is_some() || serde.into.is_some() {
        let proxy = proxy(&serde)?;
        return Ok((quote!(<#proxy as ::charm_sdk::Shape>::write_shape(to);), Some(proxy)));
    }
    let data = match &item.data {
        Data::Struct(data) => data,
        Data::Enum(data) => return Ok((variants(data, &serde, &item.ident)?, None)),
        Data::Union(data) => return Err(Error::new_spanned(data.union_token, "data is a `struct` or an `enum`")),
    };
    if serde.transparent {
        let (field, own) = transparent(&data.fields, &item.ident)?;
        let stands_for = own.shape.is_none().then(|| field.ty.clone());
        return Ok((value_of(field, &own)?, stands_for));
    }
    let rules = Rules { style: serde.rename_all, all_default: serde.default, closed: serde.deny_unknown_fields };
    let Fields::Named(_) = &data.fields else { return Ok((plain(&data.fields, &rules)?, None)) };
    let name = serde.rename.clone().unwrap_or_else(|| item.ident.unraw().to_string());
    if let (Some(_), Some(span)) = (&serde.tag, serde.deny_unknown_fields) {
        return Err(Error::new(span, "serde would refuse the tag that it writes: leave out `deny_unknown_fields`"));
    }
    let tag = serde.tag.as_deref().map(|tag| tagged(tag, &[&name]));
    Ok((record(&data.fields, &rules, tag.as_deref())?, None))
}

/// The type that stands for this one on both ways.
fn proxy(serde: &Serde) -> Result<Type> {
    match (&serde.from, &serde.into) {
        (Some(from), Some(into)) if from.value() == into.value() => from.parse(),
        (from, into) => {
            let span = from.as_ref().or(into.as_ref()).map_or_else(Span::call_site, |text| text.span());
            let words = "what is written as one type could not be read as another: give `from` (or `try_from`) and \
                         `into` the same type";
            Err(Error::new(span, words))
        }
    }
}

/// The one field that a transparent struct is.
fn transparent<'a>(fields: &'a Fields, name: &Ident) -> Result<(&'a Field, Serde)> {
    for field in fields {
        let serde = Serde::read(&field.attrs)?;
        if !serde.skipped() && last(&field.ty).is_none_or(|last| last != "PhantomData") {
            return Ok((field, serde));
        }
    }
    Err(Error::new_spanned(name, "a transparent struct has one field"))
}

/// What holds for all fields of a struct or variant.
struct Rules {
    style: Option<Style>,
    all_default: bool,
    /// Where `deny_unknown_fields` stands.
    closed: Option<Span>,
}

/// A map of named fields; `tag` is its text and comes before them.
fn record(fields: &Fields, rules: &Rules, tag: Option<&str>) -> Result<TokenStream> {
    let start = format!("{{{}", tag.unwrap_or_default());
    let (mut parts, mut merged) = (vec![quote!(to.text(#start);)], Vec::new());
    for field in fields {
        let serde = Serde::read(&field.attrs)?;
        if serde.skipped() {
            continue;
        }
        let Some(ident) = &field.ident else { continue };
        let plain = ident.unraw().to_string();
        let name = serde.rename.clone().or_else(|| rules.style.map(|style| style.field(&plain))).unwrap_or(plain);
        let has_default = rules.all_default || serde.default;
        let is_option = last(&field.ty).is_some_and(|last| last == "Option");
        let may_be_unwritten = serde.skip_serializing || serde.skip_serializing_if.is_some();
        let helps = serde.flatten.is_none() && has_default || is_option && serde.opaque.is_none();
        if may_be_unwritten && !helps {
            let words = match serde.flatten {
                None => {
                    format!("a value without `{name}` could not be read again: add `default` to its serde attributes")
                }
                Some(_) => format!("a value without the keys of `{name}` could not be read again: make it an `Option`"),
            };
            return Err(Error::new_spanned(ident, words));
        }
        if let (true, Some(span)) = (serde.skip_deserializing, rules.closed) {
            let words = "serde would refuse a key that it writes: leave out `deny_unknown_fields`, or `skip` the field \
                         on both ways";
            return Err(Error::new(span, words));
        }
        let value = value_of(field, &serde)?;
        if serde.flatten.is_some() {
            merged.push(quote!(to.merge(start, true, |to| { #value });));
            continue;
        }
        let may_be_missing = has_default || may_be_unwritten || serde.skip_deserializing;
        let ty = &field.ty;
        let optional = match (&serde.shape, &serde.opaque) {
            (None, _) => quote!(#may_be_missing || <#ty as ::charm_sdk::Shape>::OPTIONAL),
            (Some(_), opaque) => {
                let optional = may_be_missing || is_option && opaque.is_none();
                quote!(#optional)
            }
        };
        let names: Vec<&String> = std::iter::once(&name).chain(&serde.aliases).collect();
        let keys: Vec<String> = names.iter().map(|name| names::key(name)).collect();
        match keys.as_slice() {
            [key] => parts.push(quote!(to.key(#key, #optional); #value)),
            keys => merged.push(quote!(to.merge(start, false, |to| {
                to.names(&[#(#keys),*], #optional, |to| { #value });
            });)),
        }
    }
    if rules.closed.is_some() {
        parts.push(quote!(to.key("*", false); to.text("never");));
    }
    parts.push(quote!(to.text("}");));
    Ok(match merged.as_slice() {
        [] => quote!(#(#parts)*),
        _ => quote!({ let start = to.start(); #(#parts)* #(#merged)* }),
    })
}

/// What is written without the name of the struct or variant, and without a tag.
fn plain(fields: &Fields, rules: &Rules) -> Result<TokenStream> {
    let parts = match fields {
        Fields::Unit => return Ok(quote!(to.text("null");)),
        Fields::Named(_) => return record(fields, rules, None),
        Fields::Unnamed(fields) => fields.unnamed.iter().map(tuple_item).collect::<Result<Vec<_>>>()?,
    };
    Ok(match parts.as_slice() {
        [one] => quote!(#one),
        [] => quote!(to.text("[]");),
        [first, rest @ ..] => quote!(to.text("["); #first #(to.text(", "); #rest)* to.text("]");),
    })
}

fn tuple_item(field: &Field) -> Result<TokenStream> {
    let serde = Serde::read(&field.attrs)?;
    if serde.skip_serializing || serde.skip_deserializing || serde.skip_serializing_if.is_some() {
        let words = "a list with an item left out could not be read again: give the fields names";
        return Err(Error::new_spanned(&field.ty, words));
    }
    value_of(field, &serde)
}

/// The shape of what a field holds.
fn value_of(field: &Field, serde: &Serde) -> Result<TokenStream> {
    if let Some(shape) = &serde.shape {
        return Ok(quote!(to.text(#shape);));
    }
    followed(serde)?;
    let ty = &field.ty;
    Ok(quote!(<#ty as ::charm_sdk::Shape>::write_shape(to);))
}

/// Refuses what changes a field in ways that a shape can not follow.
fn followed(serde: &Serde) -> Result<()> {
    let Some(word) = &serde.opaque else { return Ok(()) };
    let words = format!("the shape can not follow `{word}`: say what is written with `#[shape(\"..\")]` on the field");
    Err(Error::new_spanned(word, words))
}

/// The key and value of a tag, which may have several names.
fn tagged(key: &str, names: &[&String]) -> String {
    let names: Vec<String> = names.iter().map(|name| names::quoted(name)).collect();
    format!("{}: {}", names::key(key), names.join(" | "))
}

fn variants(data: &DataEnum, serde: &Serde, name: &Ident) -> Result<TokenStream> {
    let mut alternatives = Vec::new();
    let mut catches_all = None;
    for variant in &data.variants {
        let own = Serde::read(&variant.attrs)?;
        if own.skipped() {
            continue;
        }
        if own.skip_deserializing {
            let words = "a variant that is written but not read could not be read again: `skip` it on both ways";
            return Err(Error::new_spanned(variant, words));
        }
        if let Some(word) = &own.opaque {
            let words = format!(
                "the shape can not follow `{word}` here: say the shape of the whole type with `#[shape(\"..\")]` above it"
            );
            return Err(Error::new_spanned(word, words));
        }
        if let Some(span) = own.untagged {
            let words = "the shape can not follow one `untagged` variant: say the shape of the whole type with `#[shape(\"..\")]` above it";
            return Err(Error::new(span, words));
        }
        catches_all = catches_all.or(own.other);
        alternatives.push(alternative(variant, &own, serde)?);
    }
    let [first, rest @ ..] = alternatives.as_slice() else {
        return Err(Error::new_spanned(name, "data needs at least one variant"));
    };
    if let Some(span) = catches_all {
        let tagged = serde.tag.is_some() || serde.untagged.is_some();
        if tagged || data.variants.iter().any(|variant| !matches!(variant.fields, Fields::Unit)) {
            let words = "the shape can not say `other` beside variants that carry something: say the shape of the whole \
                         type with `#[shape(\"..\")]` above it";
            return Err(Error::new(span, words));
        }
        return Ok(quote!(to.text("string");));
    }
    Ok(quote!(#first #(to.text(" | "); #rest)*))
}

fn alternative(variant: &Variant, own: &Serde, of: &Serde) -> Result<TokenStream> {
    let plain_name = variant.ident.unraw().to_string();
    let name =
        own.rename.clone().or_else(|| of.rename_all.map(|style| style.variant(&plain_name))).unwrap_or(plain_name);
    let style = own.rename_all.or(of.rename_all_fields);
    let rules = Rules { style, all_default: false, closed: of.deny_unknown_fields };
    let content = plain(&variant.fields, &rules);
    let is_unit = matches!(variant.fields, Fields::Unit);
    let names: Vec<&String> = std::iter::once(&name).chain(&own.aliases).collect();
    Ok(match (&of.tag, &of.content) {
        _ if of.untagged.is_some() => content?,
        (None, _) if is_unit => {
            let literals = names.iter().map(|name| names::quoted(name)).collect::<Vec<_>>().join(" | ");
            quote!(to.text(#literals);)
        }
        (None, _) => {
            let content = content?;
            let alternatives = names.iter().enumerate().map(|(number, name)| {
                let start = format!("{}{{{}: ", if number > 0 { " | " } else { "" }, names::key(name));
                // serde takes a map of one key.
                quote!(to.text(#start); #content to.text(", *: never}");)
            });
            quote!(#(#alternatives)*)
        }
        (Some(tag), None) => match &variant.fields {
            Fields::Unit | Fields::Named(_) => record(&variant.fields, &rules, Some(&tagged(tag, &names)))?,
            Fields::Unnamed(_) => {
                let (start, content) = (format!("{{{}}}", tagged(tag, &names)), content?);
                quote!({ let start = to.start(); to.text(#start); to.merge(start, false, |to| { #content }); })
            }
        },
        (Some(tag), Some(key)) => {
            let (start, key) = (format!("{{{}", tagged(tag, &names)), names::key(key));
            let closed = of.deny_unknown_fields.map(|_| quote!(to.key("*", false); to.text("never");));
            let content = match &variant.fields {
                Fields::Unit => quote!(to.key(#key, true); to.text("null");),
                _ => {
                    let content = content?;
                    quote!(to.key(#key, false); #content)
                }
            };
            quote!(to.text(#start); #content #closed to.text("}");)
        }
    })
}

/// The last name of a type's path.
fn last(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        Type::Group(group) => last(&group.elem),
        Type::Paren(paren) => last(&paren.elem),
        _ => None,
    }
}
