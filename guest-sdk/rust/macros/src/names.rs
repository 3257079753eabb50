//! Names of cells, streams and tags.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, LitStr};

/// The kebab-case of a Rust name.
pub fn kebab(name: &syn::Ident) -> String {
    let name = name.to_string();
    name.trim_start_matches("r#").trim_matches('_').replace('_', "-")
}

/// Takes an attribute off that says nothing but its name; returns whether it was there.
pub fn take(attributes: &mut Vec<Attribute>, name: &str) -> syn::Result<bool> {
    let (taken, kept) = attributes.drain(..).partition::<Vec<_>, _>(|attribute| attribute.path().is_ident(name));
    *attributes = kept;
    taken.first().map(|taken| taken.meta.require_path_only()).transpose().map(|taken| taken.is_some())
}

/// Takes `#[private]` off, and returns what it adds to a declaration.
pub fn private(attributes: &mut Vec<Attribute>) -> syn::Result<TokenStream> {
    Ok(if take(attributes, "private")? { quote!(.private()) } else { quote!() })
}

/// Checks a tag.
pub fn tag(tag: &LitStr) -> syn::Result<()> {
    let text = tag.value();
    let bare = text.trim_start_matches('#');
    if text.len() == bare.len() + 1 && !bare.is_empty() && !bare.contains(char::is_whitespace) {
        return Ok(());
    }
    let bare: String = bare.split_whitespace().collect::<Vec<_>>().join("-");
    let bare = if bare.is_empty() { "name" } else { &bare };
    Err(syn::Error::new_spanned(tag, format!("a tag starts with `#` and has no spaces: write `\"#{bare}\"`")))
}

/// A JSON string literal.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

/// A key of a shape's map: as it is where the grammar allows it, quoted otherwise.
pub fn key(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'));
    if plain { text.into() } else { quoted(text) }
}
