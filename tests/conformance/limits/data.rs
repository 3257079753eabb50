//! What a turn reads, writes and sends.

use super::*;

/// A5, C2
#[tokio::test(flavor = "multi_thread")]
async fn a_value_over_its_bytes_is_refused() {
    let street = Street::with(Limits { value_bytes_max: 1_000, ..small() }).await;
    // Two bytes of length before so long a string, three from 256 on.
    street.is_taken(json!(["set", "kept", [], text(997)])).await;
    street.is_taken(json!(["set", "kept", [], "as it was"])).await;
    street.is_refused(json!(["set", "large", [], text(998)]), "value-bytes-max", 1_000).await;
    street.goes_over(json!([["set", "large", [], text(998)]]), Outcome::Rejected, "name=value-bytes-max").await;
    // The bound is on the whole cell, however small the part that is written.
    street.is_taken(json!(["set", "parts", ["a"], text(600)])).await;
    street.is_refused(json!(["set", "parts", ["b"], text(600)]), "value-bytes-max", 1_000).await;
    assert_eq!(value_of(&street.host, street.greedy, "parts").await.unwrap().as_bytes().len(), 606);
}

/// A5, C2
#[tokio::test(flavor = "multi_thread")]
async fn a_value_over_its_depth_is_refused() {
    let street = Street::with(small()).await;
    let nested = |levels: usize| (1..levels).fold(json!(1), |inner, _| json!([inner]));
    // The script of a test is a few levels itself: bytes get past that.
    let bytes = |levels: usize| {
        let mut bytes = vec![0x81; levels - 1];
        bytes.push(1);
        bytes
    };
    street.is_taken(json!(["set", "deep", [], nested(50)])).await;
    street.is_taken(json!(["set-bytes", "deep", [], bytes(VALUE_DEPTH_MAX)])).await;
    let over = json!(["set-bytes", "deep", [], bytes(VALUE_DEPTH_MAX + 1)]);
    street.is_refused(over, "value-depth-max", VALUE_DEPTH_MAX as u64).await;
    // A deep value at the end of a path counts with the path.
    street.is_taken(json!(["set-bytes", "at", ["a", "b"], bytes(VALUE_DEPTH_MAX - 2)])).await;
    let over = json!(["try", ["set-bytes", "at", ["a", "b"], bytes(VALUE_DEPTH_MAX - 1)]]);
    let refused = results(&street.host, street.greedy, json!([over])).await;
    assert_eq!(refused[0]["error"]["name"], json!("value-depth-max"), "{refused}");
}

/// A5
#[tokio::test(flavor = "multi_thread")]
async fn a_path_over_its_steps_is_refused() {
    let street = Street::with(small()).await;
    let path = |steps: usize| vec!["k"; steps];
    street.is_taken(json!(["set", "deep", path(PATH_SEGMENTS_MAX - 1), 1])).await;
    for steps in [PATH_SEGMENTS_MAX, PATH_SEGMENTS_MAX + 1, 5_000] {
        let max = PATH_SEGMENTS_MAX as u64;
        street.is_refused(json!(["set", "deep", path(steps), 1]), "path-segments-max", max).await;
        street.is_refused(json!(["get", "deep", path(steps)]), "path-segments-max", max).await;
        street.is_refused(json!(["remove", "deep", path(steps)]), "path-segments-max", max).await;
    }
}

/// A5: the read set keeps paths.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_over_its_bytes_is_refused() {
    let street = Street::with(small()).await;
    let (just, over) = (vec!["k".repeat(PATH_BYTES_MAX / 2); 2], vec!["k".repeat(PATH_BYTES_MAX / 2 + 1); 2]);
    street.is_taken(json!(["set", "long", just, 1])).await;
    street.is_refused(json!(["set", "long", over, 1]), "path-bytes-max", PATH_BYTES_MAX as u64).await;
    street.is_refused(json!(["get", "long", over]), "path-bytes-max", PATH_BYTES_MAX as u64).await;
}

/// A5, T4: a turn that reads many paths of one cell depends on the whole of it; what it keeps stays bounded.
#[tokio::test(flavor = "multi_thread")]
async fn many_paths_of_a_cell_become_one_dependency_on_the_whole() {
    let logs = Logs::capture();
    for (paths, again) in [(PATHS_PER_CELL_MAX - 1, false), (PATHS_PER_CELL_MAX + 1, true)] {
        let hold = Hold::new();
        let street = Street::with(small()).await;
        let reader = probe(&street.host, "reader").await;
        grant(&street.host, reader, all_of(&[street.greedy]), Default::default()).await.unwrap();
        let mut steps: Vec<Json> =
            (0..paths).map(|n| json!(["get", of(street.greedy, "table"), [format!("row-{n}")]])).collect();
        steps.push(hold.step());
        steps.push(json!(["set", "seen", [], true]));
        let id = send(&street.host, reader, json!(steps)).await;
        hold.arrived(1).await;
        street.is_taken(json!(["set", "table", ["a row that nobody read"], 1])).await;
        hold.release(1_000);
        assert_eq!(soon(street.host.receipt(&id)).await.unwrap().outcome, Outcome::Committed);
        let conflicts = logs.lines(&id.to_string()).iter().filter(|line| line.contains("running again")).count();
        assert_eq!(conflicts > 0, again, "{paths} paths");
    }
}

