//! Code of the embedder's that panics while the host calls it: whatever was under way is whole or not there.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tracing_subscriber::{Layer, layer::Context, prelude::*};

use super::*;

/// A subscriber that panics at the event after so many others.
#[derive(Clone)]
struct Bomb(Arc<AtomicI64>);

impl<S: tracing::Subscriber> Layer<S> for Bomb {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        // The host's own events: those of the libraries below it are told from their threads and tasks.
        let is_ours = event.metadata().target().starts_with("charm");
        if is_ours && self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            panic!("a bug in the embedder's subscriber");
        }
    }
}

/// T5, T6, A5: at whichever event of a turn, from its acceptance to its receipts, the subscriber panics: that turn is
/// whole or a fault, the charms go on, and memory and log are the same.
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
            let is_whole = receipt.outcome == Outcome::Committed;
            assert!(is_whole || receipt.outcome == Outcome::Faulted, "{nth}: {receipt:?}");
            assert_eq!(cell(&host, a, "x").await == json!(1), is_whole, "{nth}: {receipt:?}");
        }
        is_served(&host, a).await;
        is_served(&host, b).await;
        host.verify_store().unwrap();
        rounds = nth;
        if !has_gone_off {
            break;
        }
    }
    assert!(rounds > 10, "the turn has more events than {rounds}");
}
