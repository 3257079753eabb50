//! The host ends between a request and its record: what cannot be known is said, and nothing is made twice that must not be (A4).

use charm_conformance::{Home, WIRE, Wire, cell, commits, probe_charm, receipt, run, settle, until};
use charm_demo_servers::oauth::{OauthOptions, OauthServer};
use charm_host::{Archive, Host, HttpGrant, Limits, Outcome, Request, Store};
use serde_json::{Value as Json, json};

use super::{begin, charge, fill, key, open};

/// How the host ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// Asked to.
    Well,
    /// By a crash: what is not durable is lost.
    Badly,
}

impl Ends {
    async fn end(self, host: Host) {
        if matches!(self, Ends::Well) {
            host.shutdown().await.unwrap();
        }
        drop(host);
    }
}

/// The moments at which the host ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The turn waits, its request has not left.
    Before,
    /// The request has left, its answer is not there.
    Between,
    /// The answer is recorded, the turn has not gone on.
    After,
}

/// A request, what the next host does with it, and what it says.
fn requests() -> [(&'static str, Json, bool); 4] {
    let request = |method: &str, repeatable: bool| json!(["commit-and-fetch", { "method": method, "url": format!("{WIRE}/r"), "repeatable": repeatable }]);
    [
        ("by its method", request("GET", false), true),
        ("by its mark", request("POST", true), true),
        ("by both", request("GET", true), true),
        ("not at all", request("POST", false), false),
    ]
}

/// A4: at each moment: what may be made again is, with the same key; of every other the turn is told that it is unknown; and what was
/// recorded is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_known_is_made_again_only_where_that_does_no_harm() {
    for moment in [Moment::Before, Moment::Between, Moment::After] {
        for ends in [Ends::Well, Ends::Badly] {
            for (name, request, again) in requests() {
                let what = format!("{moment:?}, {ends:?}, repeatable {name}");
                let (home, wire) = (Home::default(), Wire::gated());
                let limits = || Limits { exchanges_max: 1, ..Limits::default() };
                let (host, a, b) = open(home.builder().await.limits(limits()), &wire).await;
                let other = if moment == Moment::Before { Some(fill(&host, b, &wire).await) } else { None };
                let before = commits(&host, a);
                let event = json!([["set", "x", [], 1], ["try", request], ["set", "y", [], 1]]);
                let id = begin(&host, a, event).await;
                until("it waits", || commits(&host, a) == before + 2).await;
                if moment != Moment::Before {
                    wire.arrived(1).await;
                    host.pause(&a).await.unwrap();
                }
                if moment == Moment::After {
                    wire.release(1);
                    until("the answer is durable", || commits(&host, a) == before + 4).await;
                }
                let made = wire.count() - usize::from(other.is_some());
                assert_eq!(made, usize::from(moment != Moment::Before), "{what}");
                ends.end(host).await;
                // It may leave as its place is given back.
                let made = made.max(wire.count() - usize::from(other.is_some()));
                Archive::open(home.read_only()).unwrap().verify_store().unwrap();

                let wire = Wire::open().counting_from(wire.requests());
                let (host, a, _) = open(home.builder().await.limits(limits()), &wire).await;
                host.resume(&a).await.unwrap();
                assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed, "{what}");
                settle(&host).await;
                let told = cell(&host, a, "out").await[1].clone();
                let own = |request: &&Request| request.url.ends_with("/r");
                let requests = wire.requests();
                let requests: Vec<&Request> = requests.iter().filter(own).collect();
                match (moment, again) {
                    (Moment::After, _) => {
                        assert_eq!((told["ok"]["status"].as_u64(), requests.len()), (Some(200), 1), "{what}")
                    }
                    (_, true) => {
                        assert_eq!(
                            (told["ok"]["status"].as_u64(), requests.len()),
                            (Some(200), made + 1),
                            "{what}: {told}"
                        );
                        let keys: Vec<_> = requests.iter().map(|request| key(request)).collect();
                        assert!(keys.iter().all(|key| *key == keys[0]), "{what}: the same each time: {keys:?}");
                        assert_eq!(keys[0].is_some(), name != "by its method");
                    }
                    (_, false) => {
                        let error = &told["error"];
                        assert_eq!(
                            (&error["kind"], &error["what"]),
                            (&json!("http-unknown"), &json!(format!("POST {WIRE}")))
                        );
                        assert_eq!(requests.len(), made, "{what}: never again");
                    }
                }
                assert_eq!((cell(&host, a, "x").await, cell(&host, a, "y").await), (json!(1), json!(1)), "{what}");
                host.verify_store().unwrap();
                host.shutdown().await.unwrap();
            }
        }
    }
}

