//! A range that was listed is read as a range (C8, T4).

use charm_conformance::{Hold, Logs, all_of, cell, grant, host, pair, receipt, run, steps, value};
use charm_host::{Did, EventId, Host, LIST_BYTES_MAX, NewEvent, Outcome};
use serde_json::{Value as Json, json};

use crate::fill;

/// A reader that stops between what it has listed and its commit, and a writer that goes on.
struct Held {
    host: Host,
    hold: Hold,
    reader: Did,
    writer: Did,
}

impl Held {
    async fn new(names: &[&str]) -> Held {
        Logs::capture();
        let (hold, host) = (Hold::new(), host().await);
        let (reader, writer) = pair(&host).await;
        grant(&host, reader, all_of(&[writer]), Default::default()).await.unwrap();
        fill(&host, writer, names).await;
        Held { host, hold, reader, writer }
    }

    /// Lets the reader list, the writer take its steps, and the reader commit; returns how often the reader ran and what it was told in
    /// the end.
    async fn meet(&self, list: Json, meanwhile: Json) -> (usize, Json) {
        let (id, told) = self.met(list, meanwhile).await;
        (attempts(id), told)
    }

    async fn met(&self, list: Json, meanwhile: Json) -> (EventId, Json) {
        let script = json!([["log", "info", "an attempt"], list, self.hold.step()]);
        let event = value(json!({"steps": script, "out": "out"}));
        let came = self.hold.count();
        self.hold.hold();
        let id = self.host.send(NewEvent::new(self.reader, "run", event)).await.unwrap();
        self.hold.arrived(came + 1).await;
        let receipt_of = run(&self.host, self.writer, meanwhile).await;
        assert_eq!(receipt_of.outcome, Outcome::Committed, "{receipt_of:?}");
        self.hold.release(1_000);
        let told = receipt(&self.host, &id).await;
        assert_eq!(told.outcome, Outcome::Committed, "{told:?}");
        (id, cell(&self.host, self.reader, "out").await[1].clone())
    }

    fn names(&self, prefix: &str, limit: u32) -> Json {
        json!(["names", self.writer.to_string(), prefix, limit])
    }
}

fn attempts(id: EventId) -> usize {
    let lines = Logs::capture().lines(&id.to_string());
    lines.iter().filter(|line| line.contains("an attempt")).count()
}

/// (C8, T4)
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_comes_or_goes_where_was_listed_is_a_conflict() {
    let held = Held::new(&["items:1", "items:3"]).await;
    let (ran, told) = held.meet(held.names("items:", 10), json!([["set", "items:2", [], 1]])).await;
    assert_eq!((ran, &told["names"]), (2, &json!(["items:1", "items:2", "items:3"])));
    let (ran, told) = held.meet(held.names("items:", 10), json!([["remove", "items:1", []]])).await;
    assert_eq!((ran, &told["names"]), (2, &json!(["items:2", "items:3"])));
    let (ran, told) = held.meet(held.names("items:", 10), json!([["set", "items:9", [], 1]])).await;
    assert_eq!((ran, &told["names"]), (2, &json!(["items:2", "items:3", "items:9"])), "also behind the last");
    let (ran, told) = held.meet(held.names("items:z", 10), json!([["set", "items:z", [], 1]])).await;
    assert_eq!((ran, &told["names"]), (2, &json!(["items:z"])), "also where nothing was");
    held.host.shutdown().await.unwrap();
}

/// (C8, T7) It names the cell that came or went, and its revisions.
#[tokio::test(flavor = "multi_thread")]
async fn a_phantom_is_named_by_its_cell() {
    let held = Held::new(&["items:1"]).await;
    let (id, _) = held.met(held.names("items:", 10), json!([["set", "items:2", [], 1], ["set", "other", [], 1]])).await;
    let met = held.host.why(&id).await.unwrap().unwrap().events[0].conflicts.pop().expect("a conflict is remembered");
    let place = met.cell.expect("it is one of a read");
    assert_eq!((place.owner, &*place.name, met.seen), (held.writer, "items:2", 0));
    assert_eq!(met.found, charm_conformance::commits(&held.host, held.writer));
    held.host.shutdown().await.unwrap();
}