/// A5: comparing shapes is work.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_over_its_bytes_is_refused() {
    let street = Street::with(small()).await;
    let shape = format!("{:<1$}", "any", SHAPE_BYTES_MAX);
    let cells = |count: usize| (0..count).map(|n| json!([format!("cell-{n}"), shape])).collect::<Vec<_>>();
    street.is_taken(json!(["wish", "#probe", { "cells": cells(WISH_BYTES_MAX / SHAPE_BYTES_MAX) }])).await;
    let over = json!(["wish", "#probe", { "cells": cells(WISH_BYTES_MAX / SHAPE_BYTES_MAX + 1) }]);
    street.is_refused(over, "wish-bytes-max", WISH_BYTES_MAX as u64).await;
}

/// A5: an event that a shape takes long to check is refused, and soon.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_takes_too_many_steps_to_check_is_refused() {
    let host = builder().limits(small()).open().await.unwrap();
    // 500 words that the items are not, before the one kind that they are.
    let words: String = (0..500).map(|n| format!("\"{n}\"|")).collect();
    let shape = format!("[{words}int]");
    let component = by_hand::described(value(json!({ "streams": { "run": { "shape": shape } } })).as_bytes());
    let hand = host.install(Charm::new("hand", component)).await.unwrap();
    let items = |count: u32| NewEvent::new(hand, "run", value(json!(vec![1; count as usize])));
    let fits = soon(host.request(items(SHAPE_STEPS_MAX / 600))).await;
    assert_eq!(fits.outcome, Outcome::Committed, "{fits:?}");
    let error = host.request(items(SHAPE_STEPS_MAX / 500 + 1)).await.unwrap_err();
    assert!(matches!(error, SendError::Shape { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("checked in {SHAPE_STEPS_MAX} steps")), "{error}");
    assert_bounded(&error.to_string());
}

/// A5: a name that no error or index could hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_over_its_bytes_is_refused() {
    let street = Street::with(small()).await;
    street.is_taken(json!(["set", text(NAME_BYTES_MAX), [], 1])).await;
    for (name, why) in
        [(text(NAME_BYTES_MAX + 1), "longer than 128"), (String::new(), "empty"), ("a\nb".into(), "control")]
    {
        let steps = json!([["try", ["get", name, []]], ["try", ["send", name, 1]]]);
        for refused in results(&street.host, street.greedy, steps).await.as_array().unwrap() {
            assert_eq!(refused["error"]["kind"], json!("invalid"), "{refused}");
            assert!(refused["error"]["why"].as_str().unwrap().contains(why), "{refused}");
        }
    }
}

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_reads_is_refused_more() {
    let street = Street::with(Limits { reads_max: 20, ..small() }).await;
    street.is_taken(json!(["repeat", 20, ["get", "other", []]])).await;
    let over = json!([["repeat", 21, ["get", "other", []]]]);
    street.goes_over(over, Outcome::Rejected, "limit name=reads-max max=20").await;
    // A write at a path reads what it keeps of its cell; a write of the whole cell reads nothing.
    let writes = |path: &[&str]| (0..21).map(|n| json!(["set", format!("c{n}"), path, 1])).collect::<Json>();
    street.goes_over(writes(&["k"]), Outcome::Rejected, "limit name=reads-max max=20").await;
    assert_eq!(run(&street.host, street.greedy, writes(&[])).await.outcome, Outcome::Committed);
    // What the turn wrote itself is no read of the store.
    let receipt =
        run(&street.host, street.greedy, json!([["set", "own", [], 1], ["repeat", 50, ["get", "own", []]]])).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
}

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_writes_is_refused_more() {
    let street = Street::with(Limits { writes_max: 10, ..small() }).await;
    let writes = |count: usize| -> Vec<Json> { (0..count).map(|n| json!(["set", "n", [], n])).collect() };
    let receipt = run(&street.host, street.greedy, json!(writes(10))).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    street.goes_over(json!(writes(11)), Outcome::Rejected, "limit name=writes-max max=10").await;
    // Writing what is there already is no write (C4).
    street.is_taken(json!(["repeat", 100, ["set", "kept", [], "as it was"]])).await;
}

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_written_bytes_is_refused_more() {
    let street = Street::with(Limits { write_bytes_max: 1_000, ..small() }).await;
    let write = |cell: &str, bytes: usize| json!(["set", cell, [], text(bytes)]);
    // What is overwritten or removed in the same turn does not count.
    let steps = json!([write("a", 900), write("a", 400), write("b", 500), ["remove", "b", []], write("c", 500)]);
    let receipt = run(&street.host, street.greedy, steps).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    // A text of 997 takes 1,000 with its length.
    street.is_taken(write("a", 997)).await;
    street.is_refused(write("a", 998), "write-bytes-max", 1_000).await;
    let steps = json!([write("a", 600), write("b", 500)]);
    street.goes_over(steps, Outcome::Rejected, "limit name=write-bytes-max max=1000").await;
}

