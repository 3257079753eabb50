//! What the compiler says to common mistakes: the message names what to write instead.
#![allow(missing_docs, reason = "a test")]

/// Each file under `ui/` fails to compile with the words in the `.stderr` beside it.
/// After a change of words: `TRYBUILD=overwrite cargo test -p charm-sdk --test ui`.
#[test]
fn mistakes_get_kind_words() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
