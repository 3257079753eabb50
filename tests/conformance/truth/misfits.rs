//! H2: shapes hold at delivery too.

use charm_host::{Archive, MemoryStore, NewEvent, Outcome, Shape};
use serde_json::Value as Json;

use super::*;

/// H2, S6: an event that was accepted before an upgrade and no longer fits is a dead letter of its receiver, and its
/// sender hears of it. When the shape is mended, it is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_fit_after_an_upgrade_is_not_handed_over() {
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let a = host.install(taking("a", "any")).await.unwrap();
    let sender = host.install(probe_charm("sender").may_send(a, only(&["run"]))).await.unwrap();
    host.pause(&a).await.unwrap();
    let from_outside = host.send(NewEvent::new(a, "run", value(json!("text")))).await.unwrap();
    let fits = host.send(NewEvent::new(a, "run", value(json!(1)))).await.unwrap();
    let back = |tag: &str| json!({ "stream": "on-receipt", "tag": tag });
    let steps = json!([["send", of(a, "run"), "text", back("misfit")], ["send", of(a, "run"), 2, back("fits")]]);
    let sent = results(&host, sender, steps).await;
    host.install(taking("a", "int")).await.unwrap();
    host.resume(&a).await.unwrap();
    settle(&host).await;
    let misfit = receipt(&host, &from_outside).await;
    assert_eq!((misfit.outcome, misfit.commit), (Outcome::Misfit, None));
    let why = misfit.message.unwrap();
    assert!(why.contains("int") && why.contains("string") && !why.contains("text"), "{why}");
    assert_eq!(receipt(&host, &fits).await.outcome, Outcome::Committed);
    let told = cell(&host, sender, "receipts").await;
    let told: Vec<_> =
        told.as_array().unwrap().iter().map(|told| (&told["receipt"]["outcome"], &told["tag"])).collect();
    assert_eq!(told, [(&json!("misfit"), &json!("misfit")), (&json!("committed"), &json!("fits"))]);
    let letters = host.dead_letters(&a, 0, usize::MAX).unwrap();
    let dead: Vec<String> = letters.iter().map(|letter| letter.event.id.to_string()).collect();
    assert_eq!(dead, [from_outside.to_string(), sent[0].as_str().unwrap().to_owned()]);
    // It does not fit yet: another dead letter.
    let again = host.resend(&a, &from_outside).await.unwrap();
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Misfit);
    host.install(taking("a", "string")).await.unwrap();
    let again = host.resend(&a, &again).await.unwrap();
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Committed);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    Ledger::check(&Archive::open(store).unwrap()).all_settled();
}

/// H2: what was sent to a charm that nobody had installed was checked by nobody; and what is found in the store may be older
/// than the charm that is installed now.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_a_charm_that_is_not_installed_is_checked_when_it_is() {
    let (store, keys) = (MemoryStore::new(), Keys::default());
    let open = async || builder().store(store.clone()).keyring(keys.clone()).open().await.unwrap();
    let host = open().await;
    let a = host.install(taking("a", "any")).await.unwrap();
    host.pause(&a).await.unwrap();
    let found = host.send(NewEvent::new(a, "run", value(json!("found")))).await.unwrap();
    host.shutdown().await.unwrap();
    let host = open().await;
    let sender = host.install(probe_charm("sender").may_send(a, only(&["run"]))).await.unwrap();
    let sent = results(&host, sender, json!([["send", of(a, "run"), "text"], ["send", of(a, "run"), 1]])).await;
    host.install(taking("a", "int")).await.unwrap();
    host.resume(&a).await.unwrap();
    for (id, outcome) in [
        (found, Outcome::Misfit),
        (sent[0].as_str().unwrap().parse().unwrap(), Outcome::Misfit),
        (sent[1].as_str().unwrap().parse().unwrap(), Outcome::Committed),
    ] {
        assert_eq!(receipt(&host, &id).await.outcome, outcome);
    }
    host.verify_store().unwrap();
}

/// H2: of every shape and value: what fits is handled, what does not is not handed over.
#[tokio::test(flavor = "multi_thread")]
async fn of_what_waited_exactly_that_is_handed_over_that_fits_the_shape_of_now() {
    let shapes = [
        "any",
        "null",
        "bool",
        "int",
        "float",
        "string",
        "int?",
        "int | string",
        "[int]",
        "{*: int}",
        "{n: int}",
        "{n?: int}",
        "{n: {m: string}}",
        "\"yes\" | \"no\"",
        "[[string]]",
    ];
    let events: Vec<Json> = vec![
        json!(null),
        json!(true),
        json!(1),
        json!(-1),
        json!(1.5),
        json!("text"),
        json!("yes"),
        json!([]),
        json!([1, 2]),
        json!([1, "2"]),
        json!({}),
        json!({ "n": 1 }),
        json!({ "n": "1" }),
        json!({ "n": { "m": "x" } }),
        json!([["x"], []]),
    ];
    let host = host().await;
    let a = host.install(taking("a", "any")).await.unwrap();
    for shape in shapes {
        host.install(taking("a", "any")).await.unwrap();
        host.pause(&a).await.unwrap();
        let mut ids = Vec::new();
        for event in &events {
            ids.push(host.send(NewEvent::new(a, "run", value(event.clone()))).await.unwrap());
        }
        host.install(taking("a", shape)).await.unwrap();
        host.resume(&a).await.unwrap();
        let shape: Shape = shape.parse().unwrap();
        for (id, event) in ids.iter().zip(&events) {
            let fits = shape.check(&value(event.clone())).is_ok();
            let outcome = if fits { Outcome::Committed } else { Outcome::Misfit };
            assert_eq!(receipt(&host, id).await.outcome, outcome, "{event} for {shape:?}");
        }
    }
    host.verify_store().unwrap();
}

/// H2, S6: a stream that went, that takes receipts now, or that takes none any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_a_stream_of_another_kind_is_not_handed_over() {
    let plain = |stream: &str| on("a", stream, json!({ "shape": "any" }));
    let receipts = || on("a", "run", json!({ "shape": "any", "receipts": true }));
    for (charm, outcome) in [(plain("walk"), Outcome::NoSuchStream), (receipts(), Outcome::Denied)] {
        let host = host().await;
        let a = host.install(plain("run")).await.unwrap();
        host.pause(&a).await.unwrap();
        let id = host.send(NewEvent::new(a, "run", value(json!(1)))).await.unwrap();
        host.install(charm).await.unwrap();
        host.resume(&a).await.unwrap();
        assert_eq!(receipt(&host, &id).await.outcome, outcome);
        assert_eq!(host.dead_letter(&id).unwrap().unwrap().receipt.outcome, outcome);
        host.verify_store().unwrap();
    }
    // A receipt on its way to a stream that takes none any more.
    let host = host().await;
    let b = host.install(taking("b", "any")).await.unwrap();
    host.pause(&b).await.unwrap();
    let a = host.install(probe_charm("a").may_send(b, only(&["run"]))).await.unwrap();
    run(&host, a, json!([["send", of(b, "run"), 1, { "stream": "on-receipt", "tag": 1 }]])).await;
    host.install(on("a", "on-receipt", json!({ "shape": "any" }))).await.unwrap();
    host.resume(&b).await.unwrap();
    settle(&host).await;
    let letters = host.dead_letters(&a, 0, usize::MAX).unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&*letter.event.stream, letter.receipt.outcome), ("on-receipt", Outcome::Misfit));
    host.verify_store().unwrap();
}
