//! The macros of `charm-sdk`, which documents them where it re-exports them.

mod case;
mod charm;
mod data;
mod handlers;
mod names;
mod print;
mod serde;
mod shape;
mod wish;

use proc_macro::TokenStream;

/// `#[data]`
#[proc_macro_attribute]
pub fn data(arguments: TokenStream, item: TokenStream) -> TokenStream {
    finish(data::expand(arguments.into(), item.into()))
}

/// `#[derive(Shape)]`
#[proc_macro_derive(Shape, attributes(shape))]
pub fn shape(item: TokenStream) -> TokenStream {
    finish(syn::parse(item).map(|item| shape::expand(&item)))
}

/// `#[charm(tags("#tag"))]`
#[proc_macro_attribute]
pub fn charm(arguments: TokenStream, item: TokenStream) -> TokenStream {
    finish(charm::expand(arguments.into(), item.into()))
}

/// `#[handlers]`
#[proc_macro_attribute]
pub fn handlers(arguments: TokenStream, item: TokenStream) -> TokenStream {
    finish(handlers::expand(arguments.into(), item.into()))
}

/// `#[wish("#tag")]`
#[proc_macro_attribute]
pub fn wish(arguments: TokenStream, item: TokenStream) -> TokenStream {
    finish(wish::expand(arguments.into(), item.into()))
}

fn finish(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(|error| error.into_compile_error()).into()
}

/// The error of an attribute that takes nothing.
fn no_arguments(arguments: &proc_macro2::TokenStream, attribute: &str) -> syn::Result<()> {
    if arguments.is_empty() {
        return Ok(());
    }
    Err(syn::Error::new_spanned(arguments, format!("write `#[{attribute}]`, without arguments")))
}
