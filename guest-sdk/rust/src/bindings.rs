//! The bindings of `wit/`, and the component made of a charm.
#![allow(unsafe_code, reason = "generated code crosses the wasm boundary")]
#![allow(missing_docs, clippy::all, unused_qualifications, reason = "generated code")]

use std::marker::PhantomData;

use crate::Handlers;
use crate::value::cut;

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

impl<C: Handlers> Guest for Component<C> {
    fn describe() -> Descriptor {
        report_panics();
        Descriptor {
            tags: C::TAGS.iter().map(|&tag| tag.into()).collect(),
            cells: declarations(C::cells()),
            streams: declarations(C::streams()),
        }
    }

    fn handle(stream: String, event: Vec<u8>) -> Result<(), String> {
        report_panics();
        C::open().handle(&stream, &event).map_err(|error| cut(&error.to_string(), REJECTION_BYTES_MAX).into())
    }
}

pub(crate) fn declarations(from: Vec<crate::Declaration>) -> Vec<Declaration> {
    from.into_iter().map(|crate::Declaration { name, shape }| Declaration { name, shape }).collect()
}

/// Hands the text of a panic to the host: the trap that follows has no words.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| charm::host::log::panicked(&panic.to_string())));
}
