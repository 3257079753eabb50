//! The loader: bytes of strangers, from noise to components with a few bytes changed (A1, A5).

use std::cell::Cell;

use charm_conformance::{Random, builder, component};
use charm_host::{Charm, InstallError, Limits, MESSAGE_BYTES_MAX, is_unprintable};

use super::{by_hand, change, fuzz};

#[test]
fn a_component_loads_or_is_refused_with_a_reason() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = runtime.block_on(builder().limits(Limits { turns_max: 2, ..Limits::default() }).open()).unwrap();
    let wasi = include_str!("../guests-wat/wasi.wat");
    let corpus = [by_hand::charm(&[]), wasi.into(), component("bench")];
    let make = |random: &mut Random, base: &[u8]| match random.below(10) {
        // With the beginning of a component, or without.
        0..4 => {
            let head: &[u8] = if random.chance(700) { b"\0asm\x0d\0\x01\0" } else { b"" };
            head.iter().copied().chain((0..random.below(64)).map(|_| random.bits() as u8)).collect()
        }
        _ => change(random, base),
    };
    let (installed, refused) = (Cell::new(0_u64), Cell::new(0_u64));
    fuzz("loader", 300, &corpus, make, |bytes| {
        let result = runtime.block_on(host.install(Charm::new("stranger", bytes.to_vec())));
        let Err(error) = result else { return installed.set(installed.get() + 1) };
        refused.set(refused.get() + 1);
        let text = error.to_string();
        assert!(!text.contains("compiler failed") && !matches!(error, InstallError::Unavailable(_)), "{text}");
        assert!(text.len() <= MESSAGE_BYTES_MAX && !text.contains(is_unprintable), "{text:?}");
    });
    assert!(installed.get() >= corpus.len() as u64 && refused.get() > 0, "{installed:?} {refused:?}");
    runtime.block_on(host.shutdown()).unwrap();
}
