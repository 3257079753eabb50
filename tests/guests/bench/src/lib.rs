//! The guest that benches time: reads one cell, writes one, and sends itself an event until a count is down.

wit_bindgen::generate!({ path: "../../../wit", world: "charm" });

use charm::host::{cells, streams};
use exports::charm::host::guest::Guest;

struct Bench;

export!(Bench);

impl Guest for Bench {
    /// `{streams: {turn: {shape: "int"}}}`
    fn describe() -> Vec<u8> {
        b"\xa1\x67streams\xa1\x64turn\xa1\x65shape\x63int".to_vec()
    }

    /// The event is how many turns follow.
    fn handle(_: String, event: Vec<u8>) -> Result<(), String> {
        let left = match event[..] {
            [0x1a, a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
            _ => return Err("expected a 32-bit integer".into()),
        };
        let input = cells::open(None, "input").map_err(text)?;
        input.get(&[]).map_err(text)?;
        let output = cells::open(None, "output").map_err(text)?;
        output.set(&[], &event).map_err(text)?;
        // Stays a 32-bit integer in its shortest form: counts from above 65,536.
        if left > 100_000 {
            let next = [&[0x1a], &(left - 1).to_be_bytes()[..]].concat();
            let stream = streams::open(None, "turn").map_err(text)?;
            let options = streams::SendOptions { on_commit: None, deliver_after: None, expires_at: None };
            streams::send(&stream, &next, &options).map_err(text)?;
        }
        Ok(())
    }
}

fn text(error: charm::host::types::Error) -> String {
    format!("{error:?}")
}
