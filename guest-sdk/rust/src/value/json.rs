//! JSON as the bytes that values are read from: one reader for both. Not canonical: order and repeated keys stay.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Turns one JSON text into DAG-CBOR. The error has the words of the parser, which quote nothing.
pub(super) fn to_cbor(text: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut json = serde_json::Deserializer::from_slice(text);
    Writer(&mut bytes).deserialize(&mut json)?;
    json.end()?;
    Ok(bytes)
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    /// An item with an argument of 64 bits.
    fn head(&mut self, major: u8, argument: u64) {
        self.0.push(major << 5 | 27);
        self.0.extend(argument.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.head(3, text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    /// A list or map, whose number of entries is known at its end.
    fn container<E>(mut self, major: u8, mut next: impl FnMut(&mut Vec<u8>) -> Result<bool, E>) -> Result<(), E> {
        self.head(major, 0);
        let (start, mut entries) = (self.0.len(), 0u64);
        while next(self.0)? {
            entries += 1;
        }
        self.0[start - 8..start].copy_from_slice(&entries.to_be_bytes());
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.0.push(0xf6);
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.0.push(0xf4 + u8::from(value));
        Ok(())
    }

    fn visit_u64<E: de::Error>(mut self, value: u64) -> Result<(), E> {
        self.head(0, value);
        Ok(())
    }

    fn visit_i64<E: de::Error>(mut self, value: i64) -> Result<(), E> {
        match u64::try_from(value) {
            Ok(value) => self.head(0, value),
            Err(_) => self.head(1, !value as u64),
        }
        Ok(())
    }

    fn visit_f64<E: de::Error>(mut self, value: f64) -> Result<(), E> {
        self.head(7, value.to_bits());
        Ok(())
    }

    fn visit_str<E: de::Error>(mut self, value: &str) -> Result<(), E> {
        self.text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.container(4, |to| Ok(list.next_element_seed(Writer(to))?.is_some()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.container(5, |to| {
            if map.next_key_seed(Writer(to))?.is_none() {
                return Ok(false);
            }
            map.next_value_seed(Writer(to))?;
            Ok(true)
        })
    }
}
