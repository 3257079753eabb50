//! The two field reports that this runtime answers, told with probes: `auth` keeps a token, `search` needs it fresh.
//!
//! The first: a handler of `search` wrote to the token's cell and failed. The second: `search` asked `auth` to
//! refresh and named a callback, which got the transaction of `auth` and died in a conflict error of 363 KB.
#![allow(clippy::unwrap_used, reason = "tests")]

use charm_conformance::*;
use charm_host::{Charm, Did, Host, Names, Outcome};
use serde_json::{Value as Json, json};

/// Returns `auth`, whose token is stale, and `search`, which may read it and send to it.
async fn auth_and_search(host: &Host) -> (Did, Did) {
    let [auth, search] = probes(host, ["auth", "search"]).await;
    run(host, auth, json!([["set", "token", [], "stale"]])).await;
    (auth, search)
}

/// Has `search` send steps to `auth` and name `on-receipt`; returns the receipts that came back.
async fn receipts_of(host: &Host, search: Did, auth: Did, steps: Json) -> Json {
    let event = json!({ "steps": steps });
    let sent = run(host, search, json!([["send", of(auth, "run"), event, { "stream": "on-receipt" }]])).await;
    assert_eq!(sent.outcome, Outcome::Committed, "{sent:?}");
    settle(host).await;
    cell(host, search, "receipts").await
}

// The first report: write isolation.

/// T2
#[tokio::test]
async fn a_handler_that_writes_another_charms_cell_fails_with_the_exact_words() {
    let host = host().await;
    let auth = probe(&host, "auth").await;
    let scan = Charm::new("scan", component("trespasser")).may_read(auth, Names::All);
    let scan = host.install(scan).await.unwrap();
    let event = charm_host::NewEvent::new(scan, "start-scan", value(json!({ "n": 2 })));
    let receipt = host.request(event).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Rejected);
    let words = format!("Can not open transaction writer for {auth} because transaction has writer open for {scan}");
    assert!(receipt.message.as_ref().unwrap().starts_with(&words), "{receipt:?}");
    assert!(receipt.message.unwrap().contains("send an event to a stream of the owner"), "the way out is named");
    assert_eq!(cell(&host, scan, "done").await, Json::Null, "what the handler wrote before is gone too (T6)");
    assert_eq!(decided(auth), 0);
}

/// T2
#[tokio::test]
async fn a_handler_that_catches_the_refusal_goes_on_and_commits() {
    let host = host().await;
    let auth = probe(&host, "auth").await;
    let scan = Charm::new("scan", component("trespasser")).may_read(auth, Names::All);
    let scan = host.install(scan).await.unwrap();
    let event = charm_host::NewEvent::new(scan, "start-carefully", value(json!({ "n": 2 })));
    assert_eq!(host.request(event).await.unwrap().outcome, Outcome::Committed);
    assert_eq!(cell(&host, scan, "done").await, json!(true), "a write-isolation error, caught");
    assert_eq!(cell(&host, auth, "shaped").await, Json::Null);
}

/// T2: nothing is staged, before or after, and own writes are not touched.
#[tokio::test]
async fn a_refused_write_stages_nothing_and_the_transaction_stays_usable() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let before = commits(&host, auth);
    let results = results(
        &host,
        search,
        json!([
            ["set", "state", [], "scanning"],
            ["try", ["set", of(auth, "token"), [], "fresh"]],
            ["get", of(auth, "token"), []],
            ["set", "state", [], "done"],
            ["get", "state", []],
        ]),
    )
    .await;
    let refusal = json!({ "kind": "write-isolation", "requested": auth.to_string(), "open": search.to_string() });
    assert_eq!(results, json!([null, { "error": refusal }, "stale", null, "done"]));
    assert_eq!(cell(&host, search, "state").await, json!("done"));
    assert_eq!(cell(&host, auth, "token").await, json!("stale"));
    assert_eq!(commits(&host, auth), before, "no commit entered the space of auth");
}

