//! Components written by hand as text, in `tests/guests-wat/`.

/// The smallest charm: the stream `run` takes anything and every event is handled with ok.
pub const CHARM: &str = include_str!("../guests-wat/charm.wat");

/// Returns [`CHARM`] with text in place of some of its parts: comments named by their words, or any text.
pub fn charm(changes: &[(&str, &str)]) -> Vec<u8> {
    let mut text = CHARM.to_owned();
    for (part, with) in changes {
        let comment = format!("(; {part} ;)");
        let part = if text.contains(&comment) { &comment } else { *part };
        assert!(text.contains(part), "{part}");
        text = text.replace(part, with);
    }
    text.into_bytes()
}
