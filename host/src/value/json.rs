//! Values as DAG-JSON: what JSON has stands as it is, bytes are `{"/": {"bytes": BASE64}}` without padding, links
//! `{"/": CID}`. Each value has one text and each text that is read is one value, number for number: what would be
//! changed on the way is refused, with its place.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Data, at, cid};
use crate::{limits::VALUE_DEPTH_MAX, path::Segment};

/// A text that is no value, or a value that has no text. It names places and rules, never what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not JSON.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// JSON, but not a value of the data model, or a value that JSON has no text for.
    #[error("at {at}: {why}")]
    NotInModel {
        /// The place, as a path.
        at: String,
        /// The rule.
        why: &'static str,
    },
}

const RESERVED: &str = "a map whose only key is \"/\" stands for a link {\"/\": CID} or bytes {\"/\": {\"bytes\": BASE64}}: \
                        add a key or rename it";
const TOO_DEEP: &str = "nested deeper than 64 levels";
const TWICE: &str = "a key stands twice in the map";
const INTEGER: &str = "an integer over 64 bits: it is from -2^63 to 2^64-1, and a float is written as 1.0 or 1e3";
const FLOAT: &str = "a float of this size is not kept: it would become infinite or zero";
const NEGATIVE_ZERO: &str = "there is no negative zero: write 0";
const STRING: &str = "a string with half a surrogate pair";
const CID: &str = "{\"/\": …} holds no CID, or not in its usual form";
const BYTES: &str = "{\"/\": {\"bytes\": …}} holds no base64 without padding";

/// Reads a text.
pub fn read(text: &str) -> Result<Data, JsonError> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
    Reader { path: Vec::new() }.item(whole.get())
}

/// Checks that a value has a text of its own.
pub fn check(value: &Data) -> Result<(), JsonError> {
    fn check(value: &Data, path: &mut Vec<Segment>) -> Result<(), JsonError> {
        let mut inside = |step: Segment, item: &Data| {
            path.push(step);
            check(item, path)?;
            path.pop();
            Ok(())
        };
        match value {
            Data::List(items) => (0..).zip(items).try_for_each(|(index, item)| inside(Segment::Index(index), item)),
            Data::Map(entries) if entries.len() == 1 && entries.contains_key("/") => {
                Err(JsonError::NotInModel { at: at(path), why: RESERVED })
            }
            Data::Integer(integer) if !has_text(*integer) => Err(JsonError::NotInModel { at: at(path), why: INTEGER }),
            Data::Map(entries) => entries.iter().try_for_each(|(key, item)| inside(Segment::Key(key.clone()), item)),
            _ => Ok(()),
        }
    }
    check(value, &mut Vec::new())
}

/// Returns whether an integer fits into 64 bits, with a sign or without: other readers of JSON take it for what it is.
fn has_text(integer: i128) -> bool {
    (i64::MIN.into()..=u64::MAX.into()).contains(&integer)
}

/// Reads a text that is known to be JSON, part by part: each as it stands there.
struct Reader {
    path: Vec<Segment>,
}

impl Reader {
    fn refuse<T>(&self, why: &'static str) -> Result<T, JsonError> {
        Err(JsonError::NotInModel { at: at(&self.path), why })
    }

    fn item(&mut self, text: &str) -> Result<Data, JsonError> {
        if self.path.len() >= VALUE_DEPTH_MAX {
            return self.refuse(TOO_DEEP);
        }
        match text.as_bytes().first() {
            Some(b'{') => self.map(text),
            Some(b'[') => {
                let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else { return self.refuse(STRING) };
                let item = |(index, item): (u32, &RawValue)| self.inside(Segment::Index(index), item);
                Ok(Data::List((0..).zip(items).map(item).collect::<Result<_, _>>()?))
            }
            Some(b'"') => self.string(text).map(Data::String),
            Some(b't') => Ok(Data::Bool(true)),
            Some(b'f') => Ok(Data::Bool(false)),
            Some(b'n') => Ok(Data::Null),
            _ => self.number(text),
        }
    }

    fn inside(&mut self, step: Segment, item: &RawValue) -> Result<Data, JsonError> {
        self.path.push(step);
        let item = self.item(item.get())?;
        self.path.pop();
        Ok(item)
    }

    fn string(&self, text: &str) -> Result<String, JsonError> {
        serde_json::from_str(text).or_else(|_| self.refuse(STRING))
    }