/// T2: it is no silent success either when the value would not change.
#[tokio::test]
async fn a_foreign_write_is_refused_even_when_the_value_is_the_same() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let results = results(
        &host,
        search,
        json!([["try", ["set", of(auth, "token"), [], "stale"]], ["try", ["remove", of(auth, "nothing-there"), []]],]),
    )
    .await;
    for result in results.as_array().unwrap() {
        assert_eq!(result["error"]["kind"], "write-isolation");
    }
}

/// S1, S2, S6: the way out.
#[tokio::test]
async fn sending_to_the_owner_changes_its_cell_and_on_commit_sees_the_new_value() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let refresh = json!({ "steps": [["set", "token", [], "fresh"]] });
    let then = json!({ "steps": [["get", of(auth, "token"), []], ["set", "state", [], "done"]], "out": "seen" });
    let scan = json!([
        ["get", of(auth, "token"), []],
        ["send", of(auth, "run"), refresh, { "stream": "on-receipt", "tag": then }],
    ]);
    assert_eq!(results(&host, search, scan).await[0], "stale");
    settle(&host).await;
    assert_eq!(cell(&host, search, "seen").await, json!(["fresh", null]));
    assert_eq!(cell(&host, search, "state").await, json!("done"));
}

// The second report: the callback and its transaction.

/// S5: no transaction, no handle, no value of the provider.
#[tokio::test]
async fn on_commit_gets_a_status_and_nothing_else() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let receipts = receipts_of(&host, search, auth, json!([["set", "token", [], "fresh"]])).await;
    let commit = commits(&host, auth);
    let id = receipts[0]["receipt"]["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 32);
    let receipt = json!({ "id": id, "outcome": "committed", "commit": commit, "message": null });
    assert_eq!(receipts, json!([{ "receipt": receipt, "tag": null }]));
}

/// S6, T1: what the old callback died of.
#[tokio::test]
async fn on_commit_runs_in_the_senders_own_fresh_transaction() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let then = json!({
        "steps": [
            ["context"],
            ["set", "state", [], "mine"],
            ["try", ["set", of(auth, "token"), [], "not mine"]],
        ],
        "out": "seen",
    });
    let refresh = json!({ "steps": [["set", "token", [], "fresh"], ["context"]], "out": "seen" });
    let scan = json!([["send", of(auth, "run"), refresh, { "stream": "on-receipt", "tag": then }], ["context"]]);
    let first = results(&host, search, scan).await;
    settle(&host).await;
    let (provider, second) = (cell(&host, auth, "seen").await, cell(&host, search, "seen").await);
    assert_eq!(second[0]["self"], json!(search.to_string()));
    assert_eq!(second[0]["sender"], json!(search.to_string()), "the receipt is the charm's own: nobody can forge it");
    assert_eq!(second[2]["error"]["open"], json!(search.to_string()), "the transaction writes for search");
    let events = [&first[1]["event"], &provider[1]["event"], &second[0]["event"]];
    assert!(events[0] != events[1] && events[1] != events[2] && events[0] != events[2], "three turns: {events:?}");
    assert_eq!(cell(&host, search, "state").await, json!("mine"));
    assert_eq!(cell(&host, auth, "token").await, json!("fresh"));
}

/// S5, S7, T1: the same inside the handler, where the old runtime hung.
#[tokio::test]
async fn a_handler_that_waits_goes_on_in_its_own_fresh_transaction_with_a_status_and_nothing_else() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let refresh = json!({ "steps": [["set", "token", [], "fresh"], ["context"]], "out": "seen" });
    let failing = json!({ "steps": [["set", "token", [], "half"], ["reject", "no such account"]] });
    let scan = json!([
        ["get", of(auth, "token"), []],
        ["send", of(auth, "run"), refresh],
        ["wait", [0], "all", 60_000],
        ["get", of(auth, "token"), []],
        ["try", ["set", of(auth, "token"), [], "not mine"]],
        ["set", "state", [], "mine"],
        ["send", of(auth, "run"), failing],
        ["wait", [1], "all", 60_000],
        ["get", of(auth, "token"), []],
        ["context"],
    ]);
    let told = results(&host, search, scan).await;
    assert_eq!((&told[0], &told[3]), (&json!("stale"), &json!("fresh")), "after the wait it sees what was committed");
    let committed =
        json!([{ "outcome": "committed", "commit": revision(&host, auth, "token").await, "message": null }]);
    let rejected = json!([{ "outcome": "rejected", "commit": null, "message": "no such account" }]);
    assert_eq!((&told[2], &told[7]), (&committed, &rejected));
    assert_eq!(told[4]["error"]["open"], json!(search.to_string()), "the transaction writes for search");
    assert_eq!(told[8], "fresh", "a failure leaves nothing (T6)");
    let provider = cell(&host, auth, "seen").await;
    assert_ne!(told[9]["event"], provider[1]["event"], "two turns");
    assert_eq!(cell(&host, search, "state").await, json!("mine"));
}

