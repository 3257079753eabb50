//! S9: an id that was used before is looked up before anything is checked, whatever has changed since.

use std::collections::BTreeMap;

use charm_host::{Did, EventId, Host, Limits, MemoryStore, NewEvent, Outcome, SendError, Status, StoreError};

use super::*;

/// What can change between two sends of the same event. After each of them a new event is refused.
const CHANGES: [&str; 13] = [
    "the shape",
    "the stream's name",
    "the stream takes receipts",
    "the grant is taken back",
    "the charm is not installed",
    "the charm is uninstalled",
    "events may be smaller",
    "the inbox is full",
    "the sender is a charm now",
    "the disk is full",
    "the disk failed",
    "the stream is private",
    "the description is another",
];

struct World {
    memory: MemoryStore,
    keys: Keys,
    host: Option<Host>,
    control: Control,
    charm: Did,
    visitor: Did,
}

impl World {
    async fn new() -> World {
        let (memory, keys) = (MemoryStore::new(), Keys::default());
        let visitor = visitor(&keys);
        let (store, control) = GatedStore::new(memory.clone());
        let host = builder().store(store).keyring(keys.clone()).open().await.unwrap();
        let charm = host.install(taking("a", "any")).await.unwrap();
        grant(&host, visitor, BTreeMap::new(), [(charm, only(&["run"]))].into()).await.unwrap();
        World { memory, keys, host: Some(host), control, charm, visitor }
    }

    fn host(&self) -> &Host {
        self.host.as_ref().unwrap()
    }

    fn event(&self, id: &str, n: u32) -> NewEvent {
        NewEvent::new(self.charm, "run", value(json!({ "n": n }))).from(self.visitor).id(id)
    }

    async fn install(&self, charm: Charm) {
        assert_eq!(self.host().install(charm).await.unwrap(), self.charm);
    }

    async fn reopen(&mut self, limits: Limits) {
        self.host.take().unwrap().shutdown().await.unwrap();
        let (store, control) = GatedStore::new(self.memory.clone());
        let host = builder().store(store).keyring(self.keys.clone()).limits(limits).open().await.unwrap();
        (self.host, self.control) = (Some(host), control);
    }

    async fn change(&mut self, what: &str) {
        match what {
            "the shape" => self.install(taking("a", "{m: string}")).await,
            "the stream's name" => self.install(on("a", "walk", json!({ "shape": "any" }))).await,
            "the stream takes receipts" => {
                self.install(on("a", "run", json!({ "shape": "any", "receipts": true }))).await;
            }
            "the grant is taken back" => {
                grant(self.host(), self.visitor, BTreeMap::new(), BTreeMap::new()).await.unwrap();
            }
            "the charm is not installed" => {
                self.reopen(Limits::default()).await;
                grant(self.host(), self.visitor, BTreeMap::new(), [(self.charm, only(&["run"]))].into()).await.unwrap();
            }
            "the charm is uninstalled" => self.host().uninstall(&self.charm).await.unwrap(),
            "events may be smaller" => {
                self.reopen(Limits { event_bytes_max: 1, ..Limits::default() }).await;
                self.install(taking("a", "any")).await;
                grant(self.host(), self.visitor, BTreeMap::new(), [(self.charm, only(&["run"]))].into()).await.unwrap();
            }
            "the inbox is full" => {
                self.reopen(Limits { inbox_events_max: 1, room_ms_max: 0, ..Limits::default() }).await;
                self.install(taking("a", "any")).await;
                grant(self.host(), self.visitor, BTreeMap::new(), [(self.charm, only(&["run"]))].into()).await.unwrap();
                self.host().pause(&self.charm).await.unwrap();
                self.host().send(self.event("the first", 1)).await.unwrap();
            }
            "the sender is a charm now" => {
                let visitor = taking("visitor", "any").pinned(self.visitor);
                assert_eq!(self.host().install(visitor).await.unwrap(), self.visitor);
            }
            "the disk is full" => {
                self.control.fail(Some(StoreError::Full));
                self.host().send(self.event("does not fit", 1)).await.unwrap_err();
            }
            "the disk failed" => {
                self.control.fail(Some(StoreError::Failed("broken".to_owned())));
                self.host().send(self.event("is lost", 1)).await.unwrap_err();
            }
            "the stream is private" => {
                // The grant goes with it.
                self.install(on("a", "run", json!({ "shape": "any", "private": true }))).await;
            }
            _ => self.install(on("a", "run", json!({ "shape": "null" }))).await,
        }
    }

