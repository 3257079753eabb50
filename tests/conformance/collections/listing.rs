//! Order, bounds, pages, the turn's own writes, removal by prefix.

use charm_conformance::{builder, host, pair, probe, results, run};
use charm_host::{LIST_BYTES_MAX, LIST_PAGE_MAX, LIST_PASSED_MAX, Limits, Outcome};
use serde_json::{Value as Json, json};

use crate::{fill, one, refused};

/// (C8)
#[tokio::test(flavor = "multi_thread")]
async fn cells_are_listed_by_prefix_in_the_order_of_their_bytes() {
    let host = host().await;
    let a = probe(&host, "a").await;
    fill(
        &host,
        a,
        &["items:b", "items:10", "items:9", "items", "items;", "itemS:1", "items:ä", "items:B", "items:", "z"],
    )
    .await;
    let names = async |prefix: &str| one(&host, a, json!(["names", null, prefix, 100])).await;
    let members = json!(["items:", "items:10", "items:9", "items:B", "items:b", "items:ä"]);
    assert_eq!(names("items:").await, json!({"names": members, "next": null}));
    assert_eq!(names("items:b").await["names"], json!(["items:b"]));
    assert_eq!(names("items:x").await, json!({"names": [], "next": null}));
    assert_eq!(names("itemS").await["names"], json!(["itemS:1"]));
    let all = names("").await["names"].as_array().unwrap().len();
    assert_eq!(all, 10 + 1, "and the cell with the results");
    let span = async |start: &str, end: &str| {
        one(&host, a, json!(["names", null, "items:", 100, start, end])).await["names"].clone()
    };
    assert_eq!(span("items:9", "items:b").await, json!(["items:9", "items:B"]), "from the first, before the last");
    assert_eq!(span("a", "zzz").await, members, "a span does not reach beyond the prefix");
    assert_eq!(span("items:b", "items:9").await, json!([]));
    host.shutdown().await.unwrap();
}

/// (C8)
#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_at_its_limit_and_the_next_begins_behind_it() {
    let host = host().await;
    let a = probe(&host, "a").await;
    fill(&host, a, &["items:1", "items:2", "items:3", "items:4", "items:5"]).await;
    let mut start = Json::Null;
    let mut pages = Vec::new();
    loop {
        let page = one(&host, a, json!(["names", null, "items:", 2, start])).await;
        pages.push(page["names"].clone());
        start = page["next"].clone();
        if start.is_null() {
            break;
        }
    }
    assert_eq!(json!(pages), json!([["items:1", "items:2"], ["items:3", "items:4"], ["items:5"]]));
    let many: Vec<String> = (0..LIST_PAGE_MAX + 1).map(|number| format!("many:{number:05}")).collect();
    fill(&host, a, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let page = one(&host, a, json!(["names", null, "many:", u32::MAX])).await;
    assert_eq!(page["names"].as_array().unwrap().len(), LIST_PAGE_MAX, "whatever is asked for");
    let rest = one(&host, a, json!(["names", null, "many:", 10, page["next"]])).await;
    assert_eq!(rest, json!({"names": [many.last().unwrap()], "next": null}));
    assert_eq!(one(&host, a, json!(["all-names", null, "many:", 300])).await, json!(many));
    host.shutdown().await.unwrap();
}

