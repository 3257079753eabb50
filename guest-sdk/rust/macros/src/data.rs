//! `#[data]`: every derive that data needs, and the shape.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Result};

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    crate::no_arguments(&arguments, "data")?;
    let item: DeriveInput = syn::parse2(item)?;
    if let Data::Union(union) = &item.data {
        return Err(syn::Error::new_spanned(union.union_token, "data is a `struct` or an `enum`"));
    }
    Ok(quote! {
        #[derive(
            ::core::clone::Clone,
            ::core::fmt::Debug,
            ::core::cmp::PartialEq,
            ::charm_sdk::__private::serde::Serialize,
            ::charm_sdk::__private::serde::Deserialize,
            ::charm_sdk::Shape,
        )]
        #[serde(crate = "::charm_sdk::__private::serde")]
        #item
    })
}
