//! What the log says of what is installed: which component, by whom it may do what, from when on (U1).

use charm_conformance::{Hold, Home, builder, cell, component, counted, probe, probe_charm, receipt, run, send, until};
use charm_host::{
    Body, COMPONENT_BYTES_MAX, Charm, Component, DESCRIPTION_BYTES_MAX, Did, FolderStore, Host, Install,
    JOURNAL_GROUP_BYTES_MAX, Limits, Names, Outcome, Record, Store,
};
use serde_json::{Value as Json, json};

/// The probe with a section more, which does nothing: another component of the same kind.
fn other_probe() -> Component {
    [component("probe"), vec![0, 5, 4, b'm', b'o', b'r', b'e']].concat().into()
}

/// What the log of a space says, in a word each; which component of these for an install.
fn said(store: &impl Store, charm: Did, components: &[&Component]) -> Vec<String> {
    let word = |record: &Record| match &record.body {
        Body::Registered { .. } => "registered".to_owned(),
        Body::Installed(install) => {
            let number = components.iter().position(|known| known.sha256() == install.component).unwrap();
            format!("installed {number}{}", if install.rights.is_some() { " with rights" } else { "" })
        }
        Body::Uninstalled => "uninstalled".to_owned(),
        Body::Rights { .. } => "rights".to_owned(),
        Body::Accepted(_) => "accepted".to_owned(),
        Body::Turn(turn) => format!("turn{}", if turn.ran.is_some() { " ran" } else { "" }),
        other => format!("{other:?}"),
    };
    let log = store.log(Some(&charm), 0, usize::MAX >> 1).unwrap();
    log.iter().map(|entry| word(&Record::from_bytes(&entry.record).unwrap())).collect()
}

fn log(home: &Home, charm: Did, components: &[&Component]) -> Vec<String> {
    said(&FolderStore::open_read_only(home.store()).unwrap(), charm, components)
}

/// U1: a component, what it says of itself and its rights enter the log when they change, and not at every start.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_is_installed_when_that_changes() {
    let home = Home::default();
    let (first, second) = (Component::from(component("probe")), Component::from(component("counter")));
    let components = [&first, &second];
    let mut expected = vec!["registered", "installed 0"];
    let host = home.open().await;
    let a = host.install(Charm::new("a", first.clone())).await.unwrap();
    probe(&host, "b").await;
    assert_eq!(log(&home, a, &components), expected);
    let entry = FolderStore::open_read_only(home.store()).unwrap().entry(&a, 2).unwrap().unwrap();
    let Body::Installed(install) = Record::from_bytes(&entry.record).unwrap().body else { panic!("no install") };
    let Install { component, description, rights } = *install;
    let description: Json = description.decode().unwrap();
    assert_eq!((component, rights), (first.sha256(), None));
    assert!(description["streams"].get("run").is_some(), "as the component told it: {description}");
    assert_eq!(run(&host, a, json!([["set", "x", [], 1]])).await.outcome, Outcome::Committed);
    expected.extend(["accepted", "turn ran"]);
    host.shutdown().await.unwrap();
    for _ in 0..2 {
        let host = home.open().await;
        host.install(Charm::new("a", first.clone())).await.unwrap();
        host.install_all(vec![Charm::new("a", first.clone()), probe_charm("b")]).await.unwrap();
        assert_eq!(log(&home, a, &components), expected, "the same again says nothing");
        host.shutdown().await.unwrap();
    }
    let host = home.open().await;
    let with_rights = || Charm::new("a", first.clone()).may_read("b", Names::only(["x"]));
    host.install_all(vec![with_rights(), probe_charm("b")]).await.unwrap();
    host.install_all(vec![with_rights(), probe_charm("b")]).await.unwrap();
    host.install(Charm::new("a", second.clone())).await.unwrap();
    host.uninstall(&a).await.unwrap();
    host.install(Charm::new("a", second.clone())).await.unwrap();
    expected.extend(["installed 0 with rights", "installed 1", "rights", "uninstalled", "installed 1", "rights"]);
    assert_eq!(log(&home, a, &components), expected);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// U1: a host that ended while a charm was uninstalled leaves it installed in the log; the next one says that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_did_not_come_to_say_the_next_one_says() {
    let home = Home::default();
    let first = Component::from(component("probe"));
    let host = home.open().await;
    let a = host.install(Charm::new("a", first.clone())).await.unwrap();
    let hold = Hold::new();
    send(&host, a, json!([hold.step()])).await;
    hold.arrived(1).await;
    let uninstalls = host.clone();
    let uninstalling = tokio::spawn(async move { uninstalls.uninstall(&a).await });
    until("nobody sees it any more", || host.charms().is_empty()).await;
    let gone = || log(&home, a, &[&first]).iter().any(|word| word == "rights");
    until("that is durable", gone).await;
    uninstalling.abort();
    host.shutdown_within(std::time::Duration::ZERO).await.unwrap();
    hold.release(1);
    drop(host);
    assert!(!log(&home, a, &[&first]).iter().any(|word| word == "uninstalled"));
    let host = home.open().await;
    host.shutdown().await.unwrap();
    assert_eq!(log(&home, a, &[&first]).last().unwrap(), "uninstalled");
}