    fn map(&mut self, text: &str) -> Result<Data, JsonError> {
        let Ok(Entries(entries)) = serde_json::from_str(text) else { return self.refuse(STRING) };
        if let [(key, only)] = &entries[..]
            && key == "/"
        {
            return self.reserved(only.get());
        }
        let mut map = BTreeMap::new();
        for (key, item) in entries {
            let item = self.inside(Segment::Key(key.clone()), item)?;
            if map.insert(key, item).is_some() {
                return self.refuse(TWICE);
            }
        }
        Ok(Data::Map(map))
    }

    /// Reads what the one key `/` holds.
    fn reserved(&self, text: &str) -> Result<Data, JsonError> {
        let mut only = Data::Null;
        if text.starts_with('"') {
            only = Data::String(self.string(text)?);
        } else if text.starts_with('{')
            && let Ok(Entries(entries)) = serde_json::from_str(text)
            && let [(key, bytes)] = &entries[..]
            && bytes.get().starts_with('"')
        {
            only = Data::Map([(key.clone(), Data::String(self.string(bytes.get())?))].into());
        }
        special(&only).or_else(|why| self.refuse(why))
    }

    fn number(&self, text: &str) -> Result<Data, JsonError> {
        if !text.contains(['.', 'e', 'E']) {
            return match text.parse() {
                Ok(0) if text.starts_with('-') => self.refuse(NEGATIVE_ZERO),
                Ok(integer) if has_text(integer) => Ok(Data::Integer(integer)),
                _ => self.refuse(INTEGER),
            };
        }
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let is_zero = !mantissa.contains(|digit: char| ('1'..='9').contains(&digit));
        match text.parse::<f64>() {
            Ok(float) if float.is_infinite() || (float == 0.0 && !is_zero) => self.refuse(FLOAT),
            Ok(float) if float == 0.0 && float.is_sign_negative() => self.refuse(NEGATIVE_ZERO),
            Ok(float) => Ok(Data::Float(float)),
            Err(_) => self.refuse(FLOAT),
        }
    }
}

/// The entries of a map in their order, twice where they stand twice.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<'a>, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// Returns what a map stands for whose only key is `/`, by what it holds.
fn special(only: &Data) -> Result<Data, &'static str> {
    match only {
        Data::String(text) => cid::from_text(text).map(Data::Link).ok_or(CID),
        Data::Map(inner) if inner.len() == 1 => match inner.get("bytes") {
            Some(Data::String(text)) => BASE64.decode(text).map(Data::Bytes).map_err(|_| BYTES),
            _ => Err(RESERVED),
        },
        _ => Err(RESERVED),
    }
}

/// A value that was checked to have a text, on its way to a format that people read; or one on its way from there.
pub struct Json<T>(pub T);

impl Serialize for Json<&Data> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Data::Null => serializer.serialize_unit(),
            Data::Bool(value) => serializer.serialize_bool(*value),
            Data::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => serializer.serialize_i64(value),
                (_, Ok(value)) => serializer.serialize_u64(value),
                _ => serializer.serialize_i128(*value),
            },
            Data::Float(value) => serializer.serialize_f64(*value),
            Data::String(text) => serializer.serialize_str(text),
            Data::Bytes(bytes) => serializer.collect_map([("/", BTreeMap::from([("bytes", BASE64.encode(bytes))]))]),
            Data::List(items) => serializer.collect_seq(items.iter().map(Json)),
            Data::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, Json(value)))),
            Data::Link(cid) => serializer.collect_map([("/", cid::to_text(cid))]),
        }
    }
}

/// How serde_json is asked for a part of its text as it stands there. Whoever does not know the name reads on as usual:
/// then integers over 64 bits may come as floats.
const AS_IT_STANDS: &str = "$serde_json::private::RawValue";

impl<'de> Deserialize<'de> for Json<Data> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json<Data>, D::Error> {
        deserializer.deserialize_newtype_struct(AS_IT_STANDS, Any).map(Json)
    }
}

struct Any;

/// A part of what another format than JSON text gives.
struct Part(Data);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Part, D::Error> {
        deserializer.deserialize_any(Any).map(Part)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Integer(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Data, E> {
        if has_text(value) { Ok(Data::Integer(value)) } else { Err(E::custom(INTEGER)) }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Data, E> {
        Ok(Data::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Data, E> {
        Ok(Data::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Data, A::Error> {
        let mut list = Vec::new();
        while let Some(Part(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Data::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Data, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == AS_IT_STANDS && map.is_empty() {
                return read(&entries.next_value::<String>()?).map_err(A::Error::custom);
            }
            let Part(item) = entries.next_value()?;
            if map.insert(key, item).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        match map.get("/") {
            Some(only) if map.len() == 1 => special(only).map_err(A::Error::custom),
            _ => Ok(Data::Map(map)),
        }
    }
}
