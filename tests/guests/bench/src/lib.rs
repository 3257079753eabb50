//! The guest that benches time: each stream is one kind of work, raw, so that the host is what is measured.

wit_bindgen::generate!({ path: "../../../wit", world: "charm" });

use charm::host::types::Segment;
use charm::host::{cells, context, streams};
use exports::charm::host::guest::Guest;

/// Cells that one event of `fill` writes.
const CELLS: u32 = 1_000;
/// Length of an order, in bytes.
const ORDER: usize = 200;
/// A chain of `turn` ends here: all its events are 32-bit integers in their shortest form.
const BASE: u32 = 100_000;

struct Bench;

export!(Bench);

impl Guest for Bench {
    fn describe() -> Vec<u8> {
        let shapes = [
            ("fill", "int"),
            ("item", "[int, int]"),
            ("link", "string | bytes"),
            ("turn", "int"),
            ("items", "[int, int]"),
            ("order", "[int, int, int]"),
            ("member", "[int, int, int]"),
            ("orders", "int"),
            ("members", "int"),
        ];
        let mut bytes = [&b"\xa1\x67streams"[..], &[0xa0 | shapes.len() as u8]].concat();
        for (name, shape) in shapes {
            text(&mut bytes, name);
            bytes.extend(b"\xa1\x65shape");
            text(&mut bytes, shape);
        }
        bytes
    }

    fn handle(stream: String, event: Vec<u8>) -> Result<(), String> {
        match stream.as_str() {
            "turn" => turn(&event),
            "link" => open("input")?.set(&[], &event).map_err(told),
            "fill" => fill(&event),
            "order" => order(&event),
            "member" => member(&event),
            "members" => members(&event),
            "item" => item(&event),
            "items" => items(&event),
            _ => orders(&event),
        }
    }
}

