//! `#[handlers]`: each `pub fn` becomes a stream, and what is printed inside is logged.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, ImplItem, ImplItemFn, ItemImpl, Pat, Result, ReturnType, Type, Visibility, parse_quote,
};

use crate::names;

pub fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    crate::no_arguments(&arguments, "handlers")?;
    let mut item: ItemImpl = syn::parse2(crate::print::heard(item))
        .map_err(|error| Error::new(error.span(), "write `#[handlers] impl Name { .. }` for a `#[charm]` struct"))?;
    if let Some((_, path, _)) = &item.trait_ {
        return Err(Error::new_spanned(path, "handlers stand in the charm's own `impl`, not in one of a trait"));
    }
    let mut marks = Vec::new();
    for member in &mut item.items {
        if let ImplItem::Fn(function) = member
            && matches!(function.vis, Visibility::Public(_))
        {
            marks.push((names::private(&mut function.attrs)?, names::take(&mut function.attrs, "derived")?));
            function.sig.inputs.iter_mut().try_for_each(used)?;
        }
    }
    let (mut handlers, mut derivations) = (Vec::new(), Vec::new());
    let mut errors: Option<Error> = None;
    let public = item.items.iter().filter_map(|member| match member {
        ImplItem::Fn(function) if matches!(function.vis, Visibility::Public(_)) => Some(function),
        _ => None,
    });
    for (function, (private, is_derived)) in public.zip(marks) {
        let read = match is_derived {
            true => Derivation::read(function, private).map(|derivation| derivations.push(derivation)),
            false => Handler::read(function, private).map(|handler| handlers.push(handler)),
        };
        match read {
            Ok(()) => {}
            Err(error) => match &mut errors {
                Some(errors) => errors.combine(error),
                None => errors = Some(error),
            },
        }
    }
    if let Some(errors) = errors {
        return Err(errors);
    }

    let charm = &item.self_ty;
    let constants = handlers.iter().map(Handler::constant).chain(derivations.iter().map(Derivation::constant));
    let declarations = handlers.iter().map(Handler::declaration);
    let arms = handlers.iter().map(Handler::arm);
    let derives = (!derivations.is_empty()).then(|| {
        let declarations = derivations.iter().map(Derivation::declaration);
        let arms = derivations.iter().map(Derivation::arm);
        quote! {
            fn derived() -> ::std::vec::Vec<::charm_sdk::Declaration> {
                ::std::vec![#(#declarations),*]
            }

            fn derive(&self, name: &str) -> ::charm_sdk::Result<::std::vec::Vec<u8>> {
                match name {
                    #(#arms)*
                    other => ::core::result::Result::Err(::charm_sdk::__private::no_such_derivation(other)),
                }
            }
        }
    });
    let exports_derivations = derives.as_ref().map(
        |_| quote!(::charm_sdk::bindings::deriving::export!(Exported with_types_in ::charm_sdk::bindings::deriving);),
    );
    Ok(quote! {
        #item

        impl #charm {
            #(#constants)*

            /// Two blocks would define it twice: the name is what the compiler then says.
            #[doc(hidden)]
            pub const ONE_HANDLERS_BLOCK_PER_CHARM: () = ();
        }

        impl ::charm_sdk::Handlers for #charm {
            fn streams() -> ::std::vec::Vec<::charm_sdk::Declaration> {
                ::std::vec![#(#declarations),*]
            }

            fn handle(&self, stream: &str, event: &[u8]) -> ::charm_sdk::Result<()> {
                match stream {
                    #(#arms)*
                    other => ::core::result::Result::Err(::charm_sdk::__private::no_such_stream(other)),
                }
            }

            #derives
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = ::charm_sdk::bindings::Component<#charm>;
            ::charm_sdk::bindings::export!(Exported with_types_in ::charm_sdk::bindings);
            #exports_derivations
        };
    })
}

