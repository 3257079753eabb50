//! Watching the cells of a charm by prefix.

use charm_host::WATCH_REMOVED_MAX;

use super::*;

/// Reads until all that there is is told; returns the cells that are there by name.
async fn all(watcher: &mut Watcher, cells: &mut BTreeMap<String, Json>) -> u64 {
    loop {
        let update = next(watcher).await;
        match &update.change {
            Change::Listed => return update.seq,
            Change::Anew => cells.clear(),
            change => apply(cells, change),
        }
    }
}

fn apply(cells: &mut BTreeMap<String, Json>, change: &Change) {
    let Change::Cell { name, value, .. } = change else { panic!("{change:?}") };
    match value {
        Some(value) => drop(cells.insert(name.to_string(), json(value))),
        None => drop(cells.remove(&**name)),
    }
}

/// D6: first all cells that there are, then each that is written or removed, in the order of the commits.
#[tokio::test(flavor = "multi_thread")]
async fn cells_by_prefix_are_listed_and_then_each_change_is_told() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let two = json!([["set", "order:1", [], 1], ["set", "order:2", [], 1], ["set", "other", [], 1]]);
    let first = run(&host, a, two).await.commit.unwrap();
    let second = set(&host, a, "order:3", json!([]), json!(1)).await;
    let mut watcher = host.watch(Watch::cells(&a, "order:")).await.unwrap();
    let updates = [next(&mut watcher).await, next(&mut watcher).await, next(&mut watcher).await];
    let seqs = updates.each_ref().map(|update| update.seq);
    assert_eq!(seqs, [first - 1, first, second], "in the middle of a commit it is not told whole yet");
    let mut cells = BTreeMap::new();
    updates.iter().for_each(|update| apply(&mut cells, &update.change));
    assert_eq!(json!(cells), json!({"order:1": 1, "order:2": 1, "order:3": 1}));
    let listed = next(&mut watcher).await;
    assert_eq!((listed.change, listed.seq), (Change::Listed, commits(&host, a)));
    set(&host, a, "other", json!([]), json!(2)).await;
    let commit = set(&host, a, "order:2", json!([]), json!(2)).await;
    let update = next(&mut watcher).await;
    assert_eq!((told(&update), update.seq), ((json!(2), commit, 0), commit));
    let removed = run(&host, a, json!([["remove", "order:1", []]])).await.commit.unwrap();
    let update = next(&mut watcher).await;
    assert_eq!((told(&update), update.seq), ((Json::Null, removed, 0), removed));
    host.shutdown().await.unwrap();
}

/// D6: who is slow is told each cell in its last state, and how many states were written over.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_is_told_each_cell_once_and_what_was_written_over_is_counted() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let mut watcher = host.watch(Watch::cells(&a, "k")).await.unwrap();
    assert_eq!(next(&mut watcher).await.change, Change::Listed);
    for round in 0..10 {
        for cell in ["k1", "k2", "k3"] {
            set(&host, a, cell, json!([]), json!(round)).await;
        }
    }
    let (mut updates, mut skipped, mut cells) = (0, 0, BTreeMap::new());
    while json!(cells) != json!({"k1": 9, "k2": 9, "k3": 9}) {
        let update = next(&mut watcher).await;
        (updates, skipped) = (updates + 1, skipped + update.skipped);
        apply(&mut cells, &update.change);
    }
    assert_eq!((updates, skipped), (3, 27));
    host.shutdown().await.unwrap();
}

