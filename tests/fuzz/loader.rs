//! The loader: bytes of strangers, from noise over components with a few bytes changed to what wasm-smith makes (A1, A5).

use std::{cell::RefCell, collections::BTreeMap};

use charm_conformance::{Random, assembled, component};
use charm_host::{Charm, Compiler, Host, InstallError, Limits, MESSAGE_BYTES_MAX, is_unprintable};

use super::{by_hand, change, executions, fuzz, smith};

/// Inputs when nothing else is said.
const SHORT: u64 = 5_000;
/// One of so many inputs is compiled, if it is valid; further valid ones are not given to the host.
const COMPILED_OF: u64 = 100;
/// Inputs that are compiled at least.
const COMPILED_MIN: u64 = 200;

/// What the host says of an input, in one word.
fn word(error: &InstallError) -> &'static str {
    match error {
        InstallError::Malformed { .. } => "malformed",
        InstallError::Import { .. } => "import",
        InstallError::Version { .. } => "version",
        InstallError::World { .. } => "world",
        InstallError::Limit { .. } => "limit",
        InstallError::Describe { .. } => "describe",
        _ => "other",
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "a fuzz loop says what it has met")]
fn a_component_loads_or_is_refused_with_a_reason() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A random description may loop; nobody asks for what was compiled again.
    let limits = Limits { turns_max: 2, fuel_max: 1, ..Limits::default() };
    let host = Host::builder().compiler(Compiler::InProcess).limits(limits);
    let host = runtime.block_on(host.open()).unwrap();
    let wasi = include_str!("../guests-wat/wasi.wat");
    let corpus = [by_hand::charm(&[]), assembled(wasi), component("bench")];
    let frames = [&corpus[0], &corpus[1], &corpus[2]].map(|charm| smith::Frame::of(charm));
    let made = |random: &mut Random| {
        let made = if random.chance(500) { smith::component(random) } else { random.pick(&frames).filled(random) };
        made.unwrap_or_default()
    };
    let make = |random: &mut Random, base: &[u8]| match random.below(20) {
        // With the beginning of a component, or without.
        0..8 => {
            let head: &[u8] = if random.chance(700) { b"\0asm\x0d\0\x01\0" } else { b"" };
            head.iter().copied().chain((0..random.below(64)).map(|_| random.bits() as u8)).collect()
        }
        8..16 => change(random, base),
        16..18 => made(random),
        18 => {
            let base = made(random);
            change(random, &base)
        }
        _ => {
            let charm = random.pick(&frames).filled(random).unwrap_or_else(|| base.to_vec());
            smith::renamed(random, charm)
        }
    };
    let compiled_max = (executions(SHORT) / COMPILED_OF).max(COMPILED_MIN);
    let met = RefCell::new(BTreeMap::<&str, u64>::new());
    let meet = |word| *met.borrow_mut().entry(word).or_default() += 1;
    let times = |word| met.borrow().get(word).copied().unwrap_or_default();
    fuzz("loader", SHORT, &corpus, make, |bytes| {
        let valid = smith::is_valid(bytes);
        if valid && times("compiled") == compiled_max {
            return meet("valid, not compiled");
        }
        let result = runtime.block_on(host.install(Charm::new("stranger", bytes.to_vec())));
        let met = result.as_ref().map_or_else(word, |_| "installed");
        meet(met);
        if met != "malformed" {
            assert!(valid, "{met}: the engine takes more than the check");
            meet("compiled");
        }
        let Err(error) = result else { return };
        let text = error.to_string();
        assert!(!text.contains("compiler failed") && !matches!(error, InstallError::Unavailable(_)), "{text}");
        assert!(text.len() <= MESSAGE_BYTES_MAX && !text.contains(is_unprintable), "{text:?}");
    });
    eprintln!("loader: {:?}", met.borrow());
    for (word, least) in [("installed", 3), ("malformed", 1_000), ("import", 1), ("world", 10), ("describe", 1)] {
        assert!(times(word) >= least, "{word}: {met:?}");
    }
    runtime.block_on(host.shutdown()).unwrap();
}
