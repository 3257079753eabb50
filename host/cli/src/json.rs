//! Values as DAG-JSON: what JSON has stands as it is, bytes are `{"/": {"bytes": BASE64}}` without padding,
//! links `{"/": CID}`.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use charm_host::Value;
use ipld_core::{cid::Cid, ipld::Ipld};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};

use crate::failure::Failure;

/// A value on its way to or from JSON text.
#[derive(Clone, Debug, PartialEq)]
pub struct Json(Ipld);

impl Json {
    /// Reads JSON text.
    ///
    /// # Errors
    /// `usage` says where the text is wrong.
    pub fn parse(text: &str) -> Result<Json, Failure> {
        Json::check(text)?;
        serde_json::from_str(text).map_err(|error| Failure::usage(format!("event is not JSON: {error}")))
    }

    /// Checks that JSON text has no integer that a reader would make a float of.
    ///
    /// # Errors
    /// `usage` names it.
    pub fn check(text: &str) -> Result<(), Failure> {
        let Some(digits) = oversized(text) else { return Ok(()) };
        let shown: String = digits.chars().take(32).collect();
        Err(Failure::usage(format!("event is not a value: integer {shown} does not fit into 64 bits")))
    }

    /// Encodes the value.
    ///
    /// # Errors
    /// `usage` for what the data model does not hold.
    pub fn encode(&self) -> Result<Value, Failure> {
        Value::encode(&self.0).map_err(|why| Failure::usage(format!("event is not a value: {why}")))
    }

    /// Decodes a value.
    ///
    /// # Errors
    /// When the value is not what the host checks all values to be.
    pub fn decode(value: &Value) -> Result<Json, Failure> {
        value.decode().map(Json).map_err(|why| Failure::host(format!("value does not decode: {why}: run charm verify")))
    }
}

/// Finds an integer that JSON readers would silently turn into a float.
fn oversized(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        rest = &rest[at..];
        if let Some(string) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = string.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            rest = end.map_or("", |end| &string[end + 1..]);
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(rest.len());
        let number = &rest[..end];
        let digits = number.strip_prefix('-').unwrap_or(number);
        let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
            return Some(number);
        }
        rest = &rest[end.max(1)..];
    }
    None
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(&self.0, serializer)
    }
}

fn write<S: Serializer>(value: &Ipld, serializer: S) -> Result<S::Ok, S::Error> {
    struct Node<'a>(&'a Ipld);
    impl Serialize for Node<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            write(self.0, serializer)
        }
    }
    match value {
        Ipld::Null => serializer.serialize_unit(),
        Ipld::Bool(value) => serializer.serialize_bool(*value),
        Ipld::Integer(value) => serializer.serialize_i128(*value),
        Ipld::Float(value) => serializer.serialize_f64(*value),
        Ipld::String(text) => serializer.serialize_str(text),
        Ipld::Bytes(bytes) => {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry("/", &BTreeMap::from([("bytes", BASE64.encode(bytes))]))?;
            map.end()
        }
        Ipld::List(items) => serializer.collect_seq(items.iter().map(Node)),
        Ipld::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, Node(value)))),
        Ipld::Link(cid) => {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry("/", &cid.to_string())?;
            map.end()
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(Reader).map(Json)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Ipld;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Ipld, E> {
        Ok(Ipld::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ipld, E> {
        Ok(Ipld::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ipld, E> {
        Ok(Ipld::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ipld, E> {
        Ok(Ipld::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ipld, E> {
        Ok(Ipld::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Ipld, E> {
        Ok(Ipld::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ipld, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Ipld::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Ipld, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, Json(value))) = entries.next_entry::<String, Json>()? {
            if let Some(_twice) = map.insert(key, value) {
                return Err(de::Error::custom("a key stands twice in one map"));
            }
        }
        if map.len() != 1 {
            return Ok(Ipld::Map(map));
        }
        match map.get("/") {
            None => Ok(Ipld::Map(map)),
            Some(Ipld::String(cid)) => {
                Cid::try_from(cid.as_str()).map(Ipld::Link).map_err(|_| de::Error::custom("{\"/\": …} is not a CID"))
            }
            Some(Ipld::Map(inner)) if inner.len() == 1 => match inner.get("bytes") {
                Some(Ipld::String(text)) => BASE64
                    .decode(text)
                    .map(Ipld::Bytes)
                    .map_err(|_| de::Error::custom("{\"/\": {\"bytes\": …}} is not base64 without padding")),
                _ => Err(de::Error::custom(RESERVED)),
            },
            Some(_) => Err(de::Error::custom(RESERVED)),
        }
    }
}

const RESERVED: &str = "a map with the one key \"/\" is a link {\"/\": CID} or bytes {\"/\": {\"bytes\": BASE64}}";

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        let value = Json::parse(text).expect(text).encode().expect(text);
        serde_json::to_string(&Json::decode(&value).expect(text)).expect(text)
    }

    #[test]
    fn values_come_back_as_they_went() {
        for text in [
            "null",
            "[true,false,0,-1,18446744073709551615,-9223372036854775808]",
            "[1.0,-0.5,1e+300]",
            r#"{"a":{"b":["\u001b[31m",""]}}"#,
            r#"{"/":{"bytes":"AAECAw"}}"#,
            r#"{"/":"bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"}"#,
            r#"{"/":1,"a":2}"#,
        ] {
            assert_eq!(round(text), text);
        }
    }

    #[test]
    fn what_is_no_value_is_refused_and_never_changed() {
        for text in [
            "",
            "{",
            "1 2",
            "18446744073709551616",
            r#"{"\"": [1, -9223372036854775809]}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"/":"no cid"}"#,
            r#"{"/":{"bytes":"AA=="}}"#,
            r#"{"/":1}"#,
            "1e999",
            &"[".repeat(70),
        ] {
            assert!(Json::parse(text).and_then(|json| json.encode()).is_err(), "{text}");
        }
        assert!(Json::parse(&format!("{}{}", "[".repeat(70), "]".repeat(70))).expect("JSON").encode().is_err());
        assert_eq!(round("\"99999999999999999999\""), "\"99999999999999999999\"");
    }
}