/// D6: goes on where another was, exactly, removals too; where it is not known any more what went, it says so and begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_cells_goes_on_where_another_was() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "k1", [], 1], ["set", "k2", [], 1], ["set", "k3", [], 1]])).await;
    let mut cells = BTreeMap::new();
    let mut watcher = host.watch(Watch::cells(&a, "k")).await.unwrap();
    let seq = all(&mut watcher, &mut cells).await;
    // Others go on watching.
    set(&host, a, "k2", json!([]), json!(2)).await;
    run(&host, a, json!([["remove", "k1", []]])).await;
    let mut resumed = host.watch(Watch::cells(&a, "k").from(seq)).await.unwrap();
    let mut told = Vec::new();
    let last = loop {
        let update = next(&mut resumed).await;
        match &update.change {
            Change::Listed => break update.seq,
            Change::Anew => panic!("all is known"),
            change => told.push(change.clone()),
        }
    };
    told.iter().for_each(|change| apply(&mut cells, change));
    assert_eq!((told.len(), json!(cells)), (2, json!({"k2": 2, "k3": 1})));
    drop((watcher, resumed));
    host.shutdown().await.unwrap();
    let host = home.open().await;
    probe(&host, "a").await;
    run(&host, a, json!([["remove", "k3", []], ["set", "k4", [], 1]])).await;
    let mut resumed = host.watch(Watch::cells(&a, "k").from(last)).await.unwrap();
    assert_eq!(next(&mut resumed).await.change, Change::Anew);
    cells.clear();
    all(&mut resumed, &mut cells).await;
    assert_eq!(json!(cells), json!({"k2": 2, "k4": 1}));
    // From now it is exact again.
    let mut same = host.watch(Watch::cells(&a, "k").from(commits(&host, a))).await.unwrap();
    assert_eq!(next(&mut same).await.change, Change::Listed);
    host.shutdown().await.unwrap();
}

/// A5: removed cells are remembered up to a bound: who is further behind is told anew what there is.
#[tokio::test(flavor = "multi_thread")]
async fn who_missed_more_removals_than_are_remembered_begins_anew() {
    let host = host().await;
    let a = probe(&host, "a").await;
    set(&host, a, "k", json!([]), json!(1)).await;
    let mut cells = BTreeMap::new();
    let mut watcher = host.watch(Watch::cells(&a, "k")).await.unwrap();
    all(&mut watcher, &mut cells).await;
    let names: Vec<String> = (0..=WATCH_REMOVED_MAX).map(|number| format!("k{number}")).collect();
    for some in names.chunks(1_024) {
        let steps = |step: &dyn Fn(&String) -> Json| some.iter().map(step).collect::<Json>();
        run(&host, a, steps(&|name| json!(["set", name, [], 1]))).await.commit.unwrap();
        run(&host, a, steps(&|name| json!(["remove", name, []]))).await.commit.unwrap();
    }
    set(&host, a, "kept", json!([]), json!(1)).await;
    assert_eq!(next(&mut watcher).await.change, Change::Anew);
    cells.clear();
    all(&mut watcher, &mut cells).await;
    assert_eq!(json!(cells), json!({"k": 1, "kept": 1}));
    host.shutdown().await.unwrap();
}

/// D6: one cell that is written all the time hides no other, and is told itself.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_cell_comes_to_its_last_state() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let mut watcher = host.watch(Watch::cells(&a, "k")).await.unwrap();
    assert_eq!(next(&mut watcher).await.change, Change::Listed);
    for round in 0..100 {
        send(&host, a, json!([["set", "k:hot", [], round], ["set", format!("k:{}", round % 10), [], round]])).await;
    }
    let (mut cells, mut states) = (BTreeMap::new(), 0);
    while cells.get("k:hot") != Some(&json!(99)) || cells.get("k:9") != Some(&json!(99)) {
        let update = next(&mut watcher).await;
        states += 1 + update.skipped;
        let Change::Cell { name, value: Some(value), .. } = &update.change else { panic!("{update:?}") };
        let before = cells.insert(name.to_string(), json(value));
        assert!(before.is_none_or(|before| before.as_u64() < json(value).as_u64()), "in order, and no state twice");
    }
    assert!(states <= 200, "{states}");
    assert_eq!(cells.len(), 11);
    host.shutdown().await.unwrap();
}
