//! The steps. `cell` and `stream` are `"name"` for an own one or `[did, "name"]`; a path is a list of keys and indexes.
//!
//! ```text
//! ["get", cell, path]                        value or null        ["remove", cell, path]
//! ["set", cell, path, value]                                      ["set-bytes", cell, path, bytes]
//! ["get-each", cells, path]                  list of values or null
//! ["sum", step..]  of integers, null is 0    ["if", step, step, step]  null, false and 0 are no
//! ["value", value]                           ["caught", step]  1 when it is refused, else 0
//! ["names", owner or null, prefix, limit, start?, end?]                            {names, next: start or null}
//! ["entries", owner or null, prefix, limit, start?, end?]                          {entries: [name, value].., next}
//! ["remove-all", owner or null, prefix, limit, start?, end?]                       {count, next}
//! ["all-names", owner or null, prefix, limit]                                      names of all pages
//! ["append" | "add-unique" | "remove-by-value" | "increment", cell, path, value]
//! ["merge-bytes", one of these, cell, path, bytes]
//! ["set-link", cell, path, link]  ["append-link", cell, path, link]    a link is [cell, path], or [stream]
//! ["follow", cell, path, step]     opens the link there; the step's cell is "here", its stream too
//! ["open-bytes", "cell" | "stream", bytes]  opens what is no link
//! ["send", stream, event, {stream, tag}?]    event id             ["send-bytes", stream, bytes]
//! ["send-tag", stream, own stream, bytes]    event id; the tag is raw bytes
//! ["send-later", stream, event, {deliver-after?, expires-at?}]                     event id
//! ["wait", sends, "all" | "first", ms]        list of {outcome, commit, message} or null; a send is a number, from 0, or an id
//! ["sleep", ms]  ["retries"]  count            ["retry", ms]  ends the run
//! ["unless-tried", n, step]                  the step, unless the turn was tried again so often    ["cancel", send]
//! ["wish", tag, {cells: [[name, shape]..], streams: [name | [name, shape]..], owner: DID}]     DIDs
//! ["wish-page", tag, wanted, limit, cursor?] {found: DIDs, next: cursor or null}
//! ["wish-get", tag, cell, shape]             reads that cell of the first found
//! ["wish-set", tag, cell, shape, value]      writes it, through the handle
//! ["fetch", {method, url, headers?, body?, timeout-ms?, repeatable?}]              {status, body}
//! ["fetch-with", request, cell, path]        the same; the body is the text of the value there
//! ["commit-and-fetch", request]              the same as "fetch", as a wait
//! ["log", level, text]   ["context"]         {self, sender, event, time, random}
//! ["try", step]                              {ok: result} or {error: {kind, ..fields}}
//! ["repeat", n, step]                        result of the last
//! ["grown", pages, step, other]              the step when memory grows by so much, else the other
//! ["reject", text] ["panic", text] ["trap"] ["spin"] ["recurse"] ["grow", bytes] ["handles", n]
//! ```

use std::cell::RefCell;

use ipld_core::ipld::Ipld;

use crate::charm::host::discovery::{self, Declaration, Page, Wanted};
use crate::charm::host::streams::{OnCommit, SendOptions};
use crate::charm::host::{cells, context, http, log, retries, streams, waits};
use crate::refused::{self, Failed};
use crate::{misbehave, words};

/// Performs the steps of a script, and writes their results where it says.
pub fn run(script: &Ipld) -> Result<(), Failed> {
    let steps = words::list(words::field(script, "steps")?)?;
    let mut results = Vec::new();
    for step in steps {
        results.push(perform(step)?);
    }
    match words::optional(script, "out") {
        Some(out) => write(words::text(out)?, &Ipld::List(results)),
        None => Ok(()),
    }
}

