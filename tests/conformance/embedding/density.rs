//! Many charms of few components: what they share, and what an install of thousands does once (A5, I1).

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use charm_conformance::{GatedStore, Keys, builder, cell, component, host, probe_charm, run, until};
use charm_host::{
    Charm, Component, Components, Did, Host, InstallError, KeyError, Keyring, Manifest, MemoryStore, Names, Outcome,
};
use futures_util::future::join_all;
use serde_json::json;
use zeroize::Zeroizing;

use super::by_hand;

fn held(host: &Host) -> (u64, u64) {
    let Components { held, loads, .. } = host.components();
    (held, loads)
}

/// A5: code is compiled, linked and described once for all charms of it, however they are installed.
#[tokio::test(flavor = "multi_thread")]
async fn charms_of_one_component_hold_its_code_once() {
    let host = host().await;
    let shared = Component::from(component("probe"));
    let charms = (0..50).map(|number| Charm::new(format!("shared-{number}"), shared.clone()));
    let other = (0..50).map(|number| Charm::new(format!("own-{number}"), component("counter")));
    let dids = host.install_all(charms.chain(other).collect()).await.unwrap();
    assert_eq!(dids.iter().collect::<BTreeSet<_>>().len(), 100);
    assert_eq!(held(&host), (2, 2));
    // One by one, from bytes of its own, described before.
    let description = host.describe(Charm::new("look", component("probe"))).await.unwrap();
    assert_eq!(description.sha256, shared.sha256());
    host.install(Charm::new("again", component("probe"))).await.unwrap();
    assert_eq!(held(&host), (2, 2));
    for did in [dids[0], dids[49]] {
        assert_eq!(run(&host, did, json!([["set", "c", [], 1]])).await.outcome, Outcome::Committed);
    }
    let told = host.charms();
    let descriptors: BTreeSet<_> = told.iter().map(|charm| Arc::as_ptr(&charm.descriptor).addr()).collect();
    assert_eq!((told.len(), descriptors.len()), (101, 2), "what a component says of itself is kept once");
    host.shutdown().await.unwrap();
}

/// A5: whoever installs a component while others load it waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_many_install_at_once_is_loaded_once() {
    let host = host().await;
    let installs = (0..16).map(|number| {
        let host = host.clone();
        tokio::spawn(async move { host.install(probe_charm(&format!("probe-{number}"))).await.unwrap() })
    });
    let dids: BTreeSet<Did> = join_all(installs).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(dids.len(), 16);
    assert_eq!(held(&host), (1, 1));
    host.shutdown().await.unwrap();
}

/// A5: code goes with the last charm that runs it: uninstalled, or given another component.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_charm_of_a_component_takes_its_code_along() {
    let host = host().await;
    let [first, second] = ["first", "second"].map(probe_charm);
    let dids = host.install_all(vec![first, second]).await.unwrap();
    assert_eq!(run(&host, dids[0], json!([["set", "c", [], 1]])).await.outcome, Outcome::Committed);
    host.uninstall(&dids[0]).await.unwrap();
    assert_eq!(held(&host), (1, 1));
    assert_eq!(run(&host, dids[1], json!([["set", "c", [], 1]])).await.outcome, Outcome::Committed);
    host.install(Charm::new("second", component("counter"))).await.unwrap();
    until("the code of the first component goes", || held(&host) == (1, 2)).await;
    host.uninstall(&dids[1]).await.unwrap();
    until("no code is left", || held(&host) == (0, 2)).await;
    // It is loaded anew.
    assert_eq!(host.install(probe_charm("first")).await.unwrap(), dids[0]);
    assert_eq!((held(&host), cell(&host, dids[0], "c").await), ((1, 3), json!(1)));
    host.shutdown().await.unwrap();
}

/// A component that cannot be described is asked each time, and nothing of it is held.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_fails_to_load_is_not_held_and_holds_up_nobody() {
    let host = host().await;
    let broken = by_hand::charm(&[("in describe", "unreachable")]);
    for _ in 0..3 {
        let many = ["good", "broken", "worse"].map(|name| match name {
            "good" => probe_charm(name),
            name => Charm::new(name, broken.clone()),
        });
        let refused = host.install_all(many.to_vec()).await;
        assert!(matches!(&refused, Err(InstallError::Describe { charm, .. }) if charm == "broken"), "{refused:?}");
    }
    until("nothing is held", || held(&host).0 == 0).await;
    assert_eq!((host.charms().len(), host.did_of("good")), (0, None), "none of them has a key");
    host.install(probe_charm("good")).await.unwrap();
    host.shutdown().await.unwrap();
}

/// Keys that count how often they are asked for.
#[derive(Clone, Default)]
struct Counted {
    keys: Keys,
    calls: Arc<Mutex<Vec<usize>>>,
    signs: Arc<AtomicUsize>,
}

impl Keyring for Counted {
    fn create(&self, randomness: &Zeroizing<[u8; 32]>) -> Result<Did, KeyError> {
        self.calls.lock().unwrap().push(1);
        self.keys.create(randomness)
    }

    fn create_all(&self, randomness: &[Zeroizing<[u8; 32]>]) -> Result<Vec<Did>, KeyError> {
        self.calls.lock().unwrap().push(randomness.len());
        randomness.iter().map(|randomness| self.keys.create(randomness)).collect()
    }

    fn check(&self, did: &Did) -> Result<(), KeyError> {
        self.keys.check(did)
    }

    fn sign(&self, did: &Did, message: &[u8]) -> Result<[u8; 64], KeyError> {
        self.signs.fetch_add(1, Ordering::Relaxed);
        self.keys.sign(did, message)
    }
}

