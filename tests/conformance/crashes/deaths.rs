//! What a process dies under: a turn, or the description of a component, that ends the host each time. The host aborts in
//! a call of that guest, which is as much a death as a fault of the engine would be.

use std::path::PathBuf;

use charm_conformance::{Ledger, WIRE, Wire, cell};
use charm_host::{EventId, Host, InstallError, LONE_RUNS_MAX, Manifest, ManifestError, Outcome, SendError, Status};

use super::{by_hand, place::Place, victim::Victim};

/// Notes for each charm, sent after the event that kills.
const NOTES: u64 = 40;

/// Returns the marks that a dead host has left: the first byte of each says for what, the second whether alone.
fn marks(place: &Place) -> Vec<(u8, bool)> {
    let bytes = std::fs::read(place.beside("running")).unwrap();
    let marks = bytes.chunks(64).map(|mark| (mark[0], mark[1] == 1));
    marks.filter(|(kind, _)| *kind != 0).collect()
}

/// Runs deadly hosts until one lives. Each but the first dies with its killer alone on a thread.
fn deaths(place: &Place, kind: u8) -> u32 {
    for death in 0.. {
        let said = Victim::spawn(place, "deadly", &[], &[]).ended();
        if said.lines().any(|line| line.starts_with("failed") || line == "settled") {
            return death;
        }
        let marks = marks(place);
        assert!(marks.iter().any(|(found, _)| *found == kind), "death {death}: {marks:?}");
        assert!(death == 0 || marks == [(kind, true)], "death {death}: {marks:?}");
    }
    unreachable!()
}

fn receipt(place: &Place, id: &EventId) -> Option<Outcome> {
    match place.archive().status(id).unwrap() {
        Status::Settled(receipt) => Some(receipt.outcome),
        _ => None,
    }
}

/// A5, S2, S4, S11: the event is run again, alone and each time later; then it is held, its charm and its neighbour go on,
/// and the operator decides.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kills_the_process_is_held_in_the_end_and_nothing_else_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let charm = |name: &str| {
        format!("[charm.{name}]\ncomponent = \"probe.wasm\"\nhttp = [{{ origin = \"{WIRE}\", methods = [\"GET\"] }}]\n")
    };
    let place = Place::with(folder.path(), &["a", "b"].map(charm).concat());
    let mut filler = Victim::spawn(&place, "fill", &[NOTES], &[]);
    filler.wait_for("full");
    let said = filler.kill();
    let deadly: EventId = said.lines().find_map(|line| line.strip_prefix("deadly ")).unwrap().parse().unwrap();

    // Once among others, then alone.
    for death in 0..=LONE_RUNS_MAX {
        let said = Victim::spawn(&place, "deadly", &[], &[]).ended();
        assert!(!said.contains("settled") && !said.contains("held"), "death {death}: {said}");
        let marks = marks(&place);
        assert!(death == 0 || marks == [(b't', true)], "death {death}: {marks:?}");
        assert!(marks.iter().any(|(kind, _)| *kind == b't'), "death {death}: {marks:?}");
        assert_eq!(receipt(&place, &deadly), None);
    }
    let waiting = |name: &str| {
        let spaces = place.archive().spaces();
        let space = spaces.into_iter().find(|space| space.name == name).unwrap();
        (space.waiting, space.held)
    };
    assert_eq!(waiting("b"), (0, 0), "the neighbour went on while the killer had to wait");
    let mut host = Victim::spawn(&place, "deadly", &[], &[]);
    host.wait_for("settled");
    assert!(host.said().contains(&format!("held {deadly}")), "{}", host.said());
    host.stop();
    host.ended();
    assert_eq!(waiting("a"), (1, 1), "all but the held event are done");
    let archive = place.archive();
    let a = archive.spaces().into_iter().find(|space| space.name == "a").unwrap().did;
    assert!(archive.waiting(&a).all(|queued| archive.is_held(queued) && queued.event.id == deadly));
    Ledger::check(&archive);

    // Where it kills nobody the operator may let it run: it is settled then, though later ones were before it.
    let host = place.builder().transport(Wire::open()).open().await.unwrap();
    place.install(&host).await;
    host.settled().await.unwrap();
    assert_eq!(host.held(&a).await.unwrap().into_iter().map(|event| event.id).collect::<Vec<_>>(), [deadly]);
    host.release(&a, &deadly).await.unwrap();
    assert_eq!(host.receipt(&deadly).await.unwrap().unwrap().outcome, Outcome::Committed);
    assert!(host.held(&a).await.unwrap().is_empty());
    host.shutdown().await.unwrap();
    Ledger::check(&place.archive()).all_settled();
}

