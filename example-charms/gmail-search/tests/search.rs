//! The search, together with the charm that keeps the token.

use std::cell::Cell as Counter;
use std::rc::Rc;

use charm_sdk::http::Response;
use charm_sdk::prelude::*;
use charm_sdk::testing::Host;
use gmail_search::{Configure, GmailSearch, Results, Search};
use google_auth::{Connect, GoogleAuth, Refresh, Token};

/// Both charms, connected and granted, and servers whose token number `valid` works.
struct World {
    host: Host,
    auth: Did,
    search: Did,
    valid: Rc<Counter<u64>>,
}

fn world() -> World {
    let host = Host::new();
    let auth = host.install::<GoogleAuth>("google-auth");
    let search = host.install::<GmailSearch>("gmail-search");
    host.grant_read(&search, &auth, "token");
    host.grant_send(&search, &auth, "refresh-token");
    let connect = Connect {
        token_url: "https://login.example/token".into(),
        client_id: "demo".into(),
        client_secret: None,
        refresh_token: "refresh".into(),
    };
    host.deliver(&auth, GoogleAuth::CONNECT, &connect).committed().unwrap();
    let configure = Configure { api: "https://mail.example/v1".into() };
    host.deliver(&search, GmailSearch::CONFIGURE, &configure).committed().unwrap();

    let valid = Rc::new(Counter::new(0));
    let (issued, works) = (Counter::new(0), Rc::clone(&valid));
    host.on_http(move |request| {
        if request.url == "https://login.example/token" {
            issued.set(issued.get() + 1);
            works.set(works.get() + 1);
            let answer = format!(r#"{{"access_token": "access-{}", "expires_in": 60}}"#, issued.get());
            return Ok(Response::new(200, answer));
        }
        let bearer = format!("Bearer access-{}", works.get());
        let is_valid = request.headers.iter().any(|(name, value)| name == "authorization" && *value == bearer);
        assert!(request.url.ends_with(".example/v1/messages?q=from%3Amum"), "{}", request.url);
        Ok(if is_valid {
            Response::new(200, r#"{"messages": [{"id": "m1", "subject": "Sunday"}, {"id": "m2"}]}"#)
        } else {
            Response::new(401, "")
        })
    });
    World { host, auth, search, valid }
}

impl World {
    fn search(&self) -> Receipt {
        self.host.deliver(&self.search, GmailSearch::SEARCH, &Search { query: "from:mum".into() })
    }

    fn results(&self) -> Option<Results> {
        self.host.cell(&self.search, "results")
    }

    fn urls(&self) -> Vec<String> {
        self.host.requests().iter().map(|request| request.url.chars().skip(8).take(4).collect()).collect()
    }
}

#[test]
fn the_first_search_gets_a_token_and_finishes() {
    let world = world();
    world.search().committed().unwrap();
    let results = world.results().unwrap();
    assert_eq!(results.query, "from:mum");
    assert_eq!(results.messages[0].subject.as_deref(), Some("Sunday"));
    assert_eq!(world.urls(), ["logi", "mail"]);
}

#[test]
fn a_good_token_is_used_as_it_is() {
    let world = world();
    world.search();
    world.search().committed().unwrap();
    assert_eq!(world.urls(), ["logi", "mail", "mail"]);
    assert_eq!(world.host.revisions(&world.search, "results"), 1, "C4");
}

#[test]
fn an_expired_token_is_refreshed_before_the_search() {
    let world = world();
    world.search();
    world.host.set_time(60_000);
    world.search().committed().unwrap();
    assert_eq!(world.urls(), ["logi", "mail", "logi", "mail"]);
    assert_eq!(world.host.cell::<Token>(&world.auth, "token").unwrap().version, 2);
}

#[test]
fn a_token_that_the_server_refuses_is_refreshed_once() {
    let world = world();
    world.search();
    world.valid.set(9); // from now on no token works
    let receipt = world.search();
    assert_eq!(world.urls(), ["logi", "mail", "mail", "logi", "mail"], "and then it stops");
    assert_eq!(receipt.outcome, Outcome::Rejected);
    assert_eq!(receipt.message.unwrap(), "the mail server refuses the new token too");
}

#[test]
fn eight_searches_with_an_expired_token_refresh_once() {
    let world = world();
    world.search();
    world.host.set_time(60_000);
    for _ in 0..8 {
        world.host.send(&world.search, GmailSearch::SEARCH, &Search { query: "from:mum".into() });
    }
    world.host.run_until_idle();
    assert_eq!(world.urls().iter().filter(|url| *url == "logi").count(), 2, "one at first, one for all eight");
    assert_eq!(world.urls().iter().filter(|url| *url == "mail").count(), 9);
}

#[test]
fn a_refused_refresh_ends_the_search_and_says_why() {
    let world = world();
    world.host.on_http(|_| Ok(Response::new(400, r#"{"error": "invalid_grant"}"#)));
    let message = world.search().message.unwrap();
    assert_eq!(message, "the event was rejected: the token server refused: 400 invalid_grant");
    assert_eq!((world.results(), world.urls()), (None, vec!["logi".to_string()]));
}

#[test]
fn a_refresh_that_does_not_come_ends_the_search_in_time() {
    let world = world();
    world.host.pause(&world.auth);
    let message = world.search().message.unwrap();
    assert_eq!(message, "not settled in time: what was committed at the wait stays");
    world.host.resume(&world.auth);
    world.search().committed().unwrap();
    assert_eq!(world.urls(), ["logi", "mail"], "the late refresh does for the next search");
}

#[test]
fn what_changes_while_a_search_waits_is_what_it_goes_on_with() {
    let world = world();
    let (search, auth, query) = (&world.search, &world.auth, Search { query: "from:mum".into() });
    world.host.on_event(auth, GoogleAuth::REFRESH_TOKEN, |_| {
        Cell::own("token").set(&Token { access: "access-0".into(), expires_at: u64::MAX, version: 1 })
    });
    let id = world.host.send(search, GmailSearch::SEARCH, &query);
    world.host.send(search, GmailSearch::CONFIGURE, &Configure { api: "https://moved.example/v1".into() });
    world.host.run_until_idle();
    world.host.receipt(&id).unwrap().committed().unwrap();
    assert_eq!(world.urls(), ["move"]);
}

#[test]
fn writing_the_token_in_place_is_refused_in_plain_words() {
    let world = world();
    world.host.deliver(&world.auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: 0 });
    let before: Token = world.host.cell(&world.auth, "token").unwrap();
    let wrong = Search { query: "from:mum".into() };
    world.host.deliver(&world.search, GmailSearch::SEARCH_WRONG, &wrong).committed().unwrap();

    let (auth, search) = (&world.auth, &world.search);
    let refused: String = world.host.cell(search, "refused").unwrap();
    let text = format!("Can not open transaction writer for {auth} because transaction has writer open for {search}");
    assert!(refused.starts_with(&text), "{refused}");
    assert_eq!(world.host.cell::<Token>(auth, "token"), Some(before));
    assert!(world.host.logged()[0].starts_with("warn: Can not open"));
}

#[test]
fn without_a_grant_there_is_no_token_charm() {
    let world = world();
    world.host.revoke(&world.search, &world.auth);
    let message = world.search().message.unwrap();
    assert!(message.starts_with("no charm with #google-auth offers what is needed"), "{message}");
}