/// S8: a turn with answers behind it goes on in the next host with all of them, each at its place.
#[tokio::test(flavor = "multi_thread")]
async fn answers_before_a_wait_are_told_in_the_next_host() {
    let (home, wire) = (Home::default(), Wire::open());
    let (host, a, b) = open(home.builder().await, &wire).await;
    host.pause(&b).await.unwrap();
    let event = json!([
        charge(),
        ["fetch", { "url": WIRE }],
        charge(),
        ["context"],
        ["send", charm_conformance::of(b, "note"), 1],
        ["wait", [0], "all", 60_000],
        ["context"],
        charge(),
    ]);
    let before = commits(&host, a);
    let id = begin(&host, a, event).await;
    until("it waits for the note", || commits(&host, a) == before + 6).await;
    host.shutdown().await.unwrap();
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
    let (host, a, b) = open(home.builder().await, &wire).await;
    host.resume(&b).await.unwrap();
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    let bodies: Vec<&Json> = [0, 1, 2, 7].iter().map(|n| &out[*n]["body"]).collect();
    assert_eq!((bodies, wire.count()), (vec![&json!("1"), &json!("2"), &json!("3"), &json!("4")], 4), "{out}");
    assert!(out[3]["time"].as_u64() <= out[6]["time"].as_u64());
    settle(&host).await;
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A charm that is not installed in the next host: its answer waits, and what is made again is made when it is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_again_waits_for_its_charm() {
    let (home, wire) = (Home::default(), Wire::gated());
    let (host, a, _) = open(home.builder().await, &wire).await;
    let id = begin(&host, a, json!([["commit-and-fetch", { "url": WIRE }]])).await;
    wire.arrived(1).await;
    drop(host);
    let wire = Wire::open();
    let host = home.builder().await.transport(wire.clone()).open().await.unwrap();
    let other = host.install(probe_charm("other")).await.unwrap();
    run(&host, other, json!([["set", "x", [], 1]])).await;
    assert_eq!(wire.count(), 0);
    host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!(wire.count(), 1);
    host.shutdown().await.unwrap();
}

/// A4, with a server that revokes a grant whose token comes twice: at each moment the token is used once at most, and the handler is
/// told the answer, or that it is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_used_once_at_every_moment() {
    for moment in ["before", "between", "after", "conflict"] {
        let server = OauthServer::start(OauthOptions::default()).await.unwrap();
        let home = Home::default();
        let limits = || Limits { exchanges_max: 1, ..Limits::default() };
        let origin = server.url().trim_end_matches('/').to_owned();
        let grant = HttpGrant { origin, methods: vec!["POST".to_owned()], private: false };
        let install = async |host: &Host| {
            let a = host.install(probe_charm("a").may_call(grant.clone())).await.unwrap();
            (a, host.install(probe_charm("b").may_call(grant.clone())).await.unwrap())
        };
        let host = home.builder().await.limits(limits()).open().await.unwrap();
        let (a, b) = install(&host).await;
        let secret = server.client_secret().map(|secret| format!("&client_secret={secret}")).unwrap_or_default();
        let form = |token: &str| {
            let id = server.client_id();
            format!("grant_type=refresh_token&refresh_token={token}&client_id={id}{secret}")
        };
        let refresh = |token: &str| {
            let headers = json!({ "content-type": "application/x-www-form-urlencoded" });
            json!(["commit-and-fetch", { "method": "POST", "url": server.token_url(), "headers": headers, "body": form(token) }])
        };
        let hold = charm_conformance::Hold::new();
        server.hold_answers();
        if moment == "before" {
            begin(&host, b, json!([refresh(&server.new_grant())])).await;
            server.wait_for_held(1).await;
        }
        let mut steps = vec![json!(["try", refresh(server.refresh_token())])];
        if moment == "conflict" {
            steps.extend([json!(["get", "x", []]), json!(["get", charm_conformance::of(b, "x"), []]), hold.step()]);
        }
        let before = commits(&host, a);
        if moment == "conflict" {
            charm_conformance::grant(&host, a, charm_conformance::all_of(&[b]), Default::default()).await.unwrap();
        }
        let id = begin(&host, a, Json::Array(steps)).await;
        until("it waits", || commits(&host, a) >= before + 2).await;
        if moment != "before" {
            server.wait_for_held(1).await;
        }
        let host = match moment {
            "conflict" => {
                server.release_answers();
                for n in 1..4 {
                    hold.arrived(n).await;
                    run(&host, b, json!([["set", "x", [], n]])).await;
                    hold.release(1);
                }
                hold.arrived(4).await;
                hold.release(1);
                host
            }
            _ => {
                host.pause(&a).await.unwrap();
                let paused = commits(&host, a);
                if moment == "after" {
                    server.release_answers();
                    until("the answer is durable", || commits(&host, a) == paused + 1).await;
                }
                drop(host);
                server.release_answers();
                let host = home.builder().await.limits(limits()).open().await.unwrap();
                install(&host).await;
                host.resume(&a).await.unwrap();
                host
            }
        };
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed, "{moment}");
        let told = cell(&host, a, "out").await[0].clone();
        if ["after", "conflict"].contains(&moment) {
            assert_eq!(told["ok"]["status"], 200, "{moment}: {told}");
        } else {
            assert_eq!(told["error"]["kind"], "http-unknown", "{moment}: {told}");
        }
        assert_eq!(server.reuses(), 0, "{moment}: no token came twice");
        assert!(server.grant_alive(server.refresh_token()), "{moment}");
        settle(&host).await;
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}