/// T7, S5: 363 KB then, at most 2 KiB now.
#[tokio::test]
async fn a_receipt_stays_small_with_a_mebibyte_cell_behind_it_and_tells_nothing_of_it() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let secret = "s3cr3t".repeat(40_000);
    for index in 0..4 {
        assert_eq!(run(&host, auth, json!([["set", "big", [index], secret]])).await.outcome, Outcome::Committed);
    }
    assert!(value_of(&host, auth, "big").await.unwrap().as_bytes().len() > 900 << 10);
    for steps in [
        json!([["get", "big", []], ["set", "big", [0], "changed"]]),
        json!([["get", "big", []], ["get", "big", ["no", "such", "path"]]]),
        json!([["set", "big", [99], "past the end"]]),
        json!([["get", "big", []], ["panic", secret]]),
        json!([["get", "big", []], ["reject", secret]]),
    ] {
        receipts_of(&host, search, auth, steps).await;
    }
    let receipts = value_of(&host, search, "receipts").await.unwrap();
    assert_eq!(json(&receipts).as_array().unwrap().len(), 5);
    for receipt in json(&receipts).as_array().unwrap() {
        assert!(value(receipt.clone()).as_bytes().len() <= 2 << 10, "{receipt}");
        let told = receipt["receipt"]["message"].as_str().unwrap_or_default();
        let own_words = told.starts_with("s3cr3t") || told.starts_with("panicked");
        assert!(own_words || !told.contains("s3cr3t"), "only what the provider's handler says itself: {told}");
    }
}

/// S7: awaiting a send inside a handler hung for ever.
#[tokio::test]
async fn a_charm_that_waits_for_itself_and_for_one_that_waits_for_it_is_never_stuck() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let back = json!([["send", of(search, "note"), "back"], ["wait", [0], "all", 60_000]]);
    let steps = json!([
        ["send", "note", "own"],
        ["send", of(auth, "run"), { "steps": back }],
        ["wait", [0, 1], "all", 60_000],
        ["get", "notes", []],
    ]);
    assert_eq!(results(&host, search, steps).await[3], json!(["own", "back"]));
}

/// S4: or the turn ends, and the receipt comes.
#[tokio::test]
async fn a_charm_that_sends_to_itself_and_to_one_that_sends_back_is_never_stuck() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let on_receipt = json!({ "stream": "on-receipt" });
    let back = json!(["send", of(search, "note"), "back", on_receipt]);
    let itself = json!(["send", "note", "own", on_receipt]);
    let there = json!(["send", of(auth, "run"), { "steps": [back] }, on_receipt]);
    let receipt = run(&host, search, json!([itself, there])).await;
    assert_eq!(receipt.outcome, Outcome::Committed);
    settle(&host).await;
    assert_eq!(cell(&host, search, "notes").await, json!(["own", "back"]));
    assert_eq!(cell(&host, search, "receipts").await.as_array().unwrap().len(), 2);
    assert_eq!(cell(&host, auth, "receipts").await.as_array().unwrap().len(), 1);
}

