//! Components written by hand as text, in `tests/guests-wat/`.

/// The smallest charm: the stream `run` takes anything and every event is handled with ok.
pub const CHARM: &str = include_str!("../guests-wat/charm.wat");

/// Returns [`CHARM`] with another description: these bytes.
#[allow(dead_code, reason = "not every chapter that has charms by hand describes them anew")]
pub fn described(description: &[u8]) -> Vec<u8> {
    let bytes: String = description.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let data = format!("(data (i32.const 16384) \"{bytes}\")");
    let length = description.len();
    let point = format!("(i32.store (i32.const 16) (i32.const 16384)) (i32.store (i32.const 20) (i32.const {length}))");
    charm(&[("in module", &data), ("in describe", &point)])
}

/// Returns [`CHARM`] with text in place of some of its parts: comments named by their words, or any text.
pub fn charm(changes: &[(&str, &str)]) -> Vec<u8> {
    let mut text = CHARM.to_owned();
    for (part, with) in changes {
        let comment = format!("(; {part} ;)");
        let part = if text.contains(&comment) { &comment } else { *part };
        assert!(text.contains(part), "{part}");
        text = text.replace(part, with);
    }
    charm_conformance::assembled(&text)
}
