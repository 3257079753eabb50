//! What goes out with a commit: events, and the receipts that come back as events (S4-S6).

use ipld_core::ipld::Ipld;

use crate::{
    did::Did,
    event::{Event, Mint, OnCommit},
    receipt::{Outcome, Receipt},
    value::Value,
};

/// An event that goes out with a commit.
pub struct Draft {
    pub event: Event,
    pub refused: Option<Outcome>,
    /// The descriptor that it was checked against, 0 for none: see `directory::Entry`.
    pub fits: u64,
}

impl Draft {
    /// Makes the event that brings a receipt back (S6). Its sender is the charm itself; the mark `receipt_of`
    /// is given here alone, so a receipt cannot be forged.
    pub fn receipt(mint: &Mint, to: Did, on_commit: &OnCommit, receipt: &Receipt) -> Draft {
        let event = Event {
            id: mint.receipt_of(&receipt.id),
            sender: to,
            to,
            stream: on_commit.stream.clone(),
            payload: receipt_payload(receipt, &on_commit.tag),
            on_commit: None,
            receipt_of: Some(receipt.id),
            supplied: false,
            awaited: false,
            deliver_after: None,
            expires_at: None,
        };
        Draft { event, refused: None, fits: 0 }
    }
}

/// `{receipt: {id, outcome, commit, message}, tag}` (`wit/streams.wit`).
fn receipt_payload(receipt: &Receipt, tag: &Value) -> Value {
    let entry = |key: &str, value: Ipld| (key.to_owned(), value);
    let text = |text: &Option<String>| text.clone().map_or(Ipld::Null, Ipld::String);
    let status = Ipld::Map(
        [
            entry("id", Ipld::String(receipt.id.to_string())),
            entry("outcome", Ipld::String(receipt.outcome.name().to_owned())),
            entry("commit", receipt.commit.map_or(Ipld::Null, |seq| Ipld::Integer(seq.into()))),
            entry("message", text(&receipt.message)),
        ]
        .into(),
    );
    let tag: Ipld = tag.decode().unwrap_or(Ipld::Null);
    let whole = Ipld::Map([entry("receipt", status), entry("tag", tag)].into());
    Value::encode(&whole).expect("text, integers and a checked tag are in the data model")
}