/// T6: a handler that threw had its writes committed.
#[tokio::test]
async fn a_handler_that_fails_leaves_nothing_but_its_receipt() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let failures = [
        (json!(["reject", "no such account"]), "rejected", "no such account"),
        (json!(["panic", "at the disco"]), "faulted", "at the disco"),
        (json!(["trap"]), "faulted", "unreachable"),
        (json!(["spin"]), "faulted", "over fuel-max"),
        (json!(["recurse"]), "faulted", "over stack-bytes-max"),
        (json!(["grow", 64 << 20]), "faulted", "over memory-bytes-max"),
        (json!(["handles", 2_000]), "faulted", "over handles-max"),
    ];
    for (number, (failure, outcome, words)) in failures.into_iter().enumerate() {
        let note = json!(["send", of(search, "note"), "never"]);
        let steps = json!([["set", "token", [], "half"], ["set", "other", [], 1], note, failure]);
        let receipts = receipts_of(&host, search, auth, steps).await;
        let receipt = &receipts[number]["receipt"];
        assert_eq!((&receipt["outcome"], &receipt["commit"]), (&json!(outcome), &Json::Null), "{failure}");
        assert!(receipt["message"].as_str().unwrap().contains(words), "{receipt}");
        assert_eq!(cell(&host, auth, "token").await, json!("stale"), "{failure}");
        assert_eq!(cell(&host, auth, "other").await, Json::Null, "{failure}");
    }
    assert_eq!(cell(&host, search, "notes").await, Json::Null, "events of failed turns never left");
    assert_eq!(host.dead_letters(&auth, 0, usize::MAX).unwrap().len(), 6, "each fault can be looked at (S11)");
}

/// S4: an event for nobody vanished without a callback.
#[tokio::test]
async fn an_event_for_a_charm_without_a_handler_settles() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    grant(&host, search, all_of(&[auth]), all_of(&[auth])).await.unwrap();
    let stranger = host.operator();
    let tagged = |tag: &str| json!({ "stream": "on-receipt", "tag": tag });
    let steps = json!([
        ["send", of(auth, "nothing"), {}, tagged("no handler")],
        ["send", of(stranger, "run"), {}, tagged("no charm")],
        ["send", "nothing", {}, tagged("no handler of its own")],
    ]);
    assert_eq!(run(&host, search, steps).await.outcome, Outcome::Committed);
    settle(&host).await;
    let receipts = cell(&host, search, "receipts").await;
    let outcomes: Vec<_> =
        receipts.as_array().unwrap().iter().map(|event| (&event["tag"], &event["receipt"]["outcome"])).collect();
    let (none, denied) = (json!("no-such-stream"), json!("denied"));
    let expected =
        [(&json!("no handler"), &none), (&json!("no charm"), &denied), (&json!("no handler of its own"), &none)];
    assert_eq!(outcomes, expected);
}

/// S4: each send settles exactly once, also when hundreds are under way: there was a cap of 256 runs.
#[tokio::test]
async fn three_hundred_sends_are_three_hundred_turns_and_three_hundred_receipts() {
    let host = host().await;
    let (auth, search) = auth_and_search(&host).await;
    let send = json!(["send", of(auth, "note"), "again", { "stream": "on-receipt", "tag": 1 }]);
    assert_eq!(run(&host, search, json!([["repeat", 300, send]])).await.outcome, Outcome::Committed);
    settle(&host).await;
    assert_eq!(cell(&host, auth, "notes").await.as_array().unwrap().len(), 300);
    let receipts = cell(&host, search, "receipts").await;
    let ids: std::collections::BTreeSet<_> =
        receipts.as_array().unwrap().iter().map(|event| event["receipt"]["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), receipts.as_array().unwrap().len()), (300, 300));
}

/// T4: writes were dropped in silence after five retries.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_meets_eight_conflicts_still_commits() {
    let (host, hold) = (host().await, Hold::new());
    let [auth] = probes(&host, ["auth"]).await;
    let search = host.install(probe_charm("search").may_read(auth, Names::All)).await.unwrap();
    // What each attempt has read changes before it commits.
    let read = json!(["get", of(auth, "version"), []]);
    let id = send(&host, search, json!([read, hold.step(), ["set", "state", [], "done"]])).await;
    for conflict in 1..=8 {
        hold.arrived(conflict).await;
        run(&host, auth, json!([["set", "version", [], conflict]])).await;
        hold.release(1);
    }
    hold.arrived(9).await;
    hold.release(1);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, search, "state").await, json!("done"));
    until("the log tells of it", || decided(search) > 0).await;
    assert_eq!(decided(search), 1, "nine attempts, one commit");
}
