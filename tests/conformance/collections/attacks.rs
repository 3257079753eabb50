//! What a hostile charm can make of listings.

use charm_conformance::{builder, host, pair, probe, run};
use charm_host::{Limits, MemoryStore, NAME_BYTES_MAX, Outcome, Record};
use serde_json::{Value as Json, json};

use crate::{fill, one, refused};

/// (A5) A start is a place in the order of names and gives no right: it leads nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_start_leads_nowhere_else() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    host.grant(a, charm_host::Right::Read { owner: b, cells: charm_conformance::only(&["items:"]) }).await.unwrap();
    fill(&host, b, &["drawer:1", "items:1", "zoo"]).await;
    for start in ["", "a", "drawer:", "items:", "\u{0}"] {
        let page = one(&host, a, json!(["names", b.to_string(), "items:", 10, start])).await;
        assert_eq!(page, json!({"names": ["items:1"], "next": null}), "{start:?}");
    }
    for (start, end) in
        [("items:1\u{0}", Json::Null), ("zoo", Json::Null), ("a", json!("b")), ("\u{10ffff}", json!("zz"))]
    {
        let page = one(&host, a, json!(["names", b.to_string(), "items:", 10, start, end])).await;
        assert_eq!(page, json!({"names": [], "next": null}), "{start:?}");
    }
    host.shutdown().await.unwrap();
}

/// (A5)
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_has_bounds() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let long = "x".repeat(NAME_BYTES_MAX + 2);
    let (huge, fits) = ("x".repeat(100_000), "x".repeat(NAME_BYTES_MAX + 1));
    for step in ["names", "entries", "remove-all"] {
        assert_eq!(refused(&host, a, json!([step, null, "items:", 0])).await["why"], "limit: it is 0");
        for (listing, what) in [
            (json!([step, null, long, 1]), "prefix: longer than 128 bytes"),
            (json!([step, null, huge, 1]), "prefix: longer than 128 bytes"),
            (json!([step, null, "", 1, long]), "start: longer than 128 bytes"),
            (json!([step, null, "", 1, null, huge]), "end: longer than 128 bytes"),
        ] {
            assert_eq!(refused(&host, a, listing).await, json!({"kind": "invalid", "why": what}));
        }
        assert!(one(&host, a, json!([step, null, fits, 1, fits, fits])).await["next"].is_null());
        assert_eq!(refused(&host, a, json!([step, "did:key:z6Mk", "", 1])).await["kind"], "invalid");
    }
    host.shutdown().await.unwrap();
}

/// (A5) A page is a read, and so is each value.
#[tokio::test(flavor = "multi_thread")]
async fn pages_and_values_count_as_reads() {
    let host = builder().limits(Limits { reads_max: 4, ..Limits::default() }).open().await.unwrap();
    let a = probe(&host, "a").await;
    fill(&host, a, &["items:1", "items:2", "items:3", "items:4", "items:5"]).await;
    let outcome = async |steps: Json| run(&host, a, steps).await.outcome;
    let (names, entries) = (json!(["names", null, "items:", 2]), json!(["entries", null, "items:", 9]));
    assert_eq!(outcome(json!([names, names, names, names])).await, Outcome::Committed);
    assert_eq!(outcome(json!([names, names, names, names, names])).await, Outcome::Rejected);
    // One for the page: three values are left, and then nothing.
    let page = one(&host, a, entries.clone()).await;
    assert_eq!(page, json!({"entries": [["items:1", 0], ["items:2", 1], ["items:3", 2]], "next": "items:3\u{0}"}));
    assert_eq!(outcome(json!([entries, names])).await, Outcome::Rejected);
    assert_eq!(outcome(json!([names, names, names, entries])).await, Outcome::Rejected);
    assert_eq!(
        outcome(json!([["remove-all", null, "items:", 9], names, names, names, names])).await,
        Outcome::Rejected
    );
    host.shutdown().await.unwrap();
}

/// (A5, docs/fuel.md)
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_charged_by_what_it_tells() {
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let names: Vec<String> = (0..1_000).map(|number| format!("items:{number:0100}")).collect();
    fill(&host, a, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let fuel = async |steps: Json| {
        let commit = run(&host, a, steps).await.commit.unwrap();
        let entry = charm_host::Store::entry(&store, &a, commit).unwrap().unwrap();
        Record::from_bytes(&entry.record).unwrap().turn().unwrap().ran.unwrap().fuel
    };
    let listing = async |what: &str, prefix: &str, limit: u32| {
        let step = json!([what, null, prefix, limit]);
        fuel(json!([step, step])).await - fuel(json!([step])).await
    };
    let nothing = listing("names", "nothing:", 1_000).await;
    assert!((5_100..40_000).contains(&nothing), "{nothing}");
    let (one, all) = (listing("names", "items:", 1).await, listing("names", "items:", 1_000).await);
    assert!(one - nothing > 600 && all - one > 999 * 600, "{one} {all}");
    let with_values = listing("entries", "items:", 1_000).await;
    assert!(with_values > all + 1_000 * 300, "{with_values}");
    let over = builder().limits(Limits { fuel_max: 10_000_000, ..Limits::default() }).open().await.unwrap();
    let a = probe(&over, "a").await;
    let endless = run(&over, a, json!([["repeat", 10_000, ["names", null, "nothing:", 1]]])).await;
    assert_eq!(endless.outcome, Outcome::Faulted);
    assert!(endless.message.unwrap().contains("over fuel-max"));
    over.shutdown().await.unwrap();
    host.shutdown().await.unwrap();
}