/// Lets no handler compile that does not look at what became of a send: a failure would pass for a success.
fn used(input: &mut FnArg) -> Result<()> {
    let FnArg::Typed(input) = input else { return Ok(()) };
    let Type::Path(of) = &*input.ty else { return Ok(()) };
    if of.path.segments.last().is_none_or(|last| last.ident != "Settled") {
        return Ok(());
    }
    let words =
        "the send may have failed: `done.committed()?` rejects this event too, `match done.committed()` decides";
    if let Pat::Ident(name) = &*input.pat
        && !name.ident.to_string().starts_with('_')
    {
        input.attrs.push(parse_quote!(#[deny(unused_variables, reason = #words)]));
        return Ok(());
    }
    Err(Error::new_spanned(&input.pat, words))
}

struct Handler<'a> {
    function: &'a ImplItemFn,
    stream: String,
    event: &'a Type,
    output: &'a Type,
    docs: Vec<&'a Attribute>,
    /// What `#[private]` adds to the declaration.
    private: TokenStream,
}

impl<'a> Handler<'a> {
    fn read(function: &'a ImplItemFn, private: TokenStream) -> Result<Self> {
        let signature = &function.sig;
        let name = &signature.ident;
        let wrong = |what: &dyn quote::ToTokens, why: &str| {
            let words = format!(
                "{why}: write `pub fn {name}(&self, event: Event) -> Result<()>`, or leave out `pub` for a helper"
            );
            Err(Error::new_spanned(what, words))
        };
        if let Some(word) = &signature.asyncness {
            return wrong(word, "a handler is no `async fn`, the host waits for it");
        }
        if !signature.generics.params.is_empty() {
            return wrong(&signature.generics, "a handler has no type parameters");
        }
        let mut inputs = signature.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(this)) if this.reference.is_some() && this.mutability.is_none() => {}
            Some(this @ FnArg::Receiver(_)) => return wrong(this, "a handler borrows the charm as `&self`"),
            _ => return wrong(&signature.ident, "a handler starts with `&self`"),
        }
        let event = match inputs.next() {
            Some(FnArg::Typed(event)) => &*event.ty,
            _ => return wrong(&signature.ident, "a handler takes one event"),
        };
        if let Type::Reference(reference) = event {
            return wrong(reference, "a handler owns its event");
        }
        if let Some(second) = inputs.next() {
            return wrong(second, "a handler takes one event, put the rest into its fields");
        }
        let ReturnType::Type(_, output) = &signature.output else {
            return wrong(&signature.ident, "a handler says how it ended");
        };
        let docs = function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).collect();
        Ok(Self { function, stream: names::kebab(name), event, output, docs, private })
    }

    /// `pub const REFRESH_TOKEN: OwnStream<Refresh>`
    fn constant(&self) -> TokenStream {
        let Self { function, stream, event, docs, .. } = self;
        let name = function.sig.ident.to_string();
        let name =
            format_ident!("{}", name.trim_start_matches("r#").to_ascii_uppercase(), span = function.sig.ident.span());
        let about = format!("The stream `{stream}`.");
        quote! {
            #[doc = #about]
            ///
            #(#docs)*
            pub const #name: ::charm_sdk::OwnStream<#event> = ::charm_sdk::OwnStream::new(#stream);
        }
    }

    fn declaration(&self) -> TokenStream {
        let Self { stream, event, private, .. } = self;
        quote_spanned!(event.span()=> ::charm_sdk::Declaration::of::<#event>(#stream) #private)
    }

    fn arm(&self) -> TokenStream {
        let Self { function, stream, event, output, .. } = self;
        let name = &function.sig.ident;
        let decoded = quote_spanned!(event.span()=> ::charm_sdk::__private::event::<#event>(stream, event)?);
        let ended = quote_spanned!(output.span()=> <#output as ::charm_sdk::__private::Ended>::ended);
        quote!(#stream => #ended(self.#name(#decoded)),)
    }
}

/// A `#[derived] pub fn`.
struct Derivation<'a> {
    function: &'a ImplItemFn,
    cell: String,
    output: &'a Type,
    docs: Vec<&'a Attribute>,
    private: TokenStream,
}

impl<'a> Derivation<'a> {
    fn read(function: &'a ImplItemFn, private: TokenStream) -> Result<Self> {
        let signature = &function.sig;
        let name = &signature.ident;
        let wrong = |what: &dyn quote::ToTokens, why: &str| {
            let words = format!("{why}: write `#[derived] pub fn {name}(&self) -> Result<T>`");
            Err(Error::new_spanned(what, words))
        };
        if let Some(word) = &signature.asyncness {
            return wrong(word, "a derivation is no `async fn`");
        }
        if !signature.generics.params.is_empty() {
            return wrong(&signature.generics, "a derivation has no type parameters");
        }
        let mut inputs = signature.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(this)) if this.reference.is_some() && this.mutability.is_none() => {}
            Some(this @ FnArg::Receiver(_)) => return wrong(this, "a derivation borrows the charm as `&self`"),
            _ => return wrong(name, "a derivation starts with `&self`"),
        }
        if let Some(input) = inputs.next() {
            return wrong(input, "a derivation takes nothing: it reads cells");
        }
        let ReturnType::Type(_, output) = &signature.output else {
            return wrong(name, "a derivation returns what the cell holds");
        };
        let docs = function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).collect();
        Ok(Self { function, cell: names::kebab(name), output, docs, private })
    }

    fn value(&self) -> TokenStream {
        let output = self.output;
        quote_spanned!(output.span()=> <#output as ::charm_sdk::__private::Derives>::Value)
    }

    /// `pub const TOTAL: Derived<i64>`
    fn constant(&self) -> TokenStream {
        let Self { function, cell, docs, .. } = self;
        let name = function.sig.ident.to_string();
        let name =
            format_ident!("{}", name.trim_start_matches("r#").to_ascii_uppercase(), span = function.sig.ident.span());
        let (about, value) = (format!("The derived cell `{cell}`."), self.value());
        quote! {
            #[doc = #about]
            ///
            #(#docs)*
            pub const #name: ::charm_sdk::Derived<#value> = ::charm_sdk::Derived::new(#cell);
        }
    }

    fn declaration(&self) -> TokenStream {
        let Self { cell, private, .. } = self;
        let value = self.value();
        quote!(::charm_sdk::Declaration::of::<#value>(#cell).derived() #private)
    }

    fn arm(&self) -> TokenStream {
        let Self { function, cell, output, .. } = self;
        let name = &function.sig.ident;
        let derived = quote_spanned!(output.span()=> <#output as ::charm_sdk::__private::Derives>::derived);
        quote!(#cell => #derived(self.#name()),)
    }
}