/// (C8, T4)
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_outside_of_what_was_listed_is_no_conflict() {
    let held = Held::new(&["items:1", "items:3", "items:5"]).await;
    let meanwhile = json!([["set", "item", [], 1], ["set", "items;", [], 1], ["set", "sized:1", [], {"n": 1}], ["set", "items:1", [], 9]]);
    let (ran, _) = held.meet(held.names("items:", 10), meanwhile).await;
    assert_eq!(ran, 1, "names beside the prefix, and a changed value");
    let (ran, _) =
        held.meet(held.names("items:", 10), json!([["remove", "items:1", []], ["set", "items:1", [], 3]])).await;
    assert_eq!(ran, 1, "removed and written in one turn");
    // The page told items:1 and items:3, and by items:5 that there is more: behind that it knows nothing.
    let (ran, told) = held.meet(held.names("items:", 2), json!([["set", "items:7", [], 1]])).await;
    assert_eq!((ran, &told["names"]), (1, &json!(["items:1", "items:3"])));
    let (ran, told) = held.meet(held.names("items:", 2), json!([["set", "items:2", [], 1]])).await;
    assert_eq!((ran, &told["names"]), (2, &json!(["items:1", "items:2"])), "between the two it does");
    let list = json!(["names", held.writer.to_string(), "items:", 10, "items:3", "items:4"]);
    let (ran, _) = held.meet(list, json!([["remove", "items:2", []], ["remove", "items:4", []]])).await;
    assert_eq!(ran, 1, "outside of the span");
    held.host.shutdown().await.unwrap();
}

/// (C8, T4) That there is more is told too, and so is what had no room in a page.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_page_is_a_part_of_what_was_read() {
    let held = Held::new(&["items:1", "items:3", "items:5"]).await;
    let (ran, told) = held.meet(held.names("items:", 2), json!([["remove", "items:5", []]])).await;
    assert_eq!((ran, &told["next"]), (2, &Json::Null), "nothing more is there");
    let large = |part: usize| json!("x".repeat(LIST_BYTES_MAX * part / 10));
    for (cell, part) in [("items:1", 6), ("items:3", 6)] {
        let write = json!([["set", cell, [], large(part)]]);
        assert_eq!(run(&held.host, held.writer, write).await.outcome, Outcome::Committed);
    }
    let entries = json!(["entries", held.writer.to_string(), "items:", 10]);
    let (ran, told) = held.meet(entries.clone(), json!([["set", "items:3", [], 1]])).await;
    let names = told["entries"].as_array().unwrap().iter().map(|entry| entry[0].clone()).collect();
    assert_eq!((ran, Json::Array(names)), (2, json!(["items:1", "items:3"])), "it has room now");
    let (ran, _) = held.meet(entries.clone(), json!([["set", "items:3", [], large(6)]])).await;
    assert_eq!(ran, 2, "it has none any more");
    let (ran, _) = held.meet(entries, json!([["set", "items:9", [], 1]])).await;
    assert_eq!(ran, 1, "behind that nothing was looked at");
    held.host.shutdown().await.unwrap();
}

/// (C8, T4)
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_came_and_went_meanwhile_is_no_conflict() {
    let held = Held::new(&["items:1"]).await;
    let script = json!([["log", "info", "an attempt"], held.names("items:", 10), held.hold.step()]);
    held.hold.hold();
    let id = held.host.send(NewEvent::new(held.reader, "run", value(steps(script)))).await.unwrap();
    held.hold.arrived(1).await;
    for meanwhile in
        [json!([["set", "items:2", [], 1]]), json!([["remove", "items:2", []]]), json!([["remove", "items:1", []]])]
    {
        run(&held.host, held.writer, meanwhile).await;
    }
    run(&held.host, held.writer, json!([["set", "items:1", [], "again"]])).await;
    held.hold.release(1_000);
    assert_eq!((receipt(&held.host, &id).await.outcome, attempts(id)), (Outcome::Committed, 1));
    held.host.shutdown().await.unwrap();
}