/// (C8) One call brings what a call for each cell would.
#[tokio::test(flavor = "multi_thread")]
async fn values_come_with_the_names_up_to_a_bound_of_bytes() {
    let limits = Limits { event_bytes_max: 1 << 20, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let a = probe(&host, "a").await;
    fill(&host, a, &["items:1", "items:2", "items:3"]).await;
    let page = one(&host, a, json!(["entries", null, "items:", 2])).await;
    assert_eq!(page["entries"], json!([["items:1", 0], ["items:2", 1]]));
    let rest = one(&host, a, json!(["entries", null, "items:", 2, page["next"]])).await;
    assert_eq!(rest, json!({"entries": [["items:3", 2]], "next": null}));
    // Each is over a third of the bound, the last one over all of it.
    let text = "x".repeat(LIST_BYTES_MAX * 2 / 5);
    let sets = ["big:1", "big:2", "big:3"].map(|name| json!(["set", name, [], text]));
    assert_eq!(run(&host, a, json!(sets)).await.outcome, Outcome::Committed);
    let long = json!([["set", "big:4", [], "x".repeat(LIST_BYTES_MAX + 1)], ["set", "big:5", [], 1]]);
    assert_eq!(run(&host, a, long).await.outcome, Outcome::Committed);
    let (mut start, mut pages) = (Json::Null, Vec::new());
    loop {
        let page = one(&host, a, json!(["entries", null, "big:", 10, start])).await;
        let names: Vec<Json> = page["entries"].as_array().unwrap().iter().map(|entry| entry[0].clone()).collect();
        pages.push(json!(names));
        start = page["next"].clone();
        if start.is_null() {
            break;
        }
    }
    assert_eq!(json!(pages), json!([["big:1", "big:2"], ["big:3"], ["big:4"], ["big:5"]]));
    host.shutdown().await.unwrap();
}

/// (C8, T3)
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_shows_what_the_turn_itself_has_written() {
    let host = host().await;
    let a = probe(&host, "a").await;
    fill(&host, a, &["items:1", "items:3", "items:5"]).await;
    let told = results(
        &host,
        a,
        json!([
            ["set", "items:2", [], "new"],
            ["remove", "items:3", []],
            ["set", "items:5", [], "changed"],
            ["set", "items:9", [], 1],
            ["remove", "items:9", []],
            ["names", null, "items:", 10],
            ["entries", null, "items:", 10],
            ["names", null, "items:", 1],
            ["names", null, "items:", 1, "items:1\u{0}"],
            ["names", null, "items:", 1, "items:2\u{0}"],
            ["remove", "items:1", []],
            ["remove", "items:2", []],
            ["remove", "items:5", []],
            ["names", null, "items:", 10]
        ]),
    )
    .await;
    assert_eq!(told[5], json!({"names": ["items:1", "items:2", "items:5"], "next": null}));
    assert_eq!(told[6]["entries"], json!([["items:1", 0], ["items:2", "new"], ["items:5", "changed"]]));
    assert_eq!(told[7], json!({"names": ["items:1"], "next": "items:1\u{0}"}));
    assert_eq!(told[8]["names"], json!(["items:2"]));
    assert_eq!(told[9], json!({"names": ["items:5"], "next": null}));
    assert_eq!(told[13], json!({"names": [], "next": null}));
    assert_eq!(one(&host, a, json!(["names", null, "items:", 10])).await["names"], json!([]));
    host.shutdown().await.unwrap();
}

/// (C8) It is an ordinary removal of each.
#[tokio::test(flavor = "multi_thread")]
async fn cells_are_removed_by_prefix_so_many_at_a_time() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    fill(&host, a, &["items:1", "items:2", "items:3", "items:4", "items:5", "keep"]).await;
    let first = one(&host, a, json!(["remove-all", null, "items:", 2])).await;
    assert_eq!(first, json!({"count": 2, "next": "items:2\u{0}"}));
    let told = results(
        &host,
        a,
        json!([
            ["set", "items:6", [], 1],
            ["remove-all", null, "items:", 2, first["next"]],
            ["names", null, "items:", 10],
            ["remove-all", null, "items:", 10],
            ["remove-all", null, "items:", 10],
            ["get", "items:6", []]
        ]),
    )
    .await;
    assert_eq!(told[1], json!({"count": 2, "next": "items:4\u{0}"}));
    assert_eq!(told[2]["names"], json!(["items:5", "items:6"]));
    assert_eq!(
        (&told[3], &told[4], &told[5]),
        (&json!({"count": 2, "next": null}), &json!({"count": 0, "next": null}), &Json::Null)
    );
    assert_eq!(one(&host, a, json!(["get", "keep", []])).await, json!(5), "what is beside them stays");
    let error = refused(&host, a, json!(["remove-all", b.to_string(), "items:", 10])).await;
    assert_eq!((&error["kind"], &error["requested"]), (&json!("write-isolation"), &json!(b.to_string())), "T2");
    host.shutdown().await.unwrap();
}

/// (C8, A5) What is staged until then is the turn's own, and another turn goes on with the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_ends_where_the_turn_may_write_no_more() {
    let limits = Limits { writes_max: 3, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let a = probe(&host, "a").await;
    for names in [["items:1", "items:2"], ["items:3", "items:4"], ["items:5", "items:6"]] {
        fill(&host, a, &names).await;
    }
    let told = run(&host, a, json!([["remove-all", null, "items:", 10]])).await;
    assert_eq!(told.outcome, Outcome::Committed);
    assert_eq!(
        one(&host, a, json!(["names", null, "items:", 10])).await["names"],
        json!(["items:4", "items:5", "items:6"])
    );
    let over = json!([["set", "a", [], 1], ["remove-all", null, "items:", 10], ["remove-all", null, "items:", 10]]);
    let over = run(&host, a, over).await;
    assert_eq!(over.outcome, Outcome::Rejected);
    assert!(over.message.as_deref().unwrap_or_default().contains("writes-max"), "{over:?}");
    assert_eq!(
        one(&host, a, json!(["names", null, "items:", 10])).await["names"],
        json!(["items:4", "items:5", "items:6"])
    );
    host.shutdown().await.unwrap();
}

/// (A5) What a page looks at has a bound: behind many names that are gone it is empty, with more to come.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_behind_many_names_that_are_not_there() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let names: Vec<String> = (0..3 * LIST_PASSED_MAX).map(|number| format!("items:0{number:03}")).collect();
    fill(&host, a, &names.iter().map(String::as_str).chain(["items:z"]).collect::<Vec<_>>()).await;
    let gone = json!(["remove-all", null, "items:0", 1_000]);
    let steps = json!([
        gone,
        ["names", null, "items:", 10],
        ["all-names", null, "items:", 10],
        ["entries", null, "items:z", 1]
    ]);
    let told = results(&host, a, steps).await;
    let last = &names[LIST_PASSED_MAX - 1];
    assert_eq!(told[1], json!({"names": [], "next": format!("{last}\u{0}")}));
    assert_eq!((&told[2], &told[3]["next"]), (&json!(["items:z"]), &Json::Null));
    host.shutdown().await.unwrap();
}

/// (S8) What was listed before a wait is told again as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_told_the_listing_of_before() {
    let host = host().await;
    let a = probe(&host, "a").await;
    fill(&host, a, &["items:1", "items:2"]).await;
    let told = results(
        &host,
        a,
        json!([
            ["names", null, "items:", 10],
            ["entries", null, "items:", 10],
            ["remove-all", null, "items:", 1],
            ["sleep", 1],
            ["names", null, "items:", 10],
            ["set", "items:7", [], 7],
            ["sleep", 1],
            ["entries", null, "items:", 10]
        ]),
    )
    .await;
    assert_eq!(told[0]["names"], json!(["items:1", "items:2"]));
    assert_eq!(told[1]["entries"], json!([["items:1", 0], ["items:2", 1]]));
    assert_eq!((&told[2]["count"], &told[4]["names"]), (&json!(1), &json!(["items:2"])));
    assert_eq!(told[7]["entries"], json!([["items:2", 1], ["items:7", 7]]));
    host.shutdown().await.unwrap();
}
