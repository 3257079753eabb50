//! `#[wish]`: a struct of cells and streams that another charm must offer.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Fields, ItemStruct, LitStr, Result};

use crate::names;

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let tag: LitStr =
        syn::parse2(arguments).map_err(|error| Error::new(error.span(), "name a tag: `#[wish(\"#name\")]`"))?;
    names::tag(&tag)?;
    let item: ItemStruct = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "a wish is a struct: `#[wish(\"#name\")] struct Name { .. }`"))?;
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "a wish has no type parameters"));
    }
    if matches!(item.fields, Fields::Unnamed(_)) {
        return Err(Error::new_spanned(&item.fields, "name what is wished for: `{ total: Cell<i64> }`"));
    }
    let (mut wanted, mut bound) = (Vec::new(), Vec::new());
    for field in &item.fields {
        let (Some(ident), ty) = (&field.ident, &field.ty) else { continue };
        let name = names::kebab(ident);
        wanted.push(quote_spanned!(ty.span()=> <#ty as ::charm_sdk::__private::WishField>::want(#name, to);));
        bound.push(quote_spanned!(ty.span()=> #ident: <#ty as ::charm_sdk::__private::WishField>::bind(#name, from)));
    }
    let (name, visibility) = (&item.ident, &item.vis);
    Ok(quote! {
        #item

        impl #name {
            /// Asks the host for the charms that fit.
            ///
            /// # Errors
            /// `Invalid` and `Limit`. That none fits is no error until one is needed.
            #visibility fn wish() -> ::charm_sdk::Result<::charm_sdk::Wish<Self>> {
                ::charm_sdk::__private::ask(None)
            }

            /// Asks the host for one charm, if it fits.
            ///
            /// # Errors
            /// As `wish`.
            #[allow(dead_code, reason = "most ask for any")]
            #visibility fn wish_of(owner: &::charm_sdk::Did) -> ::charm_sdk::Result<::charm_sdk::Wish<Self>> {
                ::charm_sdk::__private::ask(Some(owner))
            }
        }

        impl ::charm_sdk::Wished for #name {
            const TAG: &'static str = #tag;

            fn wanted(to: &mut ::charm_sdk::__private::Wanted) {
                #(#wanted)*
            }

            fn bind(from: &mut ::charm_sdk::__private::Found) -> Self {
                Self { #(#bound),* }
            }
        }
    })
}
