//! What clients send: random scripts for the probe.

use charm_conformance::Random;
use charm_host::Did;
use ipld_core::ipld::Ipld;

use super::model::Cast;

pub fn text(text: &str) -> Ipld {
    Ipld::String(text.to_owned())
}

pub fn number(number: u64) -> Ipld {
    Ipld::Integer(number.into())
}

pub fn list(items: impl IntoIterator<Item = Ipld>) -> Ipld {
    Ipld::List(items.into_iter().collect())
}

pub fn map(entries: impl IntoIterator<Item = (&'static str, Ipld)>) -> Ipld {
    Ipld::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn of(charm: Did, name: &str) -> Ipld {
    list([text(&charm.to_string()), text(name)])
}

/// Returns a random event for the stream `run` of a charm, with times around this one; `tag` makes its values its own.
pub fn script(cast: &Cast, me: Did, now_ms: u64, tag: u64, depth: u64, random: &mut Random) -> Ipld {
    let (mut steps, mut sends, mut waits) = (Vec::new(), 0, false);
    if tag == 0 && cast.derives && me == cast.deriver() {
        steps.extend(FORMULAS.map(|name| set_formula(cast, name, random)));
    }
    for part in 0..1 + random.below(5) {
        let other = *random.pick(&cast.charms);
        let cell = *random.pick(&["x", "y", "notes", "out"]);
        let value = number(tag * 10 + part);
        let kind = random.below(27 + if cast.derives { 20 } else { 8 });
        let step = match kind {
            0..5 => list([text("get"), of(other, cell), list([])]),
            5 => list([text("get"), text(cell), list([])]),
            6 => list([text("try"), list([text("get"), of(other, cell), list([])])]),
            7..10 => {
                let both = |cell: &str| list([text("set"), text(cell), list([]), value.clone()]);
                steps.push(both("x"));
                both("y")
            }
            10 => list([text("remove"), text(if part % 2 == 0 { "x" } else { "y" }), list([])]),
            11..14 => list([text("send"), of(other, "note"), value]),
            14 | 15 => {
                let back = match random.below(3) {
                    0 if depth > 0 => script(cast, me, now_ms, tag * 10 + part, depth - 1, random),
                    _ => value.clone(),
                };
                let on_commit = map([("stream", text("on-receipt")), ("tag", back)]);
                list([text("send"), of(other, "note"), value, on_commit])
            }
            16 if depth > 0 => {
                let inner = script(cast, other, now_ms, tag * 10 + part, depth - 1, random);
                list([text("send"), of(other, "run"), inner])
            }
            18..21 => {
                let (stream, event) = match random.below(2) {
                    0 if depth > 0 => ("run", script(cast, other, now_ms, tag * 10 + part, depth - 1, random)),
                    _ => ("note", value.clone()),
                };
                list([text("send-later"), of(other, stream), event, times(now_ms, random)])
            }
            21 => list([text("sleep"), number(*random.pick(&[0, 1, 30, 2_000]))]),
            22 | 23 => {
                let retry = list([text("retry"), number(*random.pick(&[0, 1, 30, 2_000]))]);
                list([text("unless-tried"), number(1 + random.below(3)), retry])
            }
            24 | 25 if sends > 0 => list([text("cancel"), number(random.below(sends as u64))]),
            26 => {
                waits = true;
                let method = text(if part % 2 == 0 { "GET" } else { "POST" });
                let request =
                    [("url", text(super::run::PAUSE)), ("method", method), ("timeout-ms", number(EXCHANGE_MS))];
                list([text("commit-and-fetch"), map(request)])
            }
            17 => list([text("try"), list([text("set"), of(other, cell), list([]), value])]),
            27..30 => merge(number(random.below(4)), random),
            30 | 31 => list([text("set"), member(random), list([]), value]),
            32 => list([text("remove"), member(random), list([])]),
            33 => list([text("all-names"), text(&other.to_string()), text("items:"), number(1 + random.below(3))]),
            34 => list([text("entries"), text(&other.to_string()), text("items:"), number(100)]),
            35..41 => list([text("get"), of(cast.deriver(), &derived(random)), list([])]),
            41 => {
                let cells = (0..1 + random.below(3)).map(|_| of(cast.deriver(), &derived(random)));
                list([text("get-each"), list(cells.collect::<Vec<_>>()), list([])])
            }
            42 => {
                let set = list([text("set"), of(cast.deriver(), &derived(random)), list([]), value]);
                list([text("try"), set])
            }
            43.. if me == cast.deriver() => set_formula(cast, random.pick::<&str>(&FORMULAS), random),
            43.. => list([text("get"), of(cast.deriver(), &derived(random)), list([])]),
            _ => list([text("fetch"), map([("url", text(super::run::PAUSE))])]),
        };
        steps.push(step);
        sends += usize::from(matches!(kind, 11..=15 | 18..=20) || (kind == 16 && depth > 0));
        if sends > 0 && random.chance(250) {
            let of = (0..1 + random.below(3)).map(|_| number(random.below(sends as u64)));
            let (of, until) = (list(of.collect::<Vec<_>>()), text(if random.chance(500) { "all" } else { "first" }));
            steps.push(list([text("wait"), of, until, number(*random.pick(&[0, 1, 20, 5_000, 3_600_000]))]));
            waits = true;
        }
    }
    match random.below(30) {
        0 => steps.push(list([text("reject"), text("on purpose")])),
        1 => steps.push(list([text("trap")])),
        2 => steps.push(list([text("spin")])),
        _ => {}
    }
    let out = if random.chance(700) && !waits { text("out") } else { Ipld::Null };
    map([("steps", Ipld::List(steps)), ("out", out)])
}

fn member(random: &mut Random) -> Ipld {
    text(&format!("items:{}", random.below(4)))
}

/// A mergeable write; some meet what they cannot be merged with.
fn merge(value: Ipld, random: &mut Random) -> Ipld {
    let cell = if random.chance(50) { "x" } else { "table" };
    match random.below(5) {
        0 => list([text("append"), text(cell), list([]), value]),
        1 => list([text("add-unique"), text(cell), list([]), value]),
        2 => list([text("remove-by-value"), text(cell), list([]), value]),
        _ => list([text("increment"), text(if random.chance(50) { "table" } else { "count" }), list([]), value]),
    }
}

fn derived(random: &mut Random) -> String {
    match random.below(4) {
        3 => format!("m:{}", random.below(4)),
        number => format!("d{number}"),
    }
}

/// What the charm that derives has formulas for: cells, and a family.
const FORMULAS: [&str; 4] = ["d0", "d1", "d2", "m"];

fn set_formula(cast: &Cast, name: &str, random: &mut Random) -> Ipld {
    list([text("set"), text(&format!("of-{name}")), list([]), formula(cast, name, random)])
}

/// What the charm that derives computes a cell by: from cells that are not derived, its own and those of others, and from derived
/// ones with a lower number.
fn formula(cast: &Cast, name: &str, random: &mut Random) -> Ipld {
    let get = |cell: Ipld| list([text("get"), cell, list([])]);
    let plain = |random: &mut Random| {
        let (other, cell) = (*random.pick(&cast.charms), *random.pick(&["x", "y", "count", "table", "items:1"]));
        get(of(other, cell))
    };
    let other = random.pick(&cast.charms).to_string();
    if name == "m" {
        let kin = list([text("kin"), text(&other), text("items"), list([])]);
        return list([text("sum"), kin, plain(random)]);
    }
    let below: &[&str] = match name {
        "d0" => &["x"],
        "d1" => &["d0"],
        _ => &["d0", "d1", "m:1"],
    };
    match random.below(6) {
        0 => list([text("all-names"), text(&other), text("items:"), number(2)]),
        1 => list([text("entries"), text(&other), text("items:"), number(100)]),
        2 => list([text("if"), plain(random), get(text(random.pick::<&str>(below))), plain(random)]),
        3 if random.chance(200) => list([text("reject"), text("on purpose")]),
        _ => list([text("sum"), plain(random), get(text(random.pick::<&str>(below))), plain(random)]),
    }
}

/// How long a request may take that a turn waits for, in milliseconds.
pub const EXCHANGE_MS: u64 = 5_000;

/// Returns when an event is to be delivered, and when it expires: some of it is over already.
fn times(now_ms: u64, random: &mut Random) -> Ipld {
    let after = now_ms + *random.pick(&[1, 20, 200, 2_000, 10_000]);
    let after = if random.chance(150) { now_ms - 1_000 } else { after };
    let from = if random.chance(100) { now_ms - 1_000 } else { now_ms };
    let soon = |random: &mut Random| *random.pick(&[1, 10, 100, 1_000, 10_000]);
    match random.below(3) {
        0 => map([("deliver-after", number(after))]),
        1 => map([("expires-at", number(from + soon(random)))]),
        _ => map([("deliver-after", number(after)), ("expires-at", number(after + soon(random)))]),
    }
}
