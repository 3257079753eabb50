//! A component written by hand that has every host call at hand: `tests/guests-wat/raw.wat`.

use std::fmt::Write;

const CHARM: &str = include_str!("../guests-wat/raw.wat");

/// The host calls: the name that the module knows it by, the instance of the component that it comes from, its name there,
/// and its core parameters and results, `i` for 32 bits and `l` for 64.
const CALLS: [(&str, &str, &str, &str, &str); 15] = [
    ("cells-open", "cells", "open", "iiiiii", ""),
    ("cells-get-each", "cells", "get-each", "iiiii", ""),
    ("cell-owner", "cells", "[method]cell.owner", "ii", ""),
    ("cell-get", "cells", "[method]cell.get", "iiii", ""),
    ("cell-set", "cells", "[method]cell.set", "iiiiii", ""),
    ("cell-remove", "cells", "[method]cell.remove", "iiii", ""),
    ("streams-open", "streams", "open", "iiiiii", ""),
    ("stream-name", "streams", "[method]stream.name", "ii", ""),
    ("streams-send", "streams", "send", "iiiiiiiiilili", ""),
    ("wish", "discovery", "wish", "iiiiiiiiiiiiii", ""),
    ("fetch", "http", "fetch", "iiiiiiiiiiii", ""),
    ("log", "log", "log", "iii", ""),
    ("panicked", "log", "panicked", "ii", ""),
    ("self-did", "context", "self-did", "i", ""),
    ("time", "context", "time", "", "l"),
];

/// The same for what drops a handle of a type.
const DROPS: [(&str, &str); 2] = [("cell-drop", "cell"), ("stream-drop", "stream")];

