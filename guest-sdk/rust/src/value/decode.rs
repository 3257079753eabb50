//! Reads DAG-CBOR into Rust types, and tells where a value does not fit. As serde does, but that whole numbers and
//! numbers of greater precision are taken where a float is wanted.

use ipld_core::cid::serde::CID_SERDE_PRIVATE_IDENTIFIER as LINK;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::misfit::Misfit;
use crate::Segment;

/// Bytes being read. `readable` is what serde calls human readable: text was there first.
pub(super) struct Reader<'de> {
    bytes: &'de [u8],
    at: usize,
    readable: bool,
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8], readable: bool) -> Self {
        Self { bytes, at: 0, readable }
    }

    /// Refuses what is left.
    pub(super) fn end(&self) -> Result<(), Misfit> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(malformed()) }
    }

    /// The major type of the next item, and what its first byte says beside it.
    fn peek(&self) -> Result<(u8, u8), Misfit> {
        self.bytes.get(self.at).map(|first| (first >> 5, first & 0x1f)).ok_or_else(malformed)
    }

    /// Takes the head of an item: its argument.
    fn argument(&mut self) -> Result<u64, Misfit> {
        let (_, short) = self.peek()?;
        let size = match short {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            short => {
                self.at += 1;
                return if short < 24 { Ok(short.into()) } else { Err(malformed()) };
            }
        };
        self.at += 1;
        Ok(self.take(size)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn take(&mut self, length: u64) -> Result<&'de [u8], Misfit> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or_else(malformed)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn string(&mut self) -> Result<&'de str, Misfit> {
        let (major, _) = self.peek()?;
        if major != 3 {
            return Err(malformed());
        }
        let length = self.argument()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| malformed())
    }

    /// A negative integer that 64 bits with a sign do not hold, as a float. None for anything else.
    fn far_below_zero(&self) -> Option<f64> {
        let mut ahead = Reader { ..*self };
        let (major, _) = self.peek().ok()?;
        let argument = ahead.argument().ok()?;
        (major == 1 && i64::try_from(argument).is_err()).then(|| -1.0 - argument as f64)
    }

    fn skip(&mut self) -> Result<(), Misfit> {
        let mut items = 1u64;
        while items > 0 {
            items -= 1;
            let (major, _) = self.peek()?;
            let argument = self.argument()?;
            let inside = match major {
                2 | 3 => {
                    self.take(argument)?;
                    0
                }
                4 => argument,
                5 => argument.saturating_mul(2),
                6 => 1,
                _ => 0,
            };
            items = items.saturating_add(inside);
        }
        Ok(())
    }

    fn list<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Misfit> {
        let length = self.argument()?;
        let mut items = Entries { from: self, left: length, index: 0, key: "" };
        let value = visitor.visit_seq(&mut items)?;
        if items.left > 0 {
            return Err(Misfit::new(format!("needed a list of {}, found one of {length}", items.index)));
        }
        Ok(value)
    }

    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Misfit> {
        let entries = self.argument()?;
        let mut entries = Entries { from: self, left: entries, index: 0, key: "" };
        let value = visitor.visit_map(&mut entries)?;
        if entries.left > 0 { Err(Misfit::new("needed fewer keys".into())) } else { Ok(value) }
    }
}

