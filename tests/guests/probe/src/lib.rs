//! A guest that does what its event says, so that a test is plain data.
//!
//! Stream `run` takes `{steps: [step..], out?: "cell"}`; a step is the list `[op, args..]`, see `steps.rs`. With
//! `out` the list of all results is written to that own cell at the end. A refused host call rejects the event,
//! unless the step stands inside `["try", step]`. `note` and `on-receipt` append their event to the own cells
//! `notes` and `receipts`; when the tag of a receipt is a script too, `on-receipt` runs it. `describe` declares
//! more: a cell and a stream with a shape, and a tag.

mod misbehave;
mod refused;
mod steps;
mod words;

use ipld_core::ipld::Ipld;
use refused::Failed;

wit_bindgen::generate!({ path: "../../../wit", world: "charm" });

struct Probe;

export!(Probe);

impl Guest for Probe {
    fn describe() -> Descriptor {
        let declare = |name: &str, shape: &str| Declaration { name: name.into(), shape: shape.into() };
        Descriptor {
            tags: vec!["#probe".into()],
            cells: vec![declare("shared", "any"), declare("shaped", "{n: int}")],
            streams: vec![
                declare("run", "any"),
                declare("note", "any"),
                declare("on-receipt", "any"),
                declare("shaped", "{n: int}"),
            ],
        }
    }

    fn handle(stream: String, event: Vec<u8>) -> Result<(), String> {
        std::panic::set_hook(Box::new(|panic| charm::host::log::panicked(&panic.to_string())));
        let result = match stream.as_str() {
            "run" => words::decode(&event).and_then(|script| run(&script)),
            "note" => steps::append("notes", &event),
            "on-receipt" => on_receipt(&event),
            _ => Ok(()),
        };
        result.map_err(|failed| failed.to_string())
    }
}

fn run(script: &Ipld) -> Result<(), Failed> {
    let steps = words::list(words::field(script, "steps")?)?;
    let mut results = Vec::new();
    for step in steps {
        results.push(steps::perform(step)?);
    }
    match words::optional(script, "out") {
        Some(out) => steps::write(words::text(out)?, &Ipld::List(results)),
        None => Ok(()),
    }
}

fn on_receipt(event: &[u8]) -> Result<(), Failed> {
    steps::append("receipts", event)?;
    let event = words::decode(event)?;
    match words::optional(&event, "tag") {
        Some(script) if words::optional(script, "steps").is_some() => run(script),
        _ => Ok(()),
    }
}