/// What hostile charms do with an event, a number of one byte.
pub const KINDS: [(&str, &str); 22] = [
    ("trap", "unreachable"),
    ("spin", "(loop $again (br $again))"),
    ("recurse", "(call $down)"),
    ("grow", "(loop $again (br_if $again (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) unreachable"),
    ("forge", "(call $set (i32.load8_u (local.get $event)))"),
    ("handles", "(loop $again (drop (call $cell)) (br $again))"),
    ("calls", "(local.set $handle (call $cell)) (loop $again (call $get (local.get $handle)) (br $again))"),
    ("failed-calls", "(local.set $handle (call $stream)) (loop $again (call $send (local.get $handle) (i32.const 300) (i32.const 9)) (br $again))"),
    // A value of 61 levels and nearly 1 MiB, and its deepest item for ever.
    ("deep", "(call $grow (i32.const 20)) (loop $level
        (i32.store8 (i32.add (i32.const 65536) (local.get $i)) (i32.const 0x81))
        (i32.store8 (i32.add (i32.const 8192) (i32.mul (i32.const 12) (local.get $i))) (i32.const 1))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $level (i32.lt_u (local.get $i) (i32.const 60))))
      (i32.store (i32.const 65596) (i32.const 0xff0f005a)) (i32.store8 (i32.const 65600) (i32.const 0))
      (local.set $handle (call $cell))
      (call $cell-set (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 1048385) (i32.const 512))
      (if (call $was-refused) (then unreachable))
      (loop $again (call $cell-get (local.get $handle) (i32.const 8192) (i32.const 60) (i32.const 512)) (br $again))"),
    // The largest value, read for ever.
    ("large", "(call $grow (i32.const 20)) (i32.store (i32.const 65536) (i32.const 0xff0f005a)) (i32.store8 (i32.const 65540) (i32.const 0))
      (local.set $handle (call $cell))
      (call $cell-set (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 1048325) (i32.const 512))
      (if (call $was-refused) (then unreachable))
      (loop $again (call $cell-get (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 512)) (br $again))"),
    ("write", "(call $grow (i32.const 8)) (i32.store (i32.const 65536) (i32.const 0x0004005a)) (local.set $handle (call $cell))
      (call $cell-set (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 262149) (i32.const 512))"),
    // Three more events, each one less, as often as the event says.
    ("multiply", "(if (i32.load8_u (local.get $event)) (then
      (i32.store8 (local.get $event) (i32.sub (i32.load8_u (local.get $event)) (i32.const 1)))
      (local.set $handle (call $stream))
      (loop $again (call $send (local.get $handle) (local.get $event) (i32.const 1))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $again (i32.lt_u (local.get $i) (i32.const 3))))))"),
    ("streams", "(loop $again (call $stream-drop (call $stream)) (br $again))"),
    // Wishes whose shapes are as long as they may be.
    ("wishes", "(loop $fill (i32.store8 (i32.add (i32.const 65536) (local.get $i)) (i32.const 91))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $fill (i32.lt_u (local.get $i) (i32.const 60))))
      (loop $fill (i32.store8 (i32.add (i32.const 65536) (local.get $i)) (i32.const 32))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $fill (i32.lt_u (local.get $i) (i32.const 4000))))
      (i32.store (i32.const 8192) (i32.const 70)) (i32.store (i32.const 8196) (i32.const 4))
      (i32.store (i32.const 8200) (i32.const 65536)) (i32.store (i32.const 8204) (i32.const 4000))
      (loop $again (call $find (i32.const 8192) (i32.const 1)) (br $again))"),
    // Requests without a grant, with as many headers as fit.
    ("headers", "(call $grow (i32.const 30)) (loop $again
      (call $get-url (i32.const 81) (i32.const 18) (i32.const 65536) (i32.const 100000)) (br $again))"),
    // A path as long as fits, into nothing.
    ("paths", "(call $grow (i32.const 30)) (local.set $handle (call $cell)) (loop $again
      (call $cell-get (local.get $handle) (i32.const 65536) (i32.const 100000) (i32.const 512)) (br $again))"),
    // Events that are no values, as large as fits.
    ("events", "(call $grow (i32.const 30)) (memory.fill (i32.const 65536) (i32.const 0x81) (i32.const 1000000))
      (local.set $handle (call $stream)) (loop $again
      (call $send (local.get $handle) (i32.const 65536) (i32.const 1000000)) (br $again))"),
    // A value of as many items as fit, written again and again.
    ("items", "(call $grow (i32.const 30)) (i32.store (i32.const 65536) (i32.const 0xf00f009a)) (i32.store8 (i32.const 65540) (i32.const 0xff))
      (i32.store8 (i32.const 65536) (i32.const 0x9a)) (i32.store8 (i32.const 65537) (i32.const 0)) (i32.store8 (i32.const 65538) (i32.const 0x0f))
      (i32.store8 (i32.const 65539) (i32.const 0xf0)) (i32.store8 (i32.const 65540) (i32.const 0))
      (local.set $handle (call $cell)) (loop $again
        (i32.store8 (i32.const 65541) (local.get $i)) (local.set $i (i32.and (i32.add (local.get $i) (i32.const 1)) (i32.const 15)))
        (call $cell-set (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 1044485) (i32.const 512))
        (if (call $was-refused) (then unreachable))
        (br $again))"),
    // Lines that say nothing.
    ("log-nothing", "(loop $again (call $log (i32.const 3) (i32.const 1024) (i32.const 0)) (br $again))"),
    ("log", "(loop $again (call $log (i32.const 3) (i32.const 1024) (i32.const 1000)) (br $again))"),
    ("talk", "(call $reject (i32.const 1024) (i32.const 65536))"),
    ("fetch", "(loop $again (call $get-url (i32.const 81) (i32.const 18) (i32.const 0) (i32.const 0)) (br $again))"),
];

/// Returns a charm that does one of [`KINDS`].
pub fn hostile(code: &str) -> Vec<u8> {
    charm(&[("in module", "(func $down (call $down) (call $self-did (i32.const 512)))"), ("in handle", code)])
}

/// Returns the component with text in place of some of its parts: comments named by their words, or any text.
pub fn charm(changes: &[(&str, &str)]) -> Vec<u8> {
    let (shim, imports, link) = host_calls();
    let mut text = CHARM.to_owned();
    for (part, with) in [("shim", &*shim), ("host calls", &*imports), ("link", &*link)].iter().chain(changes) {
        let comment = format!("(; {part} ;)");
        let part = if text.contains(&comment) { &comment } else { *part };
        assert!(text.contains(part), "{part}");
        text = text.replace(part, with);
    }
    charm_conformance::assembled(&text)
}

/// The module's memory is there only after the module, which wants the calls that need it: they go through a table.
fn host_calls() -> (String, String, String) {
    let drops = DROPS.map(|(name, _)| (name, "", "", "i", ""));
    let calls = CALLS.iter().chain(&drops);
    let words = |letters: &str| letters.chars().map(|c| if c == 'i' { "i32 " } else { "i64 " }).collect::<String>();
    let number = CALLS.len() + DROPS.len();
    let mut shim = format!("(core module $shim-module (table (export \"table\") {number} {number} funcref)\n");
    let (mut imports, mut canon, mut wanted) = (String::new(), String::new(), String::new());
    let (mut given, mut elements) = (String::new(), String::new());
    for (index, (name, instance, function, parameters, results)) in calls.enumerate() {
        let kind = format!("(param {}) (result {})", words(parameters), words(results));
        let pushed: String = (0..parameters.len()).map(|n| format!("(local.get {n}) ")).collect();
        let call = format!("(call_indirect {kind} {pushed} (i32.const {index}))");
        writeln!(shim, "  (func (export \"{name}\") {kind} {call})").unwrap();
        writeln!(imports, "    (import \"host\" \"{name}\" (func ${name} {kind}))").unwrap();
        writeln!(wanted, "  (import \"\" \"{name}\" (func ${name} {kind}))").unwrap();
        match DROPS.iter().find(|(drop, _)| drop == name) {
            Some((_, resource)) => writeln!(canon, "(core func ${name} (canon resource.drop ${resource}))").unwrap(),
            None => {
                let options = "(memory $memory) (realloc $realloc)";
                writeln!(canon, "(core func ${name} (canon lower (func ${instance} \"{function}\") {options}))")
                    .unwrap();
            }
        }
        write!(given, "(export \"{name}\" (func ${name})) ").unwrap();
        write!(elements, "${name} ").unwrap();
    }
    shim += ") (core instance $shim (instantiate $shim-module))";
    let fill = format!(
        "(core module $fill (import \"\" \"table\" (table {number} funcref))\n{wanted}  (elem (i32.const 0) func {elements}))"
    );
    let table = "(alias core export $shim \"table\" (core table $table))";
    let link = format!(
        "{canon}{table}\n{fill}\n(core instance (instantiate $fill (with \"\" (instance (export \"table\" (table $table)) {given}))))"
    );
    (shim, imports, link)
}

/// Returns the version of the host's interfaces that it imports, as `@0.0.0`.
pub fn version() -> &'static str {
    let start = CHARM.find("charm:host/cells").map_or(0, |at| at + "charm:host/cells".len());
    CHARM[start..].split('"').next().unwrap_or_default()
}
