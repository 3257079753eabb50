//! The generated bindings of `wit/`: the only `bindgen!` of the host.
#![allow(missing_docs, unused_qualifications, clippy::all, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "charm",
    imports: { default: trappable },
    exports: { default: async },
    trappable_error_type: {
        "charm:host/types.error" => super::calls::CallError,
    },
    with: {
        "charm:host/cells.cell": super::ctx::CellHandle,
        "charm:host/streams.stream": super::ctx::StreamHandle,
    },
});