/// Performs one step and returns its result, null when it has none.
pub fn perform(step: &Ipld) -> Result<Ipld, Failed> {
    let parts = words::list(step)?;
    let arg = |index: usize| parts.get(index).ok_or_else(|| Failed::Script(format!("step lacks argument {index}")));
    match words::text(arg(0)?)? {
        "get" => found(open_cell(arg(1)?)?.get(&words::path(arg(2)?)?)?),
        "get-each" => {
            let cells = words::list(arg(1)?)?.iter().map(open_cell).collect::<Result<Vec<_>, Failed>>()?;
            let values = cells::get_each(&cells.iter().collect::<Vec<_>>(), &words::path(arg(2)?)?)?;
            Ok(Ipld::List(values.into_iter().map(found).collect::<Result<_, Failed>>()?))
        }
        "sum" => {
            let mut sum: i128 = 0;
            for step in &parts[1..] {
                match perform(step)? {
                    Ipld::List(list) => sum += list.iter().map(integer).sum::<i128>(),
                    one => sum += integer(&one),
                }
            }
            Ok(Ipld::Integer(sum))
        }
        "if" => {
            let is_no = matches!(perform(arg(1)?)?, Ipld::Null | Ipld::Bool(false) | Ipld::Integer(0));
            perform(arg(if is_no { 3 } else { 2 })?)
        }
        "value" => Ok(arg(1)?.clone()),
        "caught" => match perform(arg(1)?) {
            Ok(_) => Ok(Ipld::Integer(0)),
            Err(Failed::Refused(_)) => Ok(Ipld::Integer(1)),
            Err(failed) => Err(failed),
        },
        "set" => {
            open_cell(arg(1)?)?.set(&words::path(arg(2)?)?, &words::encode(arg(3)?))?;
            Ok(Ipld::Null)
        }
        "set-bytes" => {
            open_cell(arg(1)?)?.set(&words::path(arg(2)?)?, &words::bytes(arg(3)?)?)?;
            Ok(Ipld::Null)
        }
        "remove" => {
            open_cell(arg(1)?)?.remove(&words::path(arg(2)?)?)?;
            Ok(Ipld::Null)
        }
        "names" => {
            let (owner, span, limit) = listing(parts)?;
            let page = cells::names(owner, &span, limit)?;
            let names = page.names.into_iter().map(Ipld::String).collect();
            Ok(map([("names", Ipld::List(names)), ("next", page.next.map_or(Ipld::Null, Ipld::String))]))
        }
        "entries" => {
            let (owner, span, limit) = listing(parts)?;
            let page = cells::entries(owner, &span, limit)?;
            let mut entries = Vec::new();
            for cells::Entry { name, value } in page.entries {
                entries.push(Ipld::List(vec![Ipld::String(name), words::decode(&value)?]));
            }
            Ok(map([("entries", Ipld::List(entries)), ("next", page.next.map_or(Ipld::Null, Ipld::String))]))
        }
        "remove-all" => {
            let (owner, span, limit) = listing(parts)?;
            let removed = cells::remove_all(owner, &span, limit)?;
            let count = Ipld::Integer(removed.count.into());
            Ok(map([("count", count), ("next", removed.next.map_or(Ipld::Null, Ipld::String))]))
        }
        "all-names" => {
            let (owner, mut span, limit) = listing(parts)?;
            let mut all = Vec::new();
            loop {
                let page = cells::names(owner, &span, limit)?;
                all.extend(page.names.into_iter().map(Ipld::String));
                span.start = page.next;
                if span.start.is_none() {
                    return Ok(Ipld::List(all));
                }
            }
        }
        op @ ("append" | "add-unique" | "remove-by-value" | "increment") => {
            merge(op, arg(1)?, arg(2)?, &words::encode(arg(3)?))
        }
        "merge-bytes" => merge(words::text(arg(1)?)?, arg(2)?, arg(3)?, &words::bytes(arg(4)?)?),
        "set-link" => {
            open_cell(arg(1)?)?.set(&words::path(arg(2)?)?, &link(arg(3)?)?)?;
            Ok(Ipld::Null)
        }
        "append-link" => {
            open_cell(arg(1)?)?.append(&words::path(arg(2)?)?, &link(arg(3)?)?)?;
            Ok(Ipld::Null)
        }
        "follow" => {
            let found = open_cell(arg(1)?)?.get(&words::path(arg(2)?)?)?;
            HERE.set(Some(found.ok_or_else(|| Failed::script("no link is there"))?));
            let done = perform(arg(3)?);
            HERE.set(None);
            done
        }
        "open-bytes" => {
            let bytes = words::bytes(arg(2)?)?;
            match words::text(arg(1)?)? {
                "cell" => drop(cells::open_link(&bytes)?),
                _ => drop(streams::open_link(&bytes)?),
            }
            Ok(Ipld::Null)
        }
        "send" => send(arg(1)?, &words::encode(arg(2)?), parts.get(3).map(on_commit).transpose()?),
        "send-bytes" => send(arg(1)?, &words::bytes(arg(2)?)?, None),
        "send-tag" => {
            let on_commit = OnCommit { stream: words::text(arg(2)?)?.into(), tag: words::bytes(arg(3)?)? };
            send(arg(1)?, &words::encode(&Ipld::Null), Some(on_commit))
        }
        "send-later" => {
            let time = |name: &str| words::optional(arg(3)?, name).map(words::large).transpose();
            let (deliver_after, expires_at) = (time("deliver-after")?, time("expires-at")?);
            let options = SendOptions { on_commit: None, deliver_after, expires_at };
            send_with(arg(1)?, &words::encode(arg(2)?), &options)
        }
        "wait" => wait(arg(1)?, words::text(arg(2)?)?, words::number(arg(3)?)? as u64),
        "sleep" => {
            waits::commit_and_sleep(words::number(arg(1)?)? as u64)?;
            Ok(Ipld::Null)
        }
        "unless-tried" if u64::from(retries::count()) >= words::large(arg(1)?)? => Ok(Ipld::Null),
        "unless-tried" => perform(arg(2)?),
        "retries" => Ok(Ipld::Integer(retries::count().into())),
        "retry" => {
            retries::retry_after(words::number(arg(1)?)? as u64)?;
            Err(Failed::script("a turn that is tried again went on"))
        }
        "cancel" => {
            streams::cancel(&sent(arg(1)?)?)?;
            Ok(Ipld::Null)
        }
        "wish" => {
            let offers = discovery::wish(words::text(arg(1)?)?, &wanted(arg(2)?)?, &first_page(u32::MAX))?;
            Ok(Ipld::List(offers.found.into_iter().map(|found| Ipld::String(found.owner)).collect()))
        }
        "wish-page" => {
            let cursor = parts.get(4).filter(|cursor| **cursor != Ipld::Null).map(words::text).transpose()?;
            let page = Page { limit: words::number(arg(3)?)? as u32, cursor: cursor.map(str::to_owned) };
            let offers = discovery::wish(words::text(arg(1)?)?, &wanted(arg(2)?)?, &page)?;
            let found = offers.found.iter().map(|found| Ipld::String(found.owner.clone())).collect();
            let next = offers.next.map_or(Ipld::Null, Ipld::String);
            Ok(map([("found", Ipld::List(found)), ("next", next)]))
        }
        "wish-get" => found(wished(arg(1)?, arg(2)?, arg(3)?)?.get(&[])?),
        "wish-set" => {
            wished(arg(1)?, arg(2)?, arg(3)?)?.set(&[], &words::encode(arg(4)?))?;
            Ok(Ipld::Null)
        }
        "fetch" => {
            let (request, options) = request(arg(1)?, None)?;
            answered(http::fetch(&request, options)?)
        }
        "fetch-with" => {
            let value = found(open_cell(arg(2)?)?.get(&words::path(arg(3)?)?)?)?;
            let (request, options) = request(arg(1)?, Some(format!("{value:?}")))?;
            answered(http::fetch(&request, options)?)
        }
        "commit-and-fetch" => {
            let (request, options) = request(arg(1)?, None)?;
            answered(waits::commit_and_fetch(&request, options)?)
        }
        "log" => {
            let level = match words::text(arg(1)?)? {
                "debug" => log::Level::Debug,
                "info" => log::Level::Info,
                "warn" => log::Level::Warn,
                _ => log::Level::Error,
            };
            log::log(level, words::text(arg(2)?)?);
            Ok(Ipld::Null)
        }
        "context" => Ok(map([
            ("self", Ipld::String(context::self_did())),
            ("sender", Ipld::String(context::sender())),
            ("event", Ipld::String(context::event())),
            ("time", Ipld::Integer(context::time().into())),
            ("random", Ipld::Integer(context::random().into())),
        ])),
        "try" => match perform(arg(1)?) {
            Ok(result) => Ok(map([("ok", result)])),
            Err(Failed::Refused(error)) => Ok(map([("error", refused::data(&error))])),
            Err(failed) => Err(failed),
        },
        "repeat" => {
            let mut last = Ipld::Null;
            for _ in 0..words::number(arg(1)?)? {
                last = perform(arg(2)?)?;
            }
            Ok(last)
        }
        "reject" => Err(Failed::script(words::text(arg(1)?)?)),
        "panic" => panic!("{}", words::text(arg(1)?)?),
        "trap" => core::arch::wasm32::unreachable(),
        "spin" => misbehave::spin(),
        "recurse" => Ok(Ipld::Integer(misbehave::recurse(0).into())),
        "grow" => {
            misbehave::grow(words::number(arg(1)?)?);
            Ok(Ipld::Null)
        }
        "grown" => {
            let grows = core::arch::wasm32::memory_grow(0, words::number(arg(1)?)? as usize) != usize::MAX;
            perform(arg(if grows { 2 } else { 3 })?)
        }
        "handles" => {
            let mut open = Vec::new();
            for _ in 0..words::number(arg(1)?)? {
                open.push(cells::open(None, "handle")?);
            }
            Ok(Ipld::Integer(open.len() as i128))
        }
        other => Err(Failed::Script(format!("no step is named {other}"))),
    }
}

