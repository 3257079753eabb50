//! Fuzz loops on stable Rust: what is read from strangers never panics, never takes a second, and holds its laws. Each
//! loop begins with a saved corpus (`corpus/`), goes on with changes of it and with inputs made for it, and writes an input
//! that fails to `target/fuzz/`. `cargo xtask soak fuzz` runs five million of each.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests fail by panicking, and look at the clock")]

#[path = "../conformance/by_hand.rs"]
mod by_hand;
mod loader;
mod manifest;
mod records;
mod shapes;
mod smith;
mod tree;
mod values;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use charm_conformance::{Random, root, seed, times};

/// No input may take longer, not even in one of three tries.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes that parsers treat specially: of CBOR, of text, of wasm.
const TELLING: &[u8] =
    b"\x00\x01\x18\x1b\x1f\x2a\x40\x5f\x78\x7f\x80\x9f\xa1\xbf\xd8\xf6\xf7\xf9\xfb\xff\"'\\[]{}|?*:,=#\n(/";

/// A folder of the repository.
fn folder(name: &str) -> PathBuf {
    root().join("tests").join(name)
}

/// Returns the saved inputs of a target, by name.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = folder("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has a corpus", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Returns how many inputs to make: `CHARM_EXECUTIONS`, else `short` times the effort.
fn executions(short: u64) -> u64 {
    std::env::var("CHARM_EXECUTIONS").map_or_else(|_| times(short), |number| number.parse().unwrap())
}

/// Runs a target on its corpus, then on inputs that `make` makes of a random piece of it, as many as [`executions`] says.
fn fuzz(
    target: &str,
    short: u64,
    corpus: &[Vec<u8>],
    make: impl Fn(&mut Random, &[u8]) -> Vec<u8>,
    mut run: impl FnMut(&[u8]),
) {
    corpus.iter().for_each(|input| execute(target, input, &mut run));
    let mut random = Random::new(seed());
    for _ in 0..executions(short) {
        let base = random.pick(corpus).clone();
        execute(target, &make(&mut random, &base), &mut run);
    }
}

/// Runs a target on one input, and keeps the input when that fails.
fn execute(target: &str, input: &[u8], run: &mut impl FnMut(&[u8])) {
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
            keep(target, input);
            resume_unwind(panic);
        }
        quickest = quickest.min(start.elapsed());
        if quickest <= TIME_MAX {
            return;
        }
    }
    keep(target, input);
    panic!("{target}: {} bytes took {quickest:?}", input.len());
}

#[allow(clippy::print_stderr, reason = "a failing test shows its input")]
fn keep(target: &str, input: &[u8]) {
    let folder = folder("../target/fuzz");
    let file = folder
        .join(format!("{target}-{:016x}", input.iter().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte))));
    fs::create_dir_all(&folder).unwrap();
    fs::write(&file, input).unwrap();
    eprintln!("{target} fails on {}: {} bytes {:02x?}", file.display(), input.len(), &input[..input.len().min(256)]);
}

/// Changes some bytes in up to eight places: what a careless encoder, a cut connection or an attacker does.
fn change(random: &mut Random, base: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let end = (at + random.below(9) as usize).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = *random.pick(TELLING),
            2 if at < bytes.len() => bytes[at] = random.bits() as u8,
            3 => bytes.insert(at, *random.pick(TELLING)),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                for _ in 0..=random.below(4) {
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
            6 if random.chance(200) => bytes.truncate(at),
            _ => bytes.push(*random.pick(TELLING)),
        }
    }
    bytes
}
