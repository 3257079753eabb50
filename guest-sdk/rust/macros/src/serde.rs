//! The serde attributes of a type, a variant or a field, as far as a shape can follow them.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, LitStr, Result, Token, parenthesized};

use crate::case::Style;

/// What the attributes say. Each place uses what can stand there; what can not, serde refuses.
#[derive(Default)]
pub struct Serde {
    pub rename: Option<String>,
    pub rename_all: Option<Style>,
    pub rename_all_fields: Option<Style>,
    pub default: bool,
    pub deny_unknown_fields: Option<Span>,
    pub transparent: bool,
    pub tag: Option<String>,
    pub content: Option<String>,
    pub untagged: Option<Span>,
    pub other: Option<Span>,
    pub skip_serializing: bool,
    pub skip_deserializing: bool,
    /// The path of the condition.
    pub skip_serializing_if: Option<LitStr>,
    /// The type in whose place this is read.
    pub from: Option<LitStr>,
    /// The type in whose place this is written.
    pub into: Option<LitStr>,
    /// Other names that are read.
    pub aliases: Vec<String>,
    pub flatten: Option<Span>,
    /// What only `#[shape("..")]` can say, as `with`.
    pub opaque: Option<Ident>,
    /// The text of `#[shape("..")]`.
    pub shape: Option<LitStr>,
}

impl Serde {
    pub fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut serde = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("shape") {
                serde.shape = Some(attribute.parse_args().map_err(|error| {
                    Error::new(error.span(), "write `#[shape(\"..\")]` with a shape as `wit/README.md` says")
                })?);
            }
            if attribute.path().is_ident("serde") {
                attribute.parse_nested_meta(|meta| serde.word(&meta))?;
            }
        }
        Ok(serde)
    }

    fn word(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let span = meta.path.span();
        let word = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
        match word.as_str() {
            "rename" => self.rename = Some(both(meta)?.value()),
            "rename_all" => self.rename_all = Some(style(meta)?),
            "rename_all_fields" => self.rename_all_fields = Some(style(meta)?),
            "default" => {
                self.default = true;
                if meta.input.peek(Token![=]) {
                    meta.value()?.parse::<LitStr>()?;
                }
            }
            "deny_unknown_fields" => self.deny_unknown_fields = Some(span),
            "transparent" => self.transparent = true,
            "tag" => self.tag = Some(text(meta)?.value()),
            "content" => self.content = Some(text(meta)?.value()),
            "untagged" => self.untagged = Some(span),
            "other" => self.other = Some(span),
            "skip" => (self.skip_serializing, self.skip_deserializing) = (true, true),
            "skip_serializing" => self.skip_serializing = true,
            "skip_deserializing" => self.skip_deserializing = true,
            "skip_serializing_if" => self.skip_serializing_if = Some(text(meta)?),
            "from" | "try_from" => self.from = Some(text(meta)?),
            "into" => self.into = Some(text(meta)?),
            "with" | "serialize_with" | "deserialize_with" => {
                text(meta)?;
                self.opaque = meta.path.get_ident().cloned();
            }
            "alias" => self.aliases.push(text(meta)?.value()),
            "flatten" => self.flatten = Some(span),
            "bound" if meta.input.peek(syn::token::Paren) => {
                meta.parse_nested_meta(|side| text(&side).map(drop))?;
            }
            "crate" | "bound" | "expecting" => drop(text(meta)?),
            _ => {
                let words =
                    format!("data can not follow `{word}`: leave it out, or keep this type out of cells and events");
                return Err(Error::new(span, words));
            }
        }
        Ok(())
    }

    /// Whether it is neither written nor read.
    pub fn skipped(&self) -> bool {
        self.skip_serializing && self.skip_deserializing
    }
}

fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    meta.value()?.parse()
}

/// The text of `word = ".."`, or of `word(serialize = "..", deserialize = "..")` where both are one.
fn both(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    if meta.input.peek(Token![=]) {
        return text(meta);
    }
    let inside;
    parenthesized!(inside in meta.input);
    let mut sides = Vec::new();
    while !inside.is_empty() {
        let side: Ident = inside.parse()?;
        inside.parse::<Token![=]>()?;
        let name: LitStr = inside.parse()?;
        sides.push((side.to_string(), name));
        if !inside.is_empty() {
            inside.parse::<Token![,]>()?;
        }
    }
    match sides.as_slice() {
        [(a, name), (b, other)] if a != b && name.value() == other.value() => Ok(name.clone()),
        _ => Err(Error::new(
            meta.path.span(),
            "what is written under one name could not be read under another: give one name for both, as `rename = \"..\"`",
        )),
    }
}

fn style(meta: &ParseNestedMeta<'_>) -> Result<Style> {
    let name = both(meta)?;
    Style::of(&name.value()).ok_or_else(|| Error::new_spanned(&name, "serde knows no such style"))
}
