//! The guest of the chapter isolation: reads cells of anyone, writes its own, and tells what it read. Small and
//! without a decoder, so that a million turns are cheap.
//!
//! The event of the one stream `run` is a text, one step a line, words apart by a blank:
//!
//! ```text
//! number                     of the transaction; the first line
//! get did cell [key]         reads a value, whole or at a key
//! set number cell [key]      writes an own cell
//! push number cell [key]     appends to the list there
//! wait url                   lets others run
//! send did event             the event has `;` for line ends
//! reject | trap              ends so
//! ```
//!
//! At the end the own cell `out` holds the list of the number and every value read.

use exports::charm::host::guest::Guest;

use charm::host::{
    cells::{self, Cell},
    http, streams,
    types::{Error, Segment},
};

wit_bindgen::generate!({ path: "../../../wit", world: "charm" });

struct Isolation;

export!(Isolation);

/// Cells of each kind that others may be granted to read.
const CELLS: usize = 120;

/// Heads of values in CBOR.
const INTEGER: u8 = 0x00;
const TEXT: u8 = 0x60;
const LIST: u8 = 0x80;
const MAP: u8 = 0xa0;
const NULL: u8 = 0xf6;

impl Guest for Isolation {
    /// `{cells: {whole-0: {shape: "any"}, .., shared-0: .., ..}, streams: {run: {shape: "string"}}}`
    fn describe() -> Vec<u8> {
        let numbered = |kind: &str| (0..CELLS).map(|n| format!("{kind}-{n}")).collect::<Vec<_>>();
        let mut cells = [numbered("whole"), numbered("shared")].concat();
        cells.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        let mut told = b"\xa2\x65cells".to_vec();
        told.extend(with_head(MAP, cells.len()));
        for cell in cells {
            told.extend(with_head(TEXT, cell.len()));
            told.extend_from_slice(cell.as_bytes());
            told.extend_from_slice(b"\xa1\x65shape\x63any");
        }
        told.extend_from_slice(b"\x67streams\xa1\x63run\xa1\x65shape\x66string");
        told
    }

    fn handle(_: String, event: Vec<u8>) -> Result<(), String> {
        let (length, head) = count(&event, TEXT)?;
        let text = event.get(head..).filter(|text| text.len() == length).ok_or("not a text")?;
        let mut lines = core::str::from_utf8(text).map_err(|_| "not UTF-8")?.lines();
        let mut seen = vec![integer(lines.next().unwrap_or_default())?];
        for line in lines {
            seen.extend(perform(line)?);
        }
        let mut out = with_head(LIST, seen.len());
        seen.iter().for_each(|value| out.extend_from_slice(value));
        own("out")?.set(&[], &out).map_err(told)
    }
}

/// Takes a step; returns what it read.
fn perform(line: &str) -> Result<Option<Vec<u8>>, String> {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    match word() {
        "get" => {
            let (owner, name, key) = (word(), word(), word());
            let cell = cells::open(Some(owner), name).map_err(told)?;
            let value = cell.get(&path(key)).map_err(told)?;
            Ok(Some(value.unwrap_or(vec![NULL])))
        }
        "set" => {
            let (value, name, key) = (integer(word())?, word(), word());
            own(name)?.set(&path(key), &value).map_err(told)?;
            Ok(None)
        }
        "push" => {
            let (value, name, key) = (integer(word())?, word(), word());
            let (cell, mut path) = (own(name)?, path(key));
            let length = match cell.get(&path).map_err(told)? {
                Some(list) => count(&list, LIST)?.0,
                None => 0,
            };
            path.push(Segment::Index(length as u32));
            cell.set(&path, &value).map_err(told)?;
            Ok(None)
        }
        "wait" => {
            let request = http::Request { method: "GET".into(), url: word().into(), headers: vec![], body: vec![] };
            http::fetch(&request, http::FetchOptions { timeout_ms: None, repeatable: false }).map_err(told)?;
            Ok(None)
        }
        "send" => {
            let stream = streams::open(Some(word()), "run").map_err(told)?;
            let event = words.collect::<Vec<_>>().join(" ").replace(';', "\n");
            let event = [with_head(TEXT, event.len()), event.into_bytes()].concat();
            let options = streams::SendOptions { on_commit: None, deliver_after: None, expires_at: None };
            streams::send(&stream, &event, &options).map_err(told)?;
            Ok(None)
        }
        "reject" => Err("as asked".into()),
        "trap" => core::arch::wasm32::unreachable(),
        other => Err(format!("no step is named {other}")),
    }
}

fn own(name: &str) -> Result<Cell, String> {
    cells::open(None, name).map_err(told)
}

fn path(key: &str) -> Vec<Segment> {
    if key.is_empty() { vec![] } else { vec![Segment::Key(key.into())] }
}

fn integer(word: &str) -> Result<Vec<u8>, String> {
    Ok(with_head(INTEGER, word.parse().map_err(|_| format!("{word} is not a number"))?))
}

/// Returns the shortest head of that kind with that number.
fn with_head(kind: u8, number: usize) -> Vec<u8> {
    let number = number as u32;
    match number {
        0..24 => vec![kind | number as u8],
        24..0x100 => vec![kind | 24, number as u8],
        0x100..0x1_0000 => [&[kind | 25], &(number as u16).to_be_bytes()[..]].concat(),
        _ => [&[kind | 26], &number.to_be_bytes()[..]].concat(),
    }
}

/// Returns the number in a head of that kind, and the length of the head.
fn count(bytes: &[u8], kind: u8) -> Result<(usize, usize), String> {
    match *bytes {
        [head, ..] if head & 0xe0 == kind && head & 0x1f < 24 => Ok((usize::from(head & 0x1f), 1)),
        [head, a, ..] if head == kind | 24 => Ok((usize::from(a), 2)),
        [head, a, b, ..] if head == kind | 25 => Ok((usize::from(u16::from_be_bytes([a, b])), 3)),
        _ => Err("a value of another kind".into()),
    }
}

fn told(error: Error) -> String {
    format!("{error:?}")
}