async fn held_turn(host: &Host, a: Did) -> (Hold, charm_host::EventId) {
    let hold = Hold::new();
    let id = send(host, a, json!([["get", "x", []], ["set", "x", [], 1], hold.step()])).await;
    hold.arrived(1).await;
    (hold, id)
}

/// U1: the component that the log names last is the one whose turns commit; a turn of the one before runs again.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_of_a_component_that_is_replaced_runs_again_with_the_new_one() {
    let store = charm_host::MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let (first, second) = (Component::from(component("probe")), other_probe());
    let a = host.install(Charm::new("a", first.clone())).await.unwrap();
    let (hold, id) = held_turn(&host, a).await;
    host.install(Charm::new("a", second.clone())).await.unwrap();
    hold.release(2);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((hold.count(), counted(&host).conflicts), (2, 1), "it ran twice");
    assert_eq!(cell(&host, a, "x").await, 1);
    let words = ["registered", "installed 0", "accepted", "installed 1", "turn ran"];
    assert_eq!(said(&store, a, &[&first, &second]), words);
    host.shutdown().await.unwrap();
}

/// A charm that does nothing, in that many bytes: each number is another component.
fn padded(number: u8, bytes: usize) -> Component {
    let mut wasm = charm_conformance::assembled(super::by_hand::CHARM);
    let mut length = bytes + 2;
    wasm.push(0);
    while length >= 0x80 {
        wasm.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    wasm.extend([length as u8, 1, b'n']);
    wasm.resize(wasm.len() + bytes, number);
    wasm.into()
}

/// U1: the bytes of what is installed are in the store, once for all charms of it, and go with the last of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_component_are_kept_as_long_as_a_charm_has_it_installed() {
    let home = Home::default();
    let (first, second) = (Component::from(component("probe")), Component::from(component("counter")));
    let host = home.open().await;
    let [a, b] = ["a", "b"].map(|name| Charm::new(name, first.clone()));
    let dids = host.install_all(vec![a, b]).await.unwrap();
    let kept = || {
        let store = FolderStore::open_read_only(home.store()).unwrap();
        let mut found = store.load(None).unwrap().components;
        for known in [&first, &second] {
            let place = found.iter().position(|hash| *hash == known.sha256());
            let bytes = store.component(&known.sha256()).unwrap();
            assert_eq!(bytes.as_ref(), place.map(|_| known), "what is listed is there, and nothing else");
            place.map(|place| found.remove(place));
        }
        assert!(found.is_empty(), "{found:?}");
        [&first, &second].map(|known| store.component(&known.sha256()).unwrap().is_some())
    };
    assert_eq!(kept(), [true, false]);
    host.uninstall(&dids[0]).await.unwrap();
    assert_eq!(kept(), [true, false], "the other charm has it still");
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    let host = home.open().await;
    assert_eq!(kept(), [true, false], "nobody runs it, and it is installed");
    host.install(Charm::new("b", second.clone())).await.unwrap();
    assert_eq!(kept(), [false, true]);
    host.install(Charm::new("a", first.clone())).await.unwrap();
    assert_eq!(kept(), [true, true]);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    assert_eq!(kept(), [true, true]);
}

/// A5: components of more bytes than a group of the journal takes (`JOURNAL_GROUP_BYTES_MAX`) are installed at once.
#[tokio::test(flavor = "multi_thread")]
async fn components_that_one_group_of_the_journal_cannot_hold_are_installed_together() {
    let home = Home::default();
    let host = home.open().await;
    let each = 12 << 20;
    let charms: Vec<Charm> = (0..6).map(|number| Charm::new(format!("large-{number}"), padded(number, each))).collect();
    assert!(6 * each > JOURNAL_GROUP_BYTES_MAX);
    host.install_all(charms).await.unwrap();
    assert_eq!(host.verify_store().unwrap().spaces.len(), 8);
    host.shutdown().await.unwrap();
    let store = FolderStore::open_read_only(home.store()).unwrap();
    assert_eq!(store.load(None).unwrap().components.len(), 6);
}

/// A5: a component that no group could hold is none that a host can be set to take.
#[test]
fn no_host_takes_a_component_that_its_journal_could_not_hold() {
    let most = Limits { component_bytes_max: COMPONENT_BYTES_MAX, ..Limits::default() };
    assert_eq!(most.check(), Ok(()));
    let error = Limits { component_bytes_max: COMPONENT_BYTES_MAX + 1, ..most }.check().unwrap_err();
    assert_eq!((error.name, error.max), ("component-bytes-max", COMPONENT_BYTES_MAX as u64));
    // With what is in the batch already, and what it says of itself.
    let beside = (8 << 20) + DESCRIPTION_BYTES_MAX + (1 << 20);
    assert!(COMPONENT_BYTES_MAX + beside <= JOURNAL_GROUP_BYTES_MAX);
}