fn malformed() -> Misfit {
    Misfit::new("malformed DAG-CBOR".into())
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let (major, short) = self.peek()?;
        match major {
            0 => visitor.visit_u64(self.argument()?),
            1 => {
                let value = -1 - i128::from(self.argument()?);
                match i64::try_from(value) {
                    Ok(value) => visitor.visit_i64(value),
                    Err(_) => visitor.visit_i128(value),
                }
            }
            2 => {
                let length = self.argument()?;
                visitor.visit_borrowed_bytes(self.take(length)?)
            }
            3 => visitor.visit_borrowed_str(self.string()?),
            4 => self.list(visitor),
            5 => self.map(visitor),
            6 => {
                self.argument()?;
                visitor.visit_newtype_struct(Link(self))
            }
            _ => {
                let argument = self.argument()?;
                match short {
                    20 | 21 => visitor.visit_bool(short == 21),
                    22 => visitor.visit_unit(),
                    27 => visitor.visit_f64(f64::from_bits(argument)),
                    _ => Err(malformed()),
                }
            }
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.far_below_zero() {
            Some(value) => {
                self.skip()?;
                visitor.visit_f64(value)
            }
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.peek()? != (7, 27) {
            return self.deserialize_f64(visitor);
        }
        let value = f64::from_bits(self.argument()?) as f32; // the nearest, as serde_json rounds
        if value.is_finite() {
            return visitor.visit_f32(value);
        }
        Err(Misfit::new("needed f32, found float out of range".into()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.peek()? == (7, 22) {
            self.at += 1;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        if name == LINK {
            return match self.peek()? {
                (6, _) => self.deserialize_any(visitor),
                _ => Err(Misfit::new("needed a link".into())),
            };
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.peek()? {
            (3, _) => visitor.visit_enum(BorrowedStrDeserializer::new(self.string()?)),
            (5, _) => match self.argument()? {
                1 => visitor.visit_enum(Variant(self)),
                keys => Err(Misfit::new(format!("needed one variant of {name}, found a map of {keys} keys"))),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.skip()?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        self.readable
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

/// What is left of a list or map.
struct Entries<'a, 'de> {
    from: &'a mut Reader<'de>,
    left: u64,
    /// How many were taken.
    index: u64,
    /// The last key taken.
    key: &'de str,
}

impl<'de> SeqAccess<'de> for Entries<'_, 'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        if self.left == 0 {
            return Ok(None);
        }
        let step = Segment::Index(self.index as u32);
        (self.left, self.index) = (self.left - 1, self.index + 1);
        seed.deserialize(&mut *self.from).map(Some).map_err(|misfit| misfit.at(step))
    }

    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left).ok()
    }
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.key = self.from.string()?;
        seed.deserialize(Key(self.key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Misfit> {
        seed.deserialize(&mut *self.from).map_err(|misfit| misfit.at_key(self.key))
    }

    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left).ok()
    }
}

/// A key of a map. A number is read from its text, as in JSON.
struct Key<'de>(&'de str);

macro_rules! numbers {
    ($($method:ident $visit:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match self.0.parse() {
                Ok(number) => visitor.$visit(number),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )+};
}

impl<'de> de::Deserializer<'de> for Key<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_borrowed_str(self.0)
    }

    numbers! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i64 deserialize_i16 visit_i64 deserialize_i32 visit_i64 deserialize_i64 visit_i64
        deserialize_u8 visit_u64 deserialize_u16 visit_u64 deserialize_u32 visit_u64 deserialize_u64 visit_u64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.0))
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

/// A variant that carries something: a map of one key.
struct Variant<'a, 'de>(&'a mut Reader<'de>);

impl<'a, 'de> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = Misfit;
    type Variant = Content<'a, 'de>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), Misfit> {
        let key = self.0.string()?;
        Ok((seed.deserialize(Key(key))?, Content { from: self.0, key }))
    }
}

/// What a known variant carries.
struct Content<'a, 'de> {
    from: &'a mut Reader<'de>,
    key: &'de str,
}

impl<'de> VariantAccess<'de> for Content<'_, 'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        <()>::deserialize(self.from).map_err(|misfit| misfit.at_key(self.key))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        seed.deserialize(self.from).map_err(|misfit| misfit.at_key(self.key))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Misfit> {
        let read = de::Deserializer::deserialize_tuple(self.from, length, visitor);
        read.map_err(|misfit| misfit.at_key(self.key))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Misfit> {
        let read = de::Deserializer::deserialize_struct(self.from, "", fields, visitor);
        read.map_err(|misfit| misfit.at_key(self.key))
    }
}

/// The bytes of a link, without the zero that stands before them.
struct Link<'a, 'de>(&'a mut Reader<'de>);

impl<'de> de::Deserializer<'de> for Link<'_, 'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let (major, _) = self.0.peek()?;
        let length = self.0.argument()?;
        match self.0.take(length)? {
            [0, link @ ..] if major == 2 => visitor.visit_borrowed_bytes(link),
            _ => Err(malformed()),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}