/// (C8, T4) Values that were told are reads like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_told_and_changes_is_a_conflict() {
    let held = Held::new(&["items:1", "items:2", "items:3"]).await;
    let list = json!(["entries", held.writer.to_string(), "items:", 2]);
    let (ran, told) = held.meet(list.clone(), json!([["set", "items:2", [], 7]])).await;
    assert_eq!((ran, &told["entries"]), (2, &json!([["items:1", 0], ["items:2", 7]])));
    let (ran, _) = held.meet(list, json!([["set", "items:3", [], 7]])).await;
    assert_eq!(ran, 1, "the page did not tell that one");
    held.host.shutdown().await.unwrap();
}

/// (C8) Pages of one turn are of one snapshot, whatever comes and goes between them; all of them together are what was read.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_one_turn_show_one_moment() {
    let (hold, host) = (Hold::new(), host().await);
    let (reader, writer) = pair(&host).await;
    grant(&host, reader, all_of(&[writer]), Default::default()).await.unwrap();
    fill(&host, writer, &["items:1", "items:3", "items:5"]).await;
    let list = |start: Json| json!(["names", writer.to_string(), "items:", 1, start]);
    let script = json!([
        list(Json::Null),
        hold.step(),
        list(json!("items:1\u{0}")),
        list(json!("items:3\u{0}")),
        ["set", "x", [], 1]
    ]);
    let event = value(json!({"steps": script, "out": "out"}));
    let id = host.send(NewEvent::new(reader, "run", event)).await.unwrap();
    hold.arrived(1).await;
    run(&host, writer, json!([["set", "items:2", [], 1], ["remove", "items:3", []]])).await;
    hold.release(1);
    hold.arrived(2).await;
    // Its first attempt saw 1, 3 and 5, whatever the writer did, and was thrown away.
    hold.release(1_000);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let told = cell(&host, reader, "out").await;
    assert_eq!(told[0]["names"], json!(["items:1"]));
    assert_eq!((&told[2]["names"], &told[3]["names"]), (&json!(["items:2"]), &json!(["items:5"])));
    host.shutdown().await.unwrap();
}

/// (C8) More was written meanwhile than the host remembers one by one: it looks at the names.
#[tokio::test(flavor = "multi_thread")]
async fn a_phantom_is_found_behind_any_number_of_writes() {
    let held = Held::new(&["items:00001", "items:99999"]).await;
    let mut many: Vec<Json> = (0..6_000).map(|number| json!(["set", format!("beside:{number}"), [], 1])).collect();
    let (ran, _) = held.meet(held.names("items:", 10), json!(many)).await;
    assert_eq!(ran, 1);
    many.iter_mut().enumerate().for_each(|(number, step)| *step = json!(["set", format!("z:{number}"), [], 1]));
    many[17] = json!(["set", "items:50000", [], 1]);
    let (ran, told) = held.meet(held.names("items:", 10), json!(many)).await;
    assert_eq!((ran, &told["names"]), (2, &json!(["items:00001", "items:50000", "items:99999"])));
    held.host.shutdown().await.unwrap();
}

/// (C8) What others remove while a snapshot sees it is in the way of no other reader.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_gone_and_still_seen_make_pages_short_and_never_wrong() {
    let names: Vec<String> = (0..500).map(|number| format!("items:{number:03}")).collect();
    let held = Held::new(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    held.hold.hold();
    let before = json!([held.hold.step(), ["all-names", held.writer.to_string(), "items:", 1_000]]);
    let before =
        value(json!({"steps": [["names", held.writer.to_string(), "sized:", 1], before[0], before[1]], "out": "out"}));
    let id = held.host.send(NewEvent::new(held.reader, "run", before)).await.unwrap();
    held.hold.arrived(1).await;
    run(&held.host, held.writer, json!([["remove-all", null, "items:", 1_000], ["set", "items:777", [], 1]])).await;
    let now = crate::one(&held.host, held.writer, json!(["all-names", null, "items:", 1_000])).await;
    assert_eq!(now, json!(["items:777"]));
    held.hold.release(1_000);
    assert_eq!(receipt(&held.host, &id).await.outcome, Outcome::Committed);
    assert_eq!(cell(&held.host, held.reader, "out").await[2], json!(["items:777"]), "in the attempt that committed");
    held.host.shutdown().await.unwrap();
}
