//! Byte strings in groups: serde alone writes them as lists of numbers, and knows no array of 64.

use serde::{Serialize, Serializer, de::Error};

/// Borrowed bytes.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

fn array<E: Error>(bytes: &[u8]) -> Result<[u8; 64], E> {
    bytes.try_into().map_err(|_| E::custom("a signature has 64 bytes"))
}

/// A record.
pub mod record {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Arc::from)
    }
}

/// A signature that may be there.
pub mod seal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::bytes::{Bytes, array};

    pub fn serialize<S: Serializer>(seal: &Option<[u8; 64]>, serializer: S) -> Result<S::Ok, S::Error> {
        seal.as_ref().map(|bytes| Bytes(bytes)).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 64]>, D::Error> {
        Option::<&[u8]>::deserialize(deserializer)?.map(array).transpose()
    }
}

/// A signature and what it is of, that may be there.
pub mod optional {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::bytes::{Bytes, array};

    pub fn serialize<S: Serializer>(signed: &Option<(u64, [u8; 64])>, serializer: S) -> Result<S::Ok, S::Error> {
        signed.as_ref().map(|(seq, bytes)| (seq, Bytes(bytes))).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(u64, [u8; 64])>, D::Error> {
        let signed: Option<(u64, &[u8])> = Option::deserialize(deserializer)?;
        signed.map(|(seq, bytes)| Ok((seq, array(bytes)?))).transpose()
    }
}

/// Components by hash, those that go without bytes.
pub mod components {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::{bytes::Bytes, component::Component};

    type Row = ([u8; 32], Option<Component>);

    pub fn serialize<S: Serializer>(rows: &[Row], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rows.iter().map(|(hash, row)| (hash, row.as_ref().map(|row| Bytes(row.bytes())))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Row>, D::Error> {
        let rows: Vec<([u8; 32], Option<&[u8]>)> = Vec::deserialize(deserializer)?;
        Ok(rows.into_iter().map(|(hash, bytes)| (hash, bytes.map(|bytes| bytes.to_vec().into()))).collect())
    }
}

/// Signatures, whose they are and of what.
pub mod listed {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::{
        bytes::{Bytes, array},
        did::Did,
    };

    type Signed = (Did, u64, [u8; 64]);

    pub fn serialize<S: Serializer>(signed: &[Signed], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(signed.iter().map(|(did, seq, bytes)| (did, seq, Bytes(bytes))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Signed>, D::Error> {
        let signed: Vec<(Did, u64, &[u8])> = Vec::deserialize(deserializer)?;
        signed.into_iter().map(|(did, seq, bytes)| Ok((did, seq, array(bytes)?))).collect()
    }
}
