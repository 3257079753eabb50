use charm_sdk::prelude::*;

#[data]
pub struct With {
    #[serde(with = "charm_sdk::serde::de")]
    name: String,
}

#[data]
pub struct TwoNames {
    #[serde(rename(serialize = "a", deserialize = "b"))]
    name: String,
}

#[data]
pub struct Unreadable {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

#[data]
pub struct ShortList(u8, #[serde(skip)] u8);

#[data]
#[serde(into = "u8")]
pub struct OneWay(u8);

#[data]
pub enum OneUntagged {
    A(u8),
    #[serde(untagged)]
    B(String),
}

#[data]
#[serde(tag = "kind")]
pub enum Others {
    A { a: u8 },
    #[serde(other)]
    B,
}

#[data]
#[serde(tag = "kind", deny_unknown_fields)]
pub struct OwnTag {
    a: u8,
}

#[data]
#[shape(string)]
pub struct Given {
    a: u32,
}

fn main() {}
