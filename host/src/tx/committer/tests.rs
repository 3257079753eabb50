//! What happens when a commit fails where nothing may fail, and what is seen under the lock alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::{
    component::Component,
    env::SystemEnv,
    keyring::{Keyring, MemoryKeyring},
    record::Install,
    rows::SpaceRow,
    store::MemoryStore,
    tx::versions::Change,
    value::{Tree, Value},
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

/// D2: a turn may write between the look of whoever installs and the install, which looks again and then changes nothing.
#[tokio::test]
async fn what_was_written_meanwhile_is_not_hidden_by_an_install() {
    let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(MemoryKeyring::default()));
    let key = |number| keyring.create(&zeroize::Zeroizing::new([number; 32])).expect("a key");
    let (host, one, other) = (key(1), key(2), key(3));
    let image = store.load(Some([2; 32])).expect("an empty store");
    let (limits, notify): (_, Notify) = (Arc::default(), Arc::new(|_| {}));
    let committer = Committer::start(store.clone(), keyring, SystemEnv::current(), limits, notify, image, host);
    let spaces = [(host, SpaceRow::HOST.into()), (one, "one".into()), (other, "other".into())];
    committer.register(&spaces).await.expect("a store that writes");
    let value = Value::encode(&1).expect("a number");
    let deriving = |charm, derived: &[&str]| Installing {
        charm,
        install: Box::new(Install { component: [1; 32], description: value.clone(), rights: None }),
        component: Component::from(vec![1]),
        derived: derived.iter().map(|name| (*name).to_owned()).collect(),
    };
    let written = Change { name: "sum:1".into(), value: Some(Tree::new(value.clone())), replaced: 0 };
    let snapshot = committer.versions().snapshot();
    let released = committer.versions().apply(&one, committer.order() + 1, 2, vec![written], snapshot);
    committer.versions().release(released);
    let order = || committer.locked().core.order;
    let before = order();
    let refused = committer.install(vec![deriving(other, &[]), deriving(one, &["sum", "sum:"])]);
    assert!(matches!(refused, Err(NotInstalled::Holds { charm, name }) if charm == one && name == "sum:"));
    assert_eq!(order(), before, "all or nothing");
    assert!(committer.install(vec![deriving(other, &[]), deriving(one, &["sum", "total:"])]).is_ok());
    assert_eq!(order(), before + 2);
}
