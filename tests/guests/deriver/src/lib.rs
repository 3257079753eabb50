//! A probe with the streams `run`, `note` and `on-receipt`, and with derived cells: `d0` to `d199` of any shape, `whole` of shape `int` and the private `inner`. Each is computed by
//! the step that stands in the own cell `of-d0` and so on, in the words of the probe (`../probe/src/steps.rs`); without one it is
//! null. The members of some families are derived too: `times:3` is three times the number in `x`, `down:3` is
//! `down:4` as long as that is below `x`, each of `wide` is what `doc` holds, and each of `m` is computed by the step in
//! `of-m`, in which `["key"]` is its key and `["kin", owner or null, family, path]` reads the member of that key. So what a cell is derived from is data, and a derivation can try whatever a handler can.

#[path = "../../probe/src/misbehave.rs"]
mod misbehave;
#[path = "../../probe/src/refused.rs"]
mod refused;
#[path = "../../probe/src/steps.rs"]
mod steps;
#[path = "../../probe/src/words.rs"]
mod words;

use exports::charm::host::{derivations, guest};
use ipld_core::ipld::Ipld;

wit_bindgen::generate!({ path: "../../../wit", world: "deriving-charm" });

struct Deriver;

/// Cells that others may read.
const SHARED: [&str; 11] = ["x", "y", "z", "pick", "out", "doc", "k", "l", "notes", "count", "table"];
/// Families whose members are derived.
const DERIVED: [&str; 4] = ["down", "times", "wide", "m"];

export!(Deriver);

impl guest::Guest for Deriver {
    fn describe() -> Vec<u8> {
        let text = |text: &str| Ipld::String(text.into());
        let map = |entries: Vec<(String, Ipld)>| Ipld::Map(entries.into_iter().collect());
        let declare = |name: String, shape: &str, marks: &[&str]| {
            let marks = marks.iter().map(|mark| ((*mark).to_owned(), Ipld::Bool(true)));
            (name, Ipld::Map(marks.chain([("shape".to_owned(), text(shape))]).collect()))
        };
        let mut cells: Vec<_> = SHARED.map(|name| declare(name.to_owned(), "any", &[])).into();
        cells.extend((0..200).map(|number| declare(format!("d{number}"), "any", &["derived"])));
        cells.push(declare("whole".to_owned(), "int", &["derived"]));
        cells.push(declare("inner".to_owned(), "any", &["derived", "private"]));
        let mut families: Vec<_> = DERIVED.map(|name| declare(name.to_owned(), "any", &["derived"])).into();
        families.extend(["f", "items"].map(|name| declare(name.to_owned(), "any", &[])));
        let streams = vec![
            declare("run".to_owned(), "any", &[]),
            declare("note".to_owned(), "any", &[]),
            declare("on-receipt".to_owned(), "any", &["receipts"]),
        ];
        words::encode(&map(vec![
            ("tags".to_owned(), Ipld::List(vec![text("#deriver")])),
            ("cells".to_owned(), map(cells)),
            ("families".to_owned(), map(families)),
            ("streams".to_owned(), map(streams)),
        ]))
    }

    fn handle(stream: String, event: Vec<u8>) -> Result<(), String> {
        std::panic::set_hook(Box::new(|panic| charm::host::log::panicked(&panic.to_string())));
        let result = match stream.as_str() {
            "note" => steps::append("notes", &event),
            "on-receipt" => steps::on_receipt(&event),
            _ => words::decode(&event).and_then(|script| steps::run(&script)),
        };
        result.map_err(|failed| failed.to_string())
    }
}

impl derivations::Guest for Deriver {
    fn derive(name: String) -> Result<Vec<u8>, String> {
        std::panic::set_hook(Box::new(|panic| charm::host::log::panicked(&panic.to_string())));
        let derived = || {
            let (family, key) = name.split_once(':').unwrap_or((&name, ""));
            if family != "m" && !key.is_empty() {
                return member(family, key);
            }
            let step = charm::host::cells::open(None, &format!("of-{family}"))?.get(&[])?;
            step.map_or(Ok(Ipld::Null), |step| steps::perform(&of_key(words::decode(&step)?, key)))
        };
        derived().map(|value| words::encode(&value)).map_err(|failed: refused::Failed| failed.to_string())
    }
}

/// Returns the step for the member of that key.
fn of_key(step: Ipld, key: &str) -> Ipld {
    let Ipld::List(parts) = step else { return step };
    let text = |text: &str| Ipld::String(text.to_owned());
    match parts.as_slice() {
        [Ipld::String(word)] if word == "key" => Ipld::List(vec![text("value"), text(key)]),
        [Ipld::String(word), owner, Ipld::String(family), path] if word == "kin" => {
            let member = text(&format!("{family}:{key}"));
            let cell = if *owner == Ipld::Null { member } else { Ipld::List(vec![owner.clone(), member]) };
            Ipld::List(vec![text("get"), cell, path.clone()])
        }
        _ => Ipld::List(parts.into_iter().map(|part| of_key(part, key)).collect()),
    }
}

/// Derives a member of a family.
fn member(family: &str, key: &str) -> Result<Ipld, refused::Failed> {
    let get = |cell: &str| steps::perform(&Ipld::List(vec!["get".into(), cell.into(), Ipld::List(vec![])]));
    let key: i128 = key.parse().map_err(|_| refused::Failed::script("no number"))?;
    match family {
        "times" => Ok(Ipld::Integer(steps::integer(&get("x")?) * key)),
        "down" if key < steps::integer(&get("x")?) => get(&format!("down:{}", key + 1)),
        "down" => Ok(Ipld::Integer(key)),
        _ => get("doc"),
    }
}
