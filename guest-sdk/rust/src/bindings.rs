//! The bindings of `wit/`, and the component made of a charm.
#![allow(unsafe_code, reason = "generated code crosses the wasm boundary")]
#![allow(missing_docs, clippy::all, unused_qualifications, reason = "generated code")]

use std::marker::PhantomData;

use crate::charm::ended;
use crate::value::{Value, cut, encode};
use crate::{Declaration, Handlers};

wit_bindgen::generate!({
    path: "../../wit",
    world: "charm",
    pub_export_macro: true,
    default_bindings_module: "charm_sdk::bindings",
});

/// The most bytes of the text that rejects an event (T7).
const REJECTION_BYTES_MAX: usize = 1024;

/// The exports of the charm `C`.
pub struct Component<C>(PhantomData<C>);

impl<C: Handlers> exports::charm::host::guest::Guest for Component<C> {
    fn describe() -> Vec<u8> {
        report_panics();
        let tags = C::TAGS.iter().map(|&tag| Value::String(tag.into())).collect();
        let all = C::cells().into_iter().chain(C::derived());
        let (families, cells): (Vec<_>, Vec<_>) = all.partition(|cell| cell.family);
        let families = if families.is_empty() { None } else { Some(("families", told(families))) };
        let told = [("tags", Value::List(tags)), ("cells", told(cells)), ("streams", told(C::streams()))];
        let told = told.into_iter().chain(families);
        // Without the error's `Debug`, which no charm needs to carry.
        encode(&map(told)).unwrap_or_else(|_| unreachable!("texts and marks are in the data model"))
    }

    fn handle(stream: String, event: Vec<u8>) -> Result<(), String> {
        report_panics();
        ended(C::open().handle(&stream, &event)).map_err(|error| cut(&error.to_string(), REJECTION_BYTES_MAX).into())
    }
}

/// What a charm exports that computes cells too: beside `guest`, so that others do not.
pub mod deriving {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package charm:sdk;
            world deriving {
                export charm:host/derivations@0.2.0;
            }
        ",
        world: "charm:sdk/deriving",
        pub_export_macro: true,
        default_bindings_module: "charm_sdk::bindings::deriving",
        with: { "charm:host/types@0.2.0": crate::bindings::charm::host::types },
    });

    impl<C: super::Handlers> exports::charm::host::derivations::Guest for super::Component<C> {
        fn derive(name: String) -> Result<Vec<u8>, String> {
            super::report_panics();
            C::open().derive(&name).map_err(|error| super::cut(&error.to_string(), super::REJECTION_BYTES_MAX).into())
        }
    }
}

/// Declarations as the description tells them (`wit/README.md`).
fn told(from: Vec<Declaration>) -> Value {
    let told = |Declaration { name, shape, private, receipts, derived, .. }| {
        let marks =
            [("private", private), ("receipts", receipts), ("derived", derived)].into_iter().filter(|(_, mark)| *mark);
        let marks = marks.map(|(key, mark)| (key, Value::Bool(mark)));
        (name, map(marks.chain([("shape", Value::String(shape))])))
    };
    Value::Map(from.into_iter().map(told).collect())
}

fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// Hands the text of a panic to the host: the trap that follows has no words.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.payload_as_str().unwrap_or("without words");
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        charm::host::log::panicked(&format!("{words}{}", place.unwrap_or_default()));
    }));
}