/// Writes a whole own cell.
pub fn write(cell: &str, value: &Ipld) -> Result<(), Failed> {
    Ok(cells::open(None, cell)?.set(&[], &words::encode(value))?)
}

/// Appends an event to a list in an own cell.
pub fn append(cell: &str, event: &[u8]) -> Result<(), Failed> {
    let cell = cells::open(None, cell)?;
    // The head of the list: what is in it need not be known.
    let length = match cell.get(&[])?.as_deref() {
        Some([0x98, length, ..]) => (*length).into(),
        Some([0x99, high, low, ..]) => u16::from_be_bytes([*high, *low]).into(),
        Some([0x9a, a, b, c, d, ..]) => u32::from_be_bytes([*a, *b, *c, *d]),
        Some([head, ..]) => u32::from(*head & 0x1f),
        _ => 0,
    };
    Ok(cell.set(&[crate::charm::host::types::Segment::Index(length)], event)?)
}

/// Appends a receipt to the own cell `receipts`, and runs its tag when that is a script.
pub fn on_receipt(event: &[u8]) -> Result<(), Failed> {
    append("receipts", event)?;
    let event = words::decode(event)?;
    match words::optional(&event, "tag") {
        Some(script) if words::optional(script, "steps").is_some() => run(script),
        _ => Ok(()),
    }
}

