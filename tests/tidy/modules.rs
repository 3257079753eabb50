//! Which module of the host may use which: never up.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Every module of the host library with those that it uses. A module stands below all that it uses, so there is no circle.
/// What stands here and is not used is an offence too: the table is the map.
const USES: &[(&str, &str)] = &[
    // what things are
    ("limits", ""),
    ("text", "limits"),
    ("log", ""),
    ("readable", ""),
    ("did", "readable"),
    ("env", ""),
    ("path", "readable text"),
    ("value", "limits path readable text"),
    ("shape", "limits path text value"),
    ("cell", "did limits"),
    ("link", "cell did limits path value"),
    ("component", ""),
    ("cost", ""),
    ("descriptor", "cell limits shape text value"),
    ("event", "did readable value"),
    ("receipt", "event limits text"),
    ("record", "did event receipt value"),
    ("bytes", "component did"),
    ("entry", "bytes did record"),
    ("rows", "bytes component did entry event receipt record value"),
    // what is kept
    ("journal", "limits text"),
    ("store", "component did entry env event journal limits receipt record rows text value"),
    ("keyring", "did text"),
    ("listing", "did event receipt record rows value"),
    // shares of what all use
    ("rate", ""),
    ("meter", "did limits"),
    ("slots", "did limits"),
    ("places", "did"),
    ("log_share", "env limits rate"),
    ("counters", "receipt"),
    ("notices", "env event limits log receipt text"),
    ("run_queue", "did"),
    ("aging", "did env run_queue"),
    ("suspects", "did env limits log rows store"),
    // the world outside
    ("http", "env limits text"),
    // who may do what
    ("directory", "cell cost descriptor did event http limits log_share meter receipt shape text value"),
    // what happens
    ("core", "component did entry event limits meter rate receipt record rows value"),
    (
        "tx",
        "cell component core cost counters descriptor did directory entry env event keyring limits link listing log log_share meter path rate \
         receipt record rows store text value",
    ),
    ("live", "cell did directory event limits listing rows text tx value"),
    ("recording", "event http receipt record text tx"),
    (
        "guest",
        "cell component cost counters descriptor did directory env event http limits link log log_share meter path receipt record recording rows shape \
         store suspects text tx value",
    ),
    ("charms", "component did directory guest http record tx"),
    ("derive", "cell charms cost counters did directory env event guest limits places record tx value"),
    (
        "turn",
        "aging charms core cost derive did env guest http listing live log meter notices places receipt record recording rows run_queue store suspects text tx",
    ),
    ("scheduler", "charms did env run_queue slots suspects turn tx"),
    // what embedders use
    ("verify", "cell did entry event limits path receipt record rows store text value"),
    ("why", "core did entry event limits listing live receipt record store"),
    ("archive", "cell core did entry event limits listing path record rows store suspects text tx value verify why"),
    (
        "host",
        "aging archive cell charms component counters derive descriptor did directory env event guest http keyring limits listing live meter notices \
         path places receipt rows run_queue scheduler store suspects text turn tx value verify why",
    ),
    ("manifest", "charms component did directory guest host http limits listing text"),
];

/// The module at the top that a file belongs to, and how deep below it the file stands.
fn module(path: &str) -> (&str, usize) {
    let inside = path.trim_start_matches("host/src/").trim_end_matches(".rs");
    (inside.split('/').next().unwrap_or_default(), inside.matches('/').count())
}

/// The names that follow `crate::` in a source, alone or in braces.
fn used(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let (mut depth, mut first) = (0, true);
        let mut names = String::new();
        for c in after.chars() {
            match c {
                '{' => (depth, first) = (depth + 1, depth == 0),
                '}' if depth <= 1 => break,
                '}' => depth -= 1,
                ',' if depth == 1 => (first, names) = (true, names + " "),
                _ if depth == 0 && !c.is_alphanumeric() && c != '_' => break,
                _ if depth <= 1 && first && (c.is_alphanumeric() || c == '_') => names.push(c),
                ':' if depth == 1 => first = false,
                _ => {}
            }
        }
        found.extend(names.split_whitespace().map(str::to_owned));
    }
    found
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        USES.iter().map(|(module, uses)| (*module, uses.split_whitespace().collect())).collect();
    let mut offenders = Vec::new();
    let mut real: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for file in host().filter(|file| file.path != "host/src/lib.rs") {
        let (module, depth) = module(&file.path);
        let code = file.code();
        if code.contains(&"super::".repeat(depth + 1)) {
            offenders.push(format!("{}: reaches the top by super::, write crate::", file.path));
        }
        for name in used(&code).into_iter().filter(|name| name != module) {
            match allowed.get(module) {
                Some(uses) if uses.contains(name.as_str()) => {}
                _ => offenders.push(format!("{}: {module} does not use {name}", file.path)),
            }
            real.entry(module).or_default().insert(name);
        }
    }
    for (module, uses) in &allowed {
        let real = real.get(module).cloned().unwrap_or_default();
        let unused = uses.iter().filter(|name| !real.contains(**name));
        offenders.extend(unused.map(|name| format!("the table says that {module} uses {name}: it does not")));
    }
    none(offenders, "never up: see USES in tests/tidy/modules.rs");
}

#[test]
fn the_table_of_modules_has_no_circle() {
    let mut above = BTreeSet::new();
    let mut offenders = Vec::new();
    for (module, uses) in USES {
        let up = uses.split_whitespace().filter(|name| !above.contains(name));
        offenders.extend(up.map(|name| format!("{module} uses {name}, which does not stand before it")));
        assert!(above.insert(*module), "{module} stands twice");
    }
    none(offenders, "a module stands below all that it uses");
}

#[test]
fn uses_are_found_however_they_are_written() {
    let code = "use crate::{\n    a::{b, c::{d, e}},\n    f,\n    g::*,\n};\nuse crate::h::i; fn x(y: crate::j::K) { crate::l() }";
    assert_eq!(used(code).into_iter().collect::<Vec<_>>(), ["a", "f", "g", "h", "j", "l"]);
}
