//! What consumers of the token can rely on.

use charm_sdk::http::Response;
use charm_sdk::prelude::*;
use charm_sdk::testing::Host;
use google_auth::{Connect, GoogleAuth, Refresh, Token};

/// A host with a connected charm, at the time 1,000,000.
fn connected() -> (Host, Did) {
    let host = Host::new();
    host.set_time(1_000_000);
    let auth = host.install::<GoogleAuth>("google-auth");
    let connect = Connect {
        token_url: "https://login.example/token".into(),
        client_id: "demo".into(),
        client_secret: None,
        refresh_token: "refresh-1".into(),
    };
    host.deliver(&auth, GoogleAuth::CONNECT, &connect).committed().unwrap();
    (host, auth)
}

/// A token server that rotates the refresh token, and refuses an old one.
fn rotating() -> impl FnMut(&http::Request) -> Result<Response> {
    let mut next = 1;
    move |request| {
        let body = String::from_utf8_lossy(&request.body);
        if !body.contains(&format!("grant_type=refresh_token&refresh_token=refresh-{next}&client_id=demo")) {
            return Ok(Response::new(400, r#"{"error": "invalid_grant", "error_description": "refresh-1 is used"}"#));
        }
        next += 1;
        let answer =
            format!(r#"{{"access_token": "access-{next}", "expires_in": 60, "refresh_token": "refresh-{next}"}}"#);
        Ok(Response::new(200, answer))
    }
}

#[test]
fn a_refresh_stores_the_token_and_rotates_the_grant() {
    let (host, auth) = connected();
    host.on_http(rotating());
    for version in 0..3 {
        host.deliver(&auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: version }).committed().unwrap();
        let token: Token = host.cell(&auth, "token").unwrap();
        let access = format!("access-{}", version + 2);
        assert_eq!(token, Token { access, expires_at: 1_060_000, version: version + 1 });
    }
}

#[test]
fn eight_consumers_cause_one_request() {
    let (host, auth) = connected();
    host.on_http(rotating());
    let ids: Vec<_> =
        (0..8).map(|_| host.send(&auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: 0 })).collect();
    host.run_until_idle();
    assert!(ids.iter().all(|id| host.receipt(id).unwrap().outcome == Outcome::Committed));
    assert_eq!(host.requests().len(), 1);
    assert_eq!(host.revisions(&auth, "token"), 1);
}

#[test]
fn a_refusal_says_status_and_code_and_keeps_everything() {
    let (host, auth) = connected();
    host.on_http(rotating());
    host.deliver(&auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: 0 });
    host.on_http(|_| Ok(Response::new(400, r#"{"error": "invalid_grant", "hint": "refresh-2 was used twice"}"#)));
    let receipt = host.deliver(&auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: 1 });
    assert_eq!(receipt.outcome, Outcome::Rejected);
    assert_eq!(receipt.message.as_deref(), Some("the token server refused: 400 invalid_grant"));
    assert_eq!(host.cell::<Token>(&auth, "token").unwrap().version, 1);
}

#[test]
fn an_answer_that_is_none_shows_nothing_of_it() {
    let (host, auth) = connected();
    host.on_http(|_| Ok(Response::new(200, r#"{"access_token": 12345, "refresh_token": "refresh-9"}"#)));
    let message = host.deliver(&auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: 0 }).message.unwrap();
    let told = "the answer (status 200) does not fit `Answer` at /access_token: needed a string, found integer";
    assert_eq!(message, told);
    assert!(!message.contains("12345") && !message.contains("refresh-9"));
}

#[test]
fn nothing_works_before_connect_and_the_grant_is_not_published() {
    let host = Host::new();
    let auth = host.install::<GoogleAuth>("google-auth");
    let receipt = host.deliver(&auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: 0 });
    assert_eq!(receipt.message.as_deref(), Some("not connected: send `connect` first"));
    let published = GoogleAuth::cells().into_iter().filter(|cell| !cell.private);
    assert_eq!(published.map(|cell| cell.name).collect::<Vec<_>>(), ["token"]);
}

#[test]
fn connecting_again_clears_the_token_and_counts_on() {
    let (host, auth) = connected();
    host.on_http(|_| Ok(Response::new(200, r#"{"access_token": "a"}"#)));
    host.deliver(&auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: 0 });
    let again = Connect {
        token_url: "https://login.example/token".into(),
        client_id: "demo".into(),
        client_secret: Some("s".into()),
        refresh_token: "r".into(),
    };
    host.deliver(&auth, GoogleAuth::CONNECT, &again);
    assert_eq!(host.cell::<Token>(&auth, "token"), None);
    host.deliver(&auth, GoogleAuth::REFRESH_TOKEN, &Refresh { stale_version: 1 });
    let token: Token = host.cell(&auth, "token").unwrap();
    assert_eq!((token.version, token.expires_at), (2, 4_600_000));
    assert!(host.requests()[1].body.ends_with(b"&client_secret=s"));
}