thread_local! {
    /// The link that steps follow.
    static HERE: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Makes the link to a place in a cell, or to a stream.
fn link(value: &Ipld) -> Result<Vec<u8>, Failed> {
    match words::list(value)? {
        [cell, path] => Ok(open_cell(cell)?.link(&words::path(path)?)?),
        [stream] => {
            let (owner, name) = words::address(stream)?;
            Ok(streams::open(owner, name)?.link())
        }
        _ => Err(Failed::script("a link is a cell with a path, or a stream")),
    }
}

/// What is followed, when a step names it.
fn here(value: &Ipld) -> Option<Vec<u8>> {
    let is_here = matches!(value, Ipld::String(name) if name == "here");
    HERE.with_borrow(|link| link.clone()).filter(|_| is_here)
}

pub fn integer(value: &Ipld) -> i128 {
    if let Ipld::Integer(number) = value { *number } else { 0 }
}

fn open_cell(value: &Ipld) -> Result<cells::Cell, Failed> {
    if let Some(link) = here(value) {
        return Ok(cells::open_link(&link)?);
    }
    let (owner, name) = words::address(value)?;
    Ok(cells::open(owner, name)?)
}

/// Returns whose cells a step lists, which, and how many at most.
fn listing(parts: &[Ipld]) -> Result<(Option<&str>, cells::Span, u32), Failed> {
    let text = |index: usize| parts.get(index).filter(|part| **part != Ipld::Null).map(words::text).transpose();
    let limit = parts.get(3).ok_or_else(|| Failed::script("how many?"))?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let span =
        cells::Span { prefix: text(2)?.unwrap_or_default().into(), start: owned(text(4)?), end: owned(text(5)?) };
    Ok((text(1)?, span, words::large(limit)?.min(u32::MAX.into()) as u32))
}

fn merge(op: &str, cell: &Ipld, path: &Ipld, value: &[u8]) -> Result<Ipld, Failed> {
    let (cell, path) = (open_cell(cell)?, words::path(path)?);
    match op {
        "append" => cell.append(&path, value)?,
        "add-unique" => cell.add_unique(&path, value)?,
        "remove-by-value" => cell.remove_by_value(&path, value)?,
        _ => cell.increment(&path, value)?,
    }
    Ok(Ipld::Null)
}

/// What was read. A link, which is longer than this decoder knows, is told as what it carries.
fn found(bytes: Option<Vec<u8>>) -> Result<Ipld, Failed> {
    if let Some([0xd8, 0x2a, head, rest @ ..]) = bytes.as_deref() {
        // Length of the bytes, four bytes in front, length of what is carried.
        let rest = &rest[match head {
            0x59 => 2,
            0x58 => 1,
            _ => 0,
        } + 4..];
        let start = rest.iter().position(|byte| byte & 0x80 == 0).unwrap_or_default() + 1;
        return Ok(map([("link", words::decode(&rest[start..])?)]));
    }
    bytes.map_or(Ok(Ipld::Null), |bytes| words::decode(&bytes))
}

fn map<const N: usize>(entries: [(&str, Ipld); N]) -> Ipld {
    Ipld::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn on_commit(value: &Ipld) -> Result<OnCommit, Failed> {
    let tag = words::optional(value, "tag").unwrap_or(&Ipld::Null);
    Ok(OnCommit { stream: words::text(words::field(value, "stream")?)?.into(), tag: words::encode(tag) })
}

fn send(to: &Ipld, event: &[u8], on_commit: Option<OnCommit>) -> Result<Ipld, Failed> {
    send_with(to, event, &SendOptions { on_commit, deliver_after: None, expires_at: None })
}

fn send_with(to: &Ipld, event: &[u8], options: &SendOptions) -> Result<Ipld, Failed> {
    let stream = match here(to) {
        Some(link) => streams::open_link(&link)?,
        None => {
            let (owner, name) = words::address(to)?;
            streams::open(owner, name)?
        }
    };
    let id = streams::send(&stream, event, options)?;
    SENT.with_borrow_mut(|sent| sent.push(id.clone()));
    Ok(Ipld::String(id))
}

thread_local! {
    /// Ids of what the turn has sent.
    static SENT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Returns the id of a send: by its number, or as it is.
fn sent(send: &Ipld) -> Result<String, Failed> {
    match send {
        Ipld::Integer(number) => Ok(SENT.with_borrow(|sent| sent[*number as usize].clone())),
        id => words::text(id).map(str::to_owned),
    }
}

fn wait(sends: &Ipld, until: &str, timeout_ms: u64) -> Result<Ipld, Failed> {
    let ids = words::list(sends)?.iter().map(sent).collect::<Result<Vec<_>, Failed>>()?;
    let until = if until == "first" { waits::Until::First } else { waits::Until::All };
    let receipts = waits::commit_and_wait(&ids, until, timeout_ms)?;
    let shown = |receipt: waits::Receipt| {
        let commit = receipt.commit.map_or(Ipld::Null, |commit| Ipld::Integer(commit.into()));
        let message = receipt.message.map_or(Ipld::Null, Ipld::String);
        map([("outcome", Ipld::String(receipt.outcome)), ("commit", commit), ("message", message)])
    };
    Ok(Ipld::List(receipts.into_iter().map(|receipt| receipt.map_or(Ipld::Null, shown)).collect()))
}

fn first_page(limit: u32) -> Page {
    Page { limit, cursor: None }
}

fn declarations(value: Option<&Ipld>) -> Result<Vec<Declaration>, Failed> {
    let mut list = Vec::new();
    for wanted in value.map(words::list).transpose()?.unwrap_or_default() {
        let (name, shape) = match wanted {
            Ipld::String(name) => (name.as_str(), "any"),
            pair => match words::list(pair)? {
                [name, shape] => (words::text(name)?, words::text(shape)?),
                _ => return Err(Failed::script("a pair of name and shape is needed")),
            },
        };
        list.push(Declaration { name: name.into(), shape: shape.into() });
    }
    Ok(list)
}

fn wanted(value: &Ipld) -> Result<Wanted, Failed> {
    let part = |name| declarations(words::optional(value, name));
    let owner = words::optional(value, "owner").map(words::text).transpose()?.map(str::to_owned);
    Ok(Wanted { cells: part("cells")?, streams: part("streams")?, owner })
}

fn wished(tag: &Ipld, cell: &Ipld, shape: &Ipld) -> Result<cells::Cell, Failed> {
    let cell = Declaration { name: words::text(cell)?.into(), shape: words::text(shape)?.into() };
    let wanted = Wanted { cells: vec![cell], streams: vec![], owner: None };
    let offers = discovery::wish(words::text(tag)?, &wanted, &first_page(1))?;
    let first = offers.found.into_iter().next().ok_or_else(|| Failed::script("the wish found nobody"))?;
    first.cells.into_iter().next().ok_or_else(|| Failed::script("the wish gave no handle"))
}

fn request(request: &Ipld, body: Option<String>) -> Result<(http::Request, http::FetchOptions), Failed> {
    let text = |name: &str| words::optional(request, name).map(words::text).transpose();
    let mut headers = Vec::new();
    match words::optional(request, "headers") {
        Some(Ipld::Map(entries)) => {
            for (name, value) in entries {
                headers.push((name.clone(), words::text(value)?.to_owned()));
            }
        }
        Some(pairs) => {
            for pair in words::list(pairs)? {
                match words::list(pair)? {
                    [name, value] => headers.push((words::text(name)?.into(), words::text(value)?.into())),
                    _ => return Err(Failed::script("a pair of name and value is needed")),
                }
            }
        }
        None => {}
    }
    let timeout_ms = words::optional(request, "timeout-ms").map(words::number).transpose()?;
    let repeatable = words::optional(request, "repeatable") == Some(&Ipld::Bool(true));
    let options = http::FetchOptions { timeout_ms: timeout_ms.map(|ms| ms as u32), repeatable };
    let request = http::Request {
        method: text("method")?.unwrap_or("GET").into(),
        url: words::text(words::field(request, "url")?)?.into(),
        headers,
        body: body.as_deref().or(text("body")?).unwrap_or_default().into(),
    };
    Ok((request, options))
}

fn answered(answer: http::Response) -> Result<Ipld, Failed> {
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Ok(map([("status", Ipld::Integer(answer.status.into())), ("body", Ipld::String(body))]))
}