/// A5, T6: payloads and tags together.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_sent_bytes_is_refused_more() {
    let street = Street::with(Limits { send_bytes_max: 1_000, ..small() }).await;
    let send = |bytes: usize, tag: usize| {
        let on_commit = json!({ "stream": "on-receipt", "tag": text(tag) });
        json!(["send", of(street.neighbour, "note"), text(bytes), on_commit])
    };
    // With their lengths, texts of 400 and 594 take 1,000.
    street.is_taken(send(400, 594)).await;
    street.is_refused(send(400, 595), "send-bytes-max", 1_000).await;
    settle(&street.host).await;
    let steps = json!([send(400, 100), send(300, 200)]);
    street.goes_over(steps, Outcome::Rejected, "limit name=send-bytes-max max=1000").await;
}

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_sends_is_refused_more() {
    let street = Street::with(Limits { sends_max: 5, ..small() }).await;
    let to = of(street.neighbour, "note");
    street.is_taken(json!(["repeat", 5, ["send", to, 1]])).await;
    settle(&street.host).await;
    let over = json!([["repeat", 5, ["send", to, 2]]]);
    street.goes_over(over, Outcome::Rejected, "limit name=sends-max max=5").await;
    assert_eq!(cell(&street.host, street.neighbour, "notes").await, json!([1, 1, 1, 1, 1]));
}

/// A5: from outside, and from a charm.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_over_its_bytes_is_refused() {
    let home = Home::default();
    let large = json!([["send", "note", text(3_000)]]);
    let greedy = {
        let host = home.builder().await.limits(Limits { sends_max: 0, ..small() }).open().await.unwrap();
        let greedy = probe(&host, "greedy").await;
        assert_eq!(run_unasked(&host, greedy, large.clone()).await.outcome, Outcome::Rejected, "for the sends");
        host.shutdown().await.unwrap();
        greedy
    };
    let host = home.builder().await.limits(Limits { event_bytes_max: 2_000, ..small() }).open().await.unwrap();
    probe(&host, "greedy").await;
    let error = host.request(NewEvent::new(greedy, "run", script(large))).await.unwrap_err();
    assert_eq!(error, SendError::Limit { name: "event-bytes-max", max: 2_000 });
    assert_eq!(error.to_string(), "event is over event-bytes-max 2000");
    // Accepted under a wider bound, the script runs once more: now its own send is too large.
    let letter = host.dead_letters(&greedy, 0, usize::MAX).unwrap().remove(0);
    let id = host.resend(&letter.event.to, &letter.event.id).await.unwrap();
    let receipt = soon(host.receipt(&id)).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Rejected);
    assert_eq!(receipt.message.as_deref(), Some("limit name=event-bytes-max max=2000"));

    let just = NewEvent::new(greedy, "note", value(json!(text(1_997))));
    assert_eq!(soon(host.request(just)).await.outcome, Outcome::Committed);
}

/// A5: a tag travels with every receipt.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_over_its_bytes_is_refused() {
    let street = Street::with(Limits { tag_bytes_max: 40, ..small() }).await;
    // A byte string of 38 takes 40 with its length.
    let tag = |bytes: usize| [vec![0x58, bytes as u8 - 2], vec![7; bytes - 2]].concat();
    let to = of(street.neighbour, "note");
    street.is_taken(json!(["send-tag", to, "on-receipt", tag(40)])).await;
    settle(&street.host).await;
    street.is_refused(json!(["send-tag", to, "on-receipt", tag(41)]), "tag-bytes-max", 40).await;
}

/// A5, S6: the event that carries a receipt holds the tag two levels down, and is a value like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_over_its_depth_is_refused() {
    let street = Street::with(small()).await;
    let tag = |levels: usize| [vec![0x81; levels - 1], vec![1]].concat();
    let to = of(street.neighbour, "note");
    street.is_taken(json!(["send-tag", to, "on-receipt", tag(VALUE_DEPTH_MAX - 2)])).await;
    settle(&street.host).await;
    let over = json!(["try", ["send-tag", to, "on-receipt", tag(VALUE_DEPTH_MAX - 1)]]);
    let refused = results(&street.host, street.greedy, json!([over])).await;
    assert_eq!(refused[0]["error"]["name"], json!("value-depth-max"), "{refused}");
}