    /// What is new is refused; what was sent before is known, settled or not, in every way to send.
    async fn knows(&self, what: &str, first: EventId) {
        let host = self.host();
        let new = host.send(self.event("o-2", 7)).await;
        assert!(new.is_err(), "{what}: {new:?}");
        assert_eq!(host.send(self.event("o-1", 7)).await, Ok(first), "{what}");
        for other in [
            self.event("o-1", 8),
            NewEvent::new(self.charm, "walk", value(json!({ "n": 7 }))).from(self.visitor).id("o-1"),
        ] {
            assert_eq!(host.send(other.clone()).await, Err(SendError::IdReused { id: first }), "{what}");
            assert_eq!(host.request(other).await, Err(SendError::IdReused { id: first }), "{what}");
        }
    }
}

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_settled_gives_its_first_receipt_whatever_has_changed() {
    for what in CHANGES {
        let mut world = World::new().await;
        let first = world.host().request(world.event("o-1", 7)).await.unwrap();
        assert_eq!(first.outcome, Outcome::Committed);
        world.change(what).await;
        world.knows(what, first.id).await;
        assert_eq!(world.host().request(world.event("o-1", 7)).await.as_ref(), Ok(&first), "{what}");
    }
}

/// S9: while it waits it is the same event too.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_is_the_same_event_whatever_has_changed() {
    for what in CHANGES {
        let mut world = World::new().await;
        world.host().pause(&world.charm).await.unwrap();
        let first = world.host().send(world.event("o-1", 7)).await.unwrap();
        if what == "the inbox is full" {
            world.reopen(Limits { inbox_events_max: 1, ..Limits::default() }).await;
            world.install(taking("a", "any")).await;
            grant(world.host(), world.visitor, BTreeMap::new(), [(world.charm, only(&["run"]))].into()).await.unwrap();
        } else {
            world.change(what).await;
        }
        world.knows(what, first).await;
        let status = world.host().status(&first).unwrap();
        assert_eq!(status, Status::Waiting { to: world.charm, is_held: false }, "{what}");
    }
}

/// S9, S11: a failure is its first receipt, also when the dead letter was sent again or dropped since.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_failed_gives_that_receipt_also_when_its_dead_letter_was_sent_again() {
    let world = World::new().await;
    let host = world.host();
    host.pause(&world.charm).await.unwrap();
    let ids = [host.send(world.event("o-1", 1)).await.unwrap(), host.send(world.event("o-2", 2)).await.unwrap()];
    world.install(taking("a", "string")).await;
    host.resume(&world.charm).await.unwrap();
    let first = receipt(host, &ids[0]).await;
    assert_eq!(first.outcome, Outcome::Misfit);
    let again = host.resend(&world.charm, &ids[0]).await.unwrap();
    assert_eq!(receipt(host, &again).await.outcome, Outcome::Misfit);
    receipt(host, &ids[1]).await;
    host.discard(&world.charm, &ids[1]).await.unwrap();
    assert_eq!(host.request(world.event("o-1", 1)).await.as_ref(), Ok(&first));
    assert_eq!(host.send(world.event("o-1", 1)).await, Ok(ids[0]));
    assert_eq!(host.send(world.event("o-2", 2)).await, Ok(ids[1]));
    let waiting = host.spaces().iter().map(|space| space.waiting).sum::<usize>();
    assert_eq!(waiting, 0, "nothing was sent a second time");
    host.verify_store().unwrap();
}
