//! What strangers to the protocol write to the socket of a running host: each line gets one answer, and the host serves on.
//! `CHARM_SEED` says from which seed, `CHARM_EXECUTIONS` how many lines.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{
    env,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    process::Child,
    time::Duration,
};

use common::Folder;
use serde_json::Value;

/// Lines that are right, and some that nearly are.
const CORPUS: &[&str] = &[
    r#"{"op":"send","charm":"counter","stream":"add","event":"1","id":null,"sender":null,"wait":false,"settle_s":0}"#,
    r#"{"op":"send","charm":"counter","stream":"add","event":"1","id":"a","sender":"did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp","wait":false,"settle_s":0}"#,
    r#"{"op":"send","charm":"counter","stream":"add","event":1,"id":null,"sender":null,"wait":false,"settle_s":0}"#,
    r#"{"op":"pause","charm":"counter","wait":false,"settle_s":0}"#,
    r#"{"op":"resume","charm":"counter","wait":false,"settle_s":0}"#,
    r#"{"op":"release","charm":"counter","id":"000000000001ffffa2fe0b3bea530257","wait":false,"settle_s":0}"#,
    r#"{"op":"resend","charm":"counter","id":"000000000001ffffa2fe0b3bea530257","wait":false,"settle_s":0}"#,
    r#"{"op":"discard","charm":"counter","id":"000000000001ffffa2fe0b3bea530257","wait":false,"settle_s":0}"#,
    r#"[[[[[[[[{"\u202e":1e308}]]]]]]]]"#,
    "",
];

/// Bytes that JSON treats specially.
const TELLING: &[u8] = b"\x00\x01\x7f\x80\xc3\xff\"'\\[]{}:,-0123456789.eEu/ \ttfn";

/// Lines of one connection.
const LINES: u64 = 100;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % bound
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|number| number.parse().unwrap())
}

fn line(random: &mut Random) -> Vec<u8> {
    let mut line = CORPUS[random.below(CORPUS.len())].as_bytes().to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(line.len() + 1);
        let end = (at + random.below(9)).min(line.len());
        match random.below(5) {
            0 if at < line.len() => line[at] = TELLING[random.below(TELLING.len())],
            1 => line.insert(at, TELLING[random.below(TELLING.len())]),
            2 => drop(line.drain(at..end)),
            3 => {
                let piece = line[at..end].to_vec();
                line.splice(at..at, piece);
            }
            _ => line.truncate(line.len() - line.len().min(random.below(3))),
        }
    }
    line.retain(|byte| *byte != b'\n');
    line.push(b'\n');
    line
}

struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_line_on_the_socket_gets_one_answer() {
    let folder = Folder::counter();
    let mut host = Host(folder.command(&["run"]).stdout(std::process::Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(host.0.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("serving on")));
    let effort = number("CHARM_EFFORT").unwrap_or(1);
    let lines = number("CHARM_EXECUTIONS").unwrap_or(10_000 * effort);
    let mut random = Random(number("CHARM_SEED").unwrap_or(1));
    for _ in 0..lines.div_ceil(LINES) {
        let mut client = UnixStream::connect(folder.path("charm/socket")).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut answers = BufReader::new(client.try_clone().unwrap()).lines();
        for _ in 0..LINES {
            let line = line(&mut random);
            let shown = String::from_utf8_lossy(&line).into_owned();
            client.write_all(&line).unwrap();
            let answer = answers.next().unwrap_or_else(|| panic!("no answer to {shown}")).unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let kinds = ["accepted", "failed"].iter().filter(|kind| answer.get(**kind).is_some()).count();
            assert!(kinds == 1 || answer == "done", "{shown}: {answer}");
            assert!(host.0.try_wait().unwrap().is_none(), "the host ended at {shown}");
        }
    }
    folder.json(0, &["resume", "counter"]);
    assert_eq!(folder.json(0, &["send", "counter/add", "1"])["outcome"], "committed");
}