/// A4: killed between request and record: the next host makes neither again, and tells both turns that it is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_do_harm_is_not_made_again_by_the_host_after_a_killed_one() {
    let folder = tempfile::tempdir().unwrap();
    let charm = |name: &str| {
        format!(
            "[charm.{name}]\ncomponent = \"probe.wasm\"\nhttp = [{{ origin = \"{WIRE}\", methods = [\"POST\"] }}]\n"
        )
    };
    let place = Place::with(folder.path(), &["a", "b"].map(charm).concat());
    let mut victim = Victim::spawn(&place, "charge", &[], &[]);
    victim.wait_for("charged");
    let said = victim.kill();
    let asked: Vec<EventId> =
        said.lines().filter_map(|line| line.strip_prefix("asked ")).map(|id| id.parse().unwrap()).collect();
    let wire = Wire::open();
    let host = place.builder().transport(wire.clone()).open().await.unwrap();
    let dids = place.install(&host).await;
    for (id, name) in asked.iter().zip(["a", "b"]) {
        assert_eq!(host.receipt(id).await.unwrap().unwrap().outcome, Outcome::Committed);
        assert_eq!(cell(&host, dids[name], "out").await[0]["error"]["kind"], "http-unknown", "{name}");
    }
    assert_eq!((asked.len(), wire.count()), (2, 0), "neither is made again");
    host.settled().await.unwrap();
    host.shutdown().await.unwrap();
    Ledger::check(&place.archive()).all_settled();
}

/// S4: or the operator drops it, and its sender is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_event_can_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let charm = |name: &str| {
        format!("[charm.{name}]\ncomponent = \"probe.wasm\"\nhttp = [{{ origin = \"{WIRE}\", methods = [\"GET\"] }}]\n")
    };
    let place = Place::with(folder.path(), &["a", "b"].map(charm).concat());
    let mut filler = Victim::spawn(&place, "fill", &[1], &[]);
    filler.wait_for("full");
    let said = filler.kill();
    let deadly: EventId = said.lines().find_map(|line| line.strip_prefix("deadly ")).unwrap().parse().unwrap();
    let archive = place.archive();
    let a = archive.spaces().into_iter().find(|space| space.name == "a").unwrap().did;
    let position = archive.waiting(&a).find(|queued| queued.event.id == deadly).unwrap().position;
    std::fs::write(place.beside("suspects"), format!("event {deadly} {position} {LONE_RUNS_MAX} true\n")).unwrap();
    let host = place.builder().transport(Wire::open()).open().await.unwrap();
    place.install(&host).await;
    host.settled().await.unwrap();
    host.cancel(&a, &deadly).await.unwrap();
    assert_eq!(host.receipt(&deadly).await.unwrap().unwrap().outcome, Outcome::Cancelled);
    assert_eq!(host.release(&a, &deadly).await, Err(SendError::NoSuchEvent { id: deadly }));
    assert!(host.dead_letters(&a, 0, usize::MAX).unwrap().is_empty(), "the operator has seen it");
    host.shutdown().await.unwrap();
    Ledger::check(&place.archive()).all_settled();
}

/// A5: a component that kills the process when it is asked what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_kills_the_process_is_refused_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::with(folder.path(), "[charm.c]\ncomponent = \"deadly.wasm\"\n");
    let component = by_hand::charm(&[
        (r#"(memory (export "memory") 1)"#, ""),
        (
            "in component",
            r#"(import "charm:host/log@0.2.0" (instance $log
                (type $a-level (enum "debug" "info" "warn" "error"))
                (export "level" (type $level (eq $a-level)))
                (export "log" (func (param "level" $level) (param "message" string)))))
              (core module $libc-module (memory (export "memory") 1) (data (i32.const 256) "die"))
              (core instance $libc (instantiate $libc-module))
              (core func $log (canon lower (func $log "log") (memory (core memory $libc "memory"))))"#,
        ),
        (
            "in module",
            r#"(import "host" "log" (func $log (param i32 i32 i32)))
              (import "libc" "memory" (memory 1))
              (export "memory" (memory 0))"#,
        ),
        ("with", r#"(with "libc" (instance $libc)) (with "host" (instance (export "log" (func $log))))"#),
        ("in describe", "(call $log (i32.const 3) (i32.const 256) (i32.const 3))"),
    ]);
    std::fs::write(place.manifest().with_file_name("deadly.wasm"), component).unwrap();
    assert_eq!(deaths(&place, b'd'), LONE_RUNS_MAX + 1);

    let host = place.builder().open().await.unwrap();
    let refused = installed(&place, &host).await.unwrap_err();
    let ManifestError::Install(InstallError::Deadly { charm, sha256 }) = &refused else { panic!("{refused}") };
    assert_eq!(charm, "c");
    let digits = |byte: usize| u8::from_str_radix(&sha256[2 * byte..2 * byte + 2], 16).unwrap();
    let hash: [u8; 32] = std::array::from_fn(digits);
    // The operator lets it: here nothing dies of it.
    assert!(host.release_component(hash).await.unwrap());
    installed(&place, &host).await.unwrap();
    assert!(!host.release_component(hash).await.unwrap());
    host.shutdown().await.unwrap();
}

async fn installed(place: &Place, host: &Host) -> Result<(), ManifestError> {
    Manifest::load(&place.manifest()).unwrap().install(host).await.map(drop)
}

impl Place {
    /// Returns a file of the store.
    fn beside(&self, name: &str) -> PathBuf {
        self.store().join(name)
    }
}