/// Reads `input`, writes `output`, and sends an event of one less: to the charm that `input` names, else to itself.
fn turn(event: &[u8]) -> Result<(), String> {
    let left = match event[..] {
        [0x1a, a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        _ => return Err("expected a 32-bit integer".into()),
    };
    let input = open("input")?.get(&[]).map_err(told)?.unwrap_or_default();
    open("output")?.set(&[], event).map_err(told)?;
    if left == BASE {
        return Ok(());
    }
    // A DID is a string of 24 to 255 bytes.
    let next = if let [0x78, _, did @ ..] = &input[..] { std::str::from_utf8(did).ok() } else { None };
    send(next, "turn", &[&[0x1a], &(left - 1).to_be_bytes()[..]].concat())
}

/// Writes the event's thousand of cells.
fn fill(event: &[u8]) -> Result<(), String> {
    let [thousand] = numbers(event)?;
    for number in 0..CELLS {
        open(&format!("c{}", thousand * CELLS + number))?.set(&[], event).map_err(told)?;
    }
    Ok(())
}

/// Writes the event's thousand of members of a family.
fn members(event: &[u8]) -> Result<(), String> {
    let [thousand] = numbers(event)?;
    for number in 0..CELLS {
        open(&named(thousand * CELLS + number))?.set(&[], event).map_err(told)?;
    }
    Ok(())
}

/// `[left, what, many]`: reads one of `many` members (0), writes it (1), or lists a hundred from it on (2), and sends the same with one
/// left less.
fn member(event: &[u8]) -> Result<(), String> {
    let [left, what, many] = numbers(event)?;
    let random = context::random();
    let name = named((random % u64::from(many)) as u32);
    match what {
        0 => drop(open(&name)?.get(&[]).map_err(told)?),
        1 => open(&name)?.set(&[], &an_order(random)).map_err(told)?,
        _ => {
            let span = cells::Span { prefix: "m:".into(), start: Some(name), end: None };
            cells::names(None, &span, 100).map(drop).map_err(told)?;
        }
    }
    if left == 0 {
        return Ok(());
    }
    let mut next = vec![0x83];
    for number in [left - 1, what, many] {
        head(&mut next, 0, number);
    }
    send(None, "member", &next)
}

fn named(number: u32) -> String {
    format!("m:{number:010}")
}

/// Writes the cell `orders` whole: a map of as many orders as the event says.
fn orders(event: &[u8]) -> Result<(), String> {
    let [many] = numbers(event)?;
    let mut map = Vec::with_capacity((ORDER + 9) * many as usize);
    head(&mut map, 0xa0, many);
    for number in 0..many {
        text(&mut map, &key(number));
        map.extend(an_order(number.into()));
    }
    open("orders")?.set(&[], &map).map_err(told)
}

/// `[left, first, many]`: writes one of `many` orders from `first` on at its key, and sends the same with one left less.
fn order(event: &[u8]) -> Result<(), String> {
    let [left, first, many] = numbers(event)?;
    open("orders")?.set(&[Segment::Key(key(first + left % many))], &an_order(context::random())).map_err(told)?;
    if left == 0 {
        return Ok(());
    }
    let mut next = vec![0x83];
    for number in [left - 1, first, many] {
        head(&mut next, 0, number);
    }
    send(None, "order", &next)
}

/// `[list, many]`: writes that list whole, of so many items.
fn items(event: &[u8]) -> Result<(), String> {
    let [list, many] = numbers(event)?;
    let mut bytes = Vec::with_capacity(5 + 9 * many as usize);
    head(&mut bytes, 0x80, many);
    (0..many).for_each(|number| bytes.extend(an_item(number.into())));
    open(&format!("list-{list}"))?.set(&[], &bytes).map_err(told)
}

/// `[left, list]`: appends an item to that list, and sends the same with one left less.
fn item(event: &[u8]) -> Result<(), String> {
    let [left, list] = numbers(event)?;
    open(&format!("list-{list}"))?.append(&[], &an_item(context::random())).map_err(told)?;
    if left == 0 {
        return Ok(());
    }
    let mut next = vec![0x82];
    head(&mut next, 0, left - 1);
    head(&mut next, 0, list);
    send(None, "item", &next)
}

fn an_item(number: u64) -> Vec<u8> {
    [&[0x48], &number.to_be_bytes()[..]].concat()
}

fn key(number: u32) -> String {
    format!("{number:06}")
}

/// Bytes that no other number has: an equal value is no write.
fn an_order(number: u64) -> Vec<u8> {
    let mut bytes = vec![0x58, ORDER as u8];
    bytes.extend(number.to_be_bytes().iter().cycle().take(ORDER));
    bytes
}

fn open(name: &str) -> Result<cells::Cell, String> {
    cells::open(None, name).map_err(told)
}

fn send(to: Option<&str>, stream: &str, event: &[u8]) -> Result<(), String> {
    let stream = streams::open(to, stream).map_err(told)?;
    let options = streams::SendOptions { on_commit: None, deliver_after: None, expires_at: None };
    streams::send(&stream, event, &options).map(drop).map_err(told)
}

/// Reads a number, or a list of them.
fn numbers<const N: usize>(event: &[u8]) -> Result<[u32; N], String> {
    let mut rest = if N > 1 { event.get(1..).unwrap_or_default() } else { event };
    let mut found = [0; N];
    for number in &mut found {
        (*number, rest) = match *rest {
            [small @ 0..=0x17, ref rest @ ..] => (small.into(), rest),
            [0x18, a, ref rest @ ..] => (a.into(), rest),
            [0x19, a, b, ref rest @ ..] => (u16::from_be_bytes([a, b]).into(), rest),
            [0x1a, a, b, c, d, ref rest @ ..] => (u32::from_be_bytes([a, b, c, d]), rest),
            _ => return Err("expected 32-bit integers".into()),
        };
    }
    Ok(found)
}

/// Appends the head of an item in its shortest form.
fn head(bytes: &mut Vec<u8>, major: u8, number: u32) {
    match number {
        0..0x18 => bytes.push(major | number as u8),
        0x18..0x100 => bytes.extend([major | 0x18, number as u8]),
        0x100..0x1_0000 => bytes.extend([&[major | 0x19], &(number as u16).to_be_bytes()[..]].concat()),
        _ => bytes.extend([&[major | 0x1a], &number.to_be_bytes()[..]].concat()),
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    head(bytes, 0x60, text.len() as u32);
    bytes.extend(text.as_bytes());
}

fn told(error: charm::host::types::Error) -> String {
    format!("{error:?}")
}