/// A4: a short call whose request must not be made twice is noted before it leaves. The next host makes it no more, and tells the turn
/// that it is unknown; what does no harm is made again. Equal requests of a turn are told apart, and what is settled is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_call_that_may_do_harm_is_not_made_again() {
    let post = json!({ "method": "POST", "url": format!("{WIRE}/r") });
    let again = json!({ "method": "POST", "url": format!("{WIRE}/again"), "repeatable": true });
    let attempt = |request: &Json| json!(["try", ["fetch", request]]);
    for ends in [Ends::Well, Ends::Badly] {
        let (home, wire) = (Home::default(), Wire::gated());
        let (host, a, _) = open(home.builder().await, &wire).await;
        wire.release(1);
        run(&host, a, json!([["fetch", post]])).await;
        // The first of three is answered, the second is under way: the third has not left.
        let id = begin(&host, a, json!([attempt(&again), attempt(&post), attempt(&post), attempt(&post)])).await;
        wire.release(2);
        wire.arrived(4).await;
        if matches!(ends, Ends::Well) {
            host.shutdown_within(std::time::Duration::ZERO).await.unwrap();
        }
        drop(host);
        let wire = Wire::open().counting_from(wire.requests());
        let (host, a, _) = open(home.builder().await, &wire).await;
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed, "{ends:?}");
        let out = cell(&host, a, "out").await;
        let kinds: Vec<&Json> = out.as_array().unwrap().iter().map(|told| &told["error"]["kind"]).collect();
        let unknown = json!("http-unknown");
        assert_eq!(kinds, [&Json::Null, &unknown, &unknown, &Json::Null], "{ends:?}: {out}");
        let requests = wire.requests();
        let made = |end: &str| requests.iter().filter(|request| request.url.ends_with(end)).collect::<Vec<_>>();
        assert_eq!(made("/r").len(), 4, "{ends:?}: one before, three of the turn");
        let repeated: Vec<_> = made("/again").into_iter().map(key).collect();
        assert_eq!((repeated.len(), repeated[0].is_some(), repeated[0] == repeated[1]), (2, true, true));
        // The same in another event is another request.
        assert_eq!(run(&host, a, json!([["fetch", post]])).await.outcome, Outcome::Committed);
        host.shutdown().await.unwrap();
        assert!(home.read_only().load(None).unwrap().asked.is_empty(), "what is settled is forgotten");
    }
}

/// A4: what was asked for before a wait is behind it: the same request after the wait is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_forgets_the_short_calls_before_it() {
    let (home, wire) = (Home::default(), Wire::gated());
    let (host, a, _) = open(home.builder().await, &wire).await;
    let post = json!(["try", ["fetch", { "method": "POST", "url": format!("{WIRE}/r") }]]);
    let id = begin(&host, a, json!([post, ["commit-and-fetch", { "url": WIRE }], post])).await;
    wire.release(1);
    wire.arrived(2).await;
    drop(host);
    assert!(home.read_only().load(None).unwrap().asked.is_empty(), "its segment has the answer");
    let wire = Wire::open().counting_from(wire.requests());
    let (host, a, _) = open(home.builder().await, &wire).await;
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    assert_eq!((&out[0]["ok"]["body"], &out[2]["ok"]["status"]), (&json!("1"), &json!(200)), "{out}");
    host.shutdown().await.unwrap();
}
