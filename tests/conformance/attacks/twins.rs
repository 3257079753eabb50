//! Charms of the same bytes run the same code, and share nothing else (I2, A2, A6).

use super::*;

/// What a turn finds in its own memory, data, global and table, and what it leaves there.
const LITTER: &[(&str, &str)] = &[
    (
        "in module",
        "(global $seen (mut i32) (i32.const 0)) (table $seen 2 funcref) (func $mark) (elem declare func $mark)",
    ),
    (
        "in handle",
        "(if (i32.load (i32.const 60000)) (then unreachable))
         (if (i32.ne (i32.load8_u (i32.const 64)) (i32.const 0xa1)) (then unreachable))
         (if (global.get $seen) (then unreachable))
         (if (i32.eqz (ref.is_null (table.get $seen (i32.const 1)))) (then unreachable))
         (if (i32.ne (memory.size) (i32.const 1)) (then unreachable))
         (i32.store (i32.const 60000) (i32.const 0x5ec7e7))
         (i32.store8 (i32.const 64) (i32.const 0))
         (global.set $seen (i32.const 1))
         (table.set $seen (i32.const 1) (ref.func $mark))
         (drop (memory.grow (i32.const 3)))",
    ),
];

/// A5: what a turn leaves in its memory is gone before the next of any charm of the same code, which gets the same slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_leaves_nothing_in_memory_for_a_charm_of_the_same_bytes() {
    let host = host().await;
    let litter = Component::from(by_hand::charm(LITTER));
    let charms = (0..4).map(|number| Charm::new(format!("twin-{number}"), litter.clone()));
    let twins = host.install_all(charms.collect()).await.unwrap();
    for _ in 0..50 {
        for twin in &twins {
            let receipt = host.request(NewEvent::new(*twin, "run", &1)).await.unwrap();
            assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        }
    }
    assert_eq!(host.components().loads, 1);
}

/// I2, T2, A2, A6: cells, rights, rooms, log, faults and life of one are not those of the other.
#[tokio::test(flavor = "multi_thread")]
async fn charms_of_the_same_bytes_share_nothing_but_their_code() {
    let logs = Logs::capture();
    let limits = Limits { log_bytes_per_second: 1, log_burst_bytes: 10_000, inbox_events_max: 4, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let bytes = Component::from(component("probe"));
    let twin = |name: &str| Charm::new(name, bytes.clone());
    let victim = twin("victim");
    let evil = twin("evil").may_read("victim", only(&["shared"])).may_call(Wire::grant());
    let dids = host.install_all(vec![victim, evil, twin("good")]).await.unwrap();
    let (victim, evil, good) = (dids[0], dids[1], dids[2]);
    assert_eq!(host.components().held, 1);
    // Cells: each has its own, and none can write another's.
    run(&host, victim, json!([["set", "shared", [], "mine"], ["set", "c", [], 1]])).await;
    for twin in [evil, good] {
        assert!(host.cells(&twin).await.unwrap().is_empty());
        let steps = json!([["try", ["set", of(victim, "shared"), [], "theirs"]], ["get", "shared", []]]);
        let answers = results(&host, twin, steps).await;
        assert_eq!(answers[0]["error"]["kind"], "write-isolation");
        assert_eq!(answers[1], json!(null), "a cell of the same name is another");
    }
    // Rights: what one is granted the other is not.
    let read = json!([["try", ["get", of(victim, "shared"), []]]]);
    assert_eq!(results(&host, evil, read.clone()).await[0]["ok"], "mine");
    assert_eq!(results(&host, good, read).await[0]["error"]["kind"], "denied");
    assert_eq!((host.rights(&evil).len(), host.rights(&good).len()), (2, 0));
    // Log: one has used up its share.
    for _ in 0..10 {
        run(&host, evil, json!([["repeat", 15, ["log", "warn", format!("flood {}", "x".repeat(1_000))]]])).await;
    }
    run(&host, good, json!([["log", "info", format!("heard {good}")]])).await;
    assert!(logs.lines(&evil.to_string()).iter().any(|line| line.contains("lines are dropped")));
    assert_eq!(logs.lines(&format!("heard {good}")).len(), 1);
    // Room and pauses: one that is full and paused takes nothing, the others do.
    host.pause(&evil).await.unwrap();
    let note = |to| NewEvent::new(to, "note", &1);
    while host.send(note(evil)).await.is_ok() {}
    assert_eq!(host.send(note(evil)).await, Err(SendError::QueueFull { to: evil }));
    assert_eq!(host.request(note(good)).await.unwrap().outcome, Outcome::Committed);
    host.resume(&evil).await.unwrap();
    host.settled().await.unwrap();
    // Faults and life: one that panics, and one that is gone, leave the others as they are.
    assert_eq!(run(&host, evil, json!([["panic", "boo"]])).await.outcome, Outcome::Faulted);
    host.uninstall(&evil).await.unwrap();
    assert_eq!(host.components().held, 1);
    is_served(&host, good).await;
    assert_eq!(cell(&host, victim, "shared").await, json!("mine"));
    host.verify_store().unwrap();
}
