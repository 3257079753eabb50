//! What happens when a commit fails where nothing may fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::{
    env::SystemEnv,
    keyring::{Keyring, MemoryKeyring},
    rows::SpaceRow,
    store::MemoryStore,
};

/// T5: memory and log may differ then: the host says so and writes nothing more.
#[tokio::test]
async fn a_commit_that_panics_half_way_stops_the_host() {
    let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(MemoryKeyring::default()));
    let host = keyring.create(&zeroize::Zeroizing::new([1; 32])).expect("a key");
    let image = store.load(Some([2; 32])).expect("an empty store");
    let (limits, notify): (_, Notify) = (Arc::default(), Arc::new(|_| {}));
    let committer = Committer::start(store.clone(), keyring, SystemEnv::current(), limits, notify, image, host);
    committer.register(&[(host, SpaceRow::HOST.into())]).await.expect("a store that writes");
    assert_eq!(committer.health(), Ok(()));
    let half_way = catch_unwind(AssertUnwindSafe(|| {
        let mut locked = committer.locked();
        locked.core.order += 1;
        panic!("a bug");
    }));
    assert!(half_way.is_err());
    let stopped = Unavailable::Stopped { reason: "a commit panicked".to_owned() };
    assert_eq!(committer.health(), Err(stopped.clone()));
    assert_eq!(committer.durable(2).await, Err(stopped.clone()), "nobody is told of it");
    assert_eq!(committer.stopped().await, stopped);
    assert_eq!(committer.last_commit(&host), Some(1), "nor does a figure tell it");
    assert_eq!(store.log(None, 0, 10).expect("a log").len(), 1);
}
