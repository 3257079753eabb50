//! What a hostile charm can make of listings.

use charm_conformance::{builder, host, pair, probe, run};
use charm_host::{Limits, NAME_BYTES_MAX, Outcome};
use serde_json::{Value as Json, json};

use crate::{fill, one, refused};

/// (A5) A start is a place in the order of names and gives no right: it leads nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_start_leads_nowhere_else() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    host.grant(a, charm_host::Right::Read { owner: b, cells: charm_conformance::only(&["items"]) }).await.unwrap();
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

/// (A5, docs/fuel.md) A listing costs by what it tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_charged_by_what_it_tells() {
    let limits = Limits { fuel_max: 100_000_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let a = probe(&host, "a").await;
    let names: Vec<String> = (0..1_000).map(|number| format!("items:{number:0100}")).collect();
    fill(&host, a, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let repeated = async |times: u32, step: Json| run(&host, a, json!([["repeat", times, step]])).await.outcome;
    // A page of one name takes some thousands, a page of a thousand 600,000 and what the guest makes of it.
    assert_eq!(repeated(2_000, json!(["names", null, "items:", 1])).await, Outcome::Committed);
    assert_eq!(repeated(2_000, json!(["names", null, "items:", 1_000])).await, Outcome::Faulted);
    assert_eq!(repeated(30_000, json!(["names", null, "nothing:", 1_000])).await, Outcome::Faulted);
    host.shutdown().await.unwrap();
}
