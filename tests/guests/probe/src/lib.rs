//! A guest that does what its event says, so that a test is plain data.
//!
//! Stream `run` takes `{steps: [step..], out?: "cell"}`; a step is the list `[op, args..]`, see `steps.rs`. With
//! `out` the list of all results is written to that own cell at the end. A refused host call rejects the event,
//! unless the step stands inside `["try", step]`. `note` and `on-receipt` append their event to the own cells
//! `notes` and `receipts`; when the tag of a receipt is a script too, `on-receipt` runs it. `describe` declares
//! more: a cell, a family and a stream with a shape, a private one of each, and a tag.

mod misbehave;
mod refused;
mod steps;
mod words;

use exports::charm::host::guest::Guest;
use ipld_core::ipld::Ipld;

wit_bindgen::generate!({ path: "../../../wit", world: "charm" });

struct Probe;

/// Cells that tests read from other charms; whatever else a script names is the charm's own.
const SHARED: [&str; 19] = [
    "x",
    "y",
    "z",
    "token",
    "table",
    "on-call",
    "nothing-there",
    "count",
    "doc",
    "fresh",
    "notes",
    "receipts",
    "out",
    "big",
    "text",
    "map",
    "asked",
    "hot",
    "version",
];

export!(Probe);

impl Guest for Probe {
    fn describe() -> Vec<u8> {
        let text = |text: &str| Ipld::String(text.into());
        let declare = |name: &str, shape: &str, mark: Option<&str>| {
            let mark = mark.map(|mark| (mark.to_owned(), Ipld::Bool(true)));
            (name.to_owned(), Ipld::Map(mark.into_iter().chain([("shape".to_owned(), text(shape))]).collect()))
        };
        let map = |entries: Vec<(String, Ipld)>| Ipld::Map(entries.into_iter().collect());
        let mut cells = vec![
            declare("shared", "any", None),
            declare("shaped", "{n: int}", None),
            declare("hidden", "any", Some("private")),
        ];
        cells.extend(SHARED.map(|name| declare(name, "any", None)));
        // The longest names there are, of what takes most room in JSON and of what is escaped.
        let escaped: String = format!("{}é", "\"'\\<".repeat(32)).chars().skip(2).collect();
        cells.extend(["\"\\".repeat(64), "n".repeat(128), escaped].map(|name| declare(&name, "any", None)));
        let families = vec![
            declare("items", "any", None),
            declare("sized", "{n: int}", None),
            declare("drawer", "any", Some("private")),
        ];
        let streams = vec![
            declare("run", "any", None),
            declare("note", "any", None),
            declare("on-receipt", "any", Some("receipts")),
            declare("shaped", "{n: int}", None),
            declare("inner", "any", Some("private")),
        ];
        words::encode(&map(vec![
            ("tags".to_owned(), Ipld::List(vec![text("#probe")])),
            ("cells".to_owned(), map(cells)),
            ("families".to_owned(), map(families)),
            ("streams".to_owned(), map(streams)),
        ]))
    }

    fn handle(stream: String, event: Vec<u8>) -> Result<(), String> {
        std::panic::set_hook(Box::new(|panic| charm::host::log::panicked(&panic.to_string())));
        let result = match stream.as_str() {
            "run" => words::decode(&event).and_then(|script| steps::run(&script)),
            "note" | "inner" => steps::append("notes", &event),
            "on-receipt" => steps::on_receipt(&event),
            _ => Ok(()),
        };
        result.map_err(|failed| failed.to_string())
    }
}
