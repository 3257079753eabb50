//! What only the small token server does: its errors word for word, expiry by time, and the knobs for tests.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use charm_demo_servers::mail::{MAILBOX, MailServer};
use charm_demo_servers::oauth::{OauthOptions, OauthServer};
use charm_demo_servers::{TokenCheck, TokenServer};
use common::{post, refresh, refused, try_refresh};

type Form<'a> = &'a [(&'a str, &'a str)];

/// A public client `app` whose access tokens live `expires_in` seconds.
async fn start(expires_in: u64) -> OauthServer {
    let options = OauthOptions { client_id: "app".to_owned(), client_secret: None, expires_in };
    OauthServer::start(options).await.unwrap()
}

#[tokio::test]
async fn malformed_requests_get_the_errors_of_rfc_6749() {
    let server = start(60).await;
    let good = [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", server.refresh_token())];
    let [grant, client, token] = good;
    let cases: &[(Form<'_>, u16, &str)] = &[
        (&[], 400, "invalid_request"),
        (&[client, token], 400, "invalid_request"),
        (&[grant, token], 400, "invalid_request"),
        (&[grant, client], 400, "invalid_request"),
        (&[grant, client, ("refresh_token", "")], 400, "invalid_request"),
        (&[grant, client, token, token], 400, "invalid_request"),
        (&[("grant_type", "password"), client, token], 400, "unsupported_grant_type"),
        (&[grant, ("client_id", "other"), token], 401, "invalid_client"),
        (&[grant, client, token, ("client_secret", "guess")], 401, "invalid_client"),
        (&[grant, client, ("refresh_token", "unknown")], 400, "invalid_grant"),
    ];
    for (form, status, error) in cases {
        let (got, body) = post(&server.token_url(), form).await;
        assert_eq!((got, body["error"].as_str()), (*status, Some(*error)), "{form:?}");
    }
    // The right fields in the wrong encoding.
    let request = reqwest::Client::new().post(server.token_url()).header("content-type", "application/json");
    let answer = request.body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(answer.text().await.unwrap().contains("invalid_request"));
    // None of them used the token up.
    assert_eq!((server.refreshes(), server.reuses()), (0, 0));
    assert_eq!(post(&server.token_url(), &good).await.0, 200);
}

#[tokio::test]
async fn a_wrong_or_missing_secret_is_refused() {
    let server = OauthServer::start(OauthOptions::default()).await.unwrap();
    for secret in [None, Some("guess")] {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", server.client_id()),
            ("refresh_token", server.refresh_token()),
        ];
        form.extend(secret.map(|secret| ("client_secret", secret)));
        assert_eq!(post(&server.token_url(), &form).await.0, 401);
    }
    let server = TokenServer::Oauth(server);
    refresh(&server, server.refresh_token()).await;
}

#[tokio::test]
async fn access_tokens_expire_by_time() {
    let server = start(1).await;
    let check = server.token_check();
    let server = TokenServer::Oauth(server);
    let tokens = refresh(&server, server.refresh_token()).await;
    assert_eq!(tokens.expires_in, 1);
    assert!(check.is_valid(&tokens.access).await.unwrap());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(!check.is_valid(&tokens.access).await.unwrap());
    assert!(server.grant_alive(&tokens.refresh).await.unwrap());
}

#[tokio::test]
async fn the_next_requests_fail_without_effect() {
    let server = start(60).await;
    server.fail_next(2, 503);
    let server = TokenServer::Oauth(server);
    for _ in 0..2 {
        assert_eq!(try_refresh(&server, server.refresh_token()).await.0, 503);
    }
    refresh(&server, server.refresh_token()).await;
    assert_eq!(server.refreshes().await.unwrap(), 1);
}

/// Two refreshes with one token at the same time: the grant is lost, whoever is answered first.
#[tokio::test]
async fn two_refreshes_at_once_lose_the_grant() {
    let server = start(60).await;
    server.hold_answers();
    let form = [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", server.refresh_token())];
    let url = server.token_url();
    let meddle = async {
        server.wait_for_held(2).await;
        assert_eq!((server.refreshes(), server.reuses()), (1, 1));
        server.release_answers();
    };
    let (one, two, ()) = tokio::join!(post(&url, &form), post(&url, &form), meddle);
    let mut statuses = [one.0, two.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    assert!(!server.grant_alive(server.refresh_token()));
}

/// A client that dies before the answer comes has used its token up.
#[tokio::test]
async fn a_lost_answer_still_rotated() {
    let server = start(60).await;
    let form = [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", server.refresh_token())];
    server.hold_answers();
    let url = server.token_url();
    tokio::select! {
        _ = post(&url, &form) => panic!("the answer was not held"),
        () = server.wait_for_held(1) => {}
    }
    server.release_answers();
    let server = TokenServer::Oauth(server);
    refused(&server, server.refresh_token()).await;
    assert_eq!(server.reuses().await.unwrap(), 1);
}

#[tokio::test]
async fn a_dropped_server_answers_no_more() {
    let server = start(60).await;
    server.hold_answers();
    let client = reqwest::Client::new();
    let url = server.token_url();
    // The connection is kept alive by the client.
    let held = client.post(&url).send();
    let meddle = async {
        server.wait_for_held(1).await;
        drop(server);
    };
    let (answer, ()) = tokio::join!(held, meddle);
    assert_eq!(answer.unwrap().status(), 400);
    for _ in 0..100 {
        if client.post(&url).send().await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{url} still answers");
}

#[tokio::test]
async fn mail_asks_any_function() {
    let mail = MailServer::start(TokenCheck::new(|token| token == "good")).await.unwrap();
    let client = reqwest::Client::new();
    let all = client.get(mail.messages_url()).bearer_auth("good").send().await.unwrap();
    let all: serde_json::Value = serde_json::from_str(&all.text().await.unwrap()).unwrap();
    assert_eq!(all["messages"].as_array().unwrap().len(), MAILBOX.len());
    let none = client.get(mail.messages_url()).query(&[("q", "no such subject")]).bearer_auth("good");
    assert_eq!(none.send().await.unwrap().text().await.unwrap(), r#"{"messages":[]}"#);
    let bare = client.get(mail.messages_url()).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert!(bare.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    assert_eq!((mail.served(), mail.refused()), (2, 1));
}
