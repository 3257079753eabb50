//! `println!` and its like inside handlers become those of `charm_sdk`: `std`'s go nowhere on wasm.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::quote_spanned;

const MACROS: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

/// The same tokens with the macros replaced, also where they are written `std::println!`.
pub fn heard(tokens: TokenStream) -> TokenStream {
    let mut out: Vec<TokenTree> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let mut heard = Group::new(group.delimiter(), heard(group.stream()));
                heard.set_span(group.span());
                out.push(heard.into());
            }
            TokenTree::Ident(name)
                if MACROS.iter().any(|print| name == *print) && tokens.peek().is_some_and(|next| is(next, '!')) =>
            {
                replace(name, &mut out);
            }
            token => out.push(token),
        }
    }
    out.into_iter().collect()
}

fn replace(name: Ident, out: &mut Vec<TokenTree>) {
    let is_path = |out: &[TokenTree]| matches!(out, [.., a, b] if is(a, ':') && is(b, ':'));
    if is_path(out) {
        let is_std = matches!(&out[..out.len() - 2], [.., TokenTree::Ident(first)] if first == "std");
        if !is_std {
            return out.push(name.into());
        }
        out.truncate(out.len() - 3);
        if is_path(out) {
            out.truncate(out.len() - 2);
        }
    }
    out.extend(quote_spanned!(name.span()=> ::charm_sdk::#name));
}

fn is(token: &TokenTree, punctuation: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == punctuation)
}