/// I1: an install of thousands asks the keyring once for all their keys, and the store for a batch for each thousand.
#[tokio::test(flavor = "multi_thread")]
async fn an_install_of_thousands_is_one_call_for_keys_and_few_batches() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let keys = Counted::default();
    let host = builder().store(store).keyring(keys.clone()).open().await.unwrap();
    // Heads are signed in batches of their own.
    let batches = Arc::new(AtomicUsize::new(0));
    let count = batches.clone();
    control.look(move |batch| {
        count.fetch_add(usize::from(!batch.spaces.is_empty()), Ordering::Relaxed);
    });
    let batches = || batches.load(Ordering::Relaxed);
    keys.calls.lock().unwrap().clear();
    let probe = Component::from(component("probe"));
    let charms = |count: usize| (0..count).map(|number| Charm::new(format!("charm-{number}"), probe.clone())).collect();
    let dids = host.install_all(charms(3_000)).await.unwrap();
    assert_eq!(*keys.calls.lock().unwrap(), [3_000]);
    assert!(batches() <= 6, "a thousand spaces a batch, or what was left of the batch before: {}", batches());
    // Those that are known keep their DIDs, and those that are new come in one batch again.
    let before = batches();
    let again = host.install_all(charms(3_100)).await.unwrap();
    assert_eq!(again[..3_000], dids);
    assert_eq!((&*keys.calls.lock().unwrap(), batches() - before), (&vec![3_000, 100], 1));
    assert_eq!((host.charms().len(), host.did_of("charm-3099")), (3_100, Some(again[3_099])));
    assert_eq!(held(&host), (1, 1));
    host.shutdown().await.unwrap();
}

/// The same DID for two charms is refused, in one install as in two.
#[tokio::test(flavor = "multi_thread")]
async fn two_charms_that_are_installed_together_have_two_dids() {
    let keys = Keys::default();
    let did = keys.create(&Zeroizing::new([7; 32])).unwrap();
    let host = builder().keyring(keys).open().await.unwrap();
    let both = ["a", "b"].map(|name| probe_charm(name).pinned(did)).to_vec();
    let refused = host.install_all(both).await;
    assert!(
        matches!(&refused, Err(InstallError::OtherName { charm, name, .. }) if (&**charm, &**name) == ("b", "a")),
        "{refused:?}"
    );
    assert_eq!(host.install_all(vec![probe_charm("b").pinned(did)]).await.unwrap(), [did]);
    host.shutdown().await.unwrap();
}

/// A manifest of ten thousand charms: each file is read and loaded once, and every charm has its own grants.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_ten_thousand_charms_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["probe", "counter"] {
        std::fs::write(folder.path().join(format!("{name}.wasm")), component(name)).unwrap();
    }
    let mut text = String::new();
    for number in 0..10_000 {
        let (file, next) = (["probe", "counter"][number % 2], (number + 2) % 10_000);
        text += &format!("[charm.c-{number}]\ncomponent = \"{file}.wasm\"\n");
        if number % 2 == 0 {
            text += &format!("grant = [{{ charm = \"c-{next}\", read = [\"shared\"], send = [\"note\"] }}]\n");
        }
    }
    let file = folder.path().join("charms.toml");
    std::fs::write(&file, text).unwrap();
    let manifest = Manifest::load(&file).unwrap();
    let host = host().await;
    let dids = manifest.install(&host).await.unwrap();
    assert_eq!((dids.len(), host.charms().len(), held(&host)), (10_000, 10_000, (2, 2)));
    assert_eq!(host.rights(&dids["c-0"]).len(), 2);
    assert_eq!(host.rights(&dids["c-1"]).len(), 0);
    let receipt = run(&host, dids["c-0"], json!([["send", [dids["c-2"].to_string(), "note"], 1]])).await;
    assert_eq!(receipt.outcome, Outcome::Committed);
    host.settled().await.unwrap();
    assert_eq!(cell(&host, dids["c-2"], "notes").await, json!([1]));
    assert!(manifest.check(&host, &host.spaces()).await.iter().all(|finding| !finding.is_refused));
    host.shutdown().await.unwrap();
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or_default() << 10
}

/// What an installed charm takes of memory, printed: `cargo test --test embedding -- --ignored --nocapture takes_of_memory`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn what_a_charm_takes_of_memory() {
    let home = charm_conformance::Home::default();
    let host = home.open().await;
    let count = 20_000;
    let components: Vec<Component> = (0..100)
        .map(|number| by_hand::charm(&[("in module", &format!("(global i32 (i32.const {number}))"))]).into())
        .collect();
    let charm = |number: usize| Charm::new(format!("charm-{number}"), components[number % 100].clone());
    host.install_all((0..100).map(charm).collect()).await.unwrap();
    let before = resident();
    let start = std::time::Instant::now();
    let charms = (0..count).map(|number| match number {
        0 => charm(number),
        _ => charm(number).may_send(format!("charm-{}", number - 1).as_str(), Names::only(["run"])),
    });
    let dids = host.install_all(charms.collect()).await.unwrap();
    let took = start.elapsed();
    let installed = resident();
    for some in dids.chunks(256) {
        join_all(some.iter().map(|did| host.request(charm_host::NewEvent::new(*did, "run", &1)))).await;
    }
    let turned = resident();
    eprintln!(
        "{count} charms installed in {took:?}: {} bytes each, {} after a turn of each",
        (installed - before) / count,
        (turned - before) / count
    );
    host.shutdown().await.unwrap();
}
