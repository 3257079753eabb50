//! Code of the embedder's that panics while the host calls it: whatever was under way is whole or not there.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tracing::span::{Attributes, Id};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

use super::*;

/// A subscriber that panics when it was called so many times.
#[derive(Clone)]
struct Bomb(Arc<AtomicI64>);

impl Bomb {
    fn tick(&self, metadata: Option<&tracing::Metadata<'_>>) {
        // The host's own events: those of the libraries below it are told from their threads and tasks.
        let is_ours = metadata.is_some_and(|metadata| metadata.target().starts_with("charm"));
        if is_ours && self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            panic!("a bug in the embedder's subscriber");
        }
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Bomb {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.tick(Some(event.metadata()));
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.tick(Some(attributes.metadata()));
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.tick(context.metadata(id));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.tick(context.metadata(id));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.tick(context.metadata(&id));
    }
}

/// T5, T6, A5: at whichever call of the host, from the acceptance of an event to its receipts, the subscriber panics: the
/// turn is whole, the charms go on, and memory and log are the same.
#[tokio::test]
async fn a_subscriber_that_panics_at_any_event_of_a_turn_forks_nothing() {
    let bomb = Bomb(Arc::new(AtomicI64::new(0)));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(bomb.clone()));
    let mut rounds = 0;
    for nth in 1.. {
        let store = MemoryStore::new();
        let host = Arc::new(builder().store(store.clone()).open().await.unwrap());
        let (a, b) = pair(&host).await;
        bomb.0.store(nth, Ordering::SeqCst);
        let steps = json!([
            ["set", "x", [], 1], ["log", "info", "hello"], ["try", ["set", of(b, "x"), [], 1]],
            ["send", of(b, "note"), 1, { "stream": "on-receipt", "tag": 1 }], ["send", "note", 2],
        ]);
        let asking = {
            let host = host.clone();
            tokio::spawn(async move { host.request(NewEvent::new(a, "run", script(steps))).await })
        };
        // The panic may be in the caller's own task; else the event settles.
        let asked = tokio::time::timeout(std::time::Duration::from_secs(30), asking).await.expect("an answer");
        settle(&host).await;
        let has_gone_off = bomb.0.swap(0, Ordering::SeqCst) <= 0;
        if let Ok(receipt) = asked {
            let receipt = receipt.unwrap();
            assert_eq!(receipt.outcome, Outcome::Committed, "{nth}: {receipt:?}");
            assert_eq!(cell(&host, a, "x").await, json!(1), "{nth}: {receipt:?}");
        }
        is_served(&host, a).await;
        is_served(&host, b).await;
        host.verify_store().unwrap();
        let cells = |host: &Host| host.spaces().into_iter().map(|space| (space.did, space.name)).collect::<Vec<_>>();
        let (spaces, mut memory) = (cells(&host), Vec::new());
        for (did, _) in &spaces {
            memory.push(host.cells(did).await.unwrap());
        }
        // What a host finds that opens the store again is what this one had.
        let archive = Archive::open(store).unwrap();
        let log: Vec<_> = spaces.iter().map(|(did, _)| archive.cells(did).unwrap()).collect();
        assert_eq!(memory, log, "{nth}");
        rounds = nth;
        if !has_gone_off {
            break;
        }
    }
    assert!(rounds > 30, "the turn has more calls than {rounds}");
}

/// A5: a subscriber that panics whenever it is called.
#[tokio::test]
async fn a_subscriber_that_always_panics_takes_no_turn_away() {
    struct Always;
    impl<S: tracing::Subscriber> Layer<S> for Always {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            panic!("a bug in the embedder's subscriber");
        }

        fn on_enter(&self, _: &Id, _: Context<'_, S>) {
            panic!("a bug in the embedder's subscriber");
        }

        fn on_exit(&self, _: &Id, _: Context<'_, S>) {
            panic!("a bug in the embedder's subscriber");
        }
    }
    let host = builder().open().await.unwrap();
    let (a, b) = pair(&host).await;
    let only = tracing_subscriber::filter::Targets::new().with_target("charm", tracing::Level::TRACE);
    let subscriber = tracing_subscriber::registry().with(Always.with_filter(only));
    let _guard = tracing::subscriber::set_default(subscriber);
    for n in 0..5 {
        let steps = json!([["log", "info", "hello"], ["set", "x", [], n], ["send", of(b, "note"), n]]);
        let receipt = host.request(NewEvent::new(a, "run", script(steps))).await.unwrap();
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        let faulted = host.request(NewEvent::new(a, "run", script(json!([["trap"]])))).await.unwrap();
        assert_eq!(faulted.outcome, Outcome::Faulted, "{faulted:?}");
    }
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await.as_array().unwrap().len(), 5);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}
