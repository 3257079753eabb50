//! What both token servers do: each story runs against the small one and against oidc-provider.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use charm_demo_servers::TokenServer;
use charm_demo_servers::mail::MailServer;
use charm_demo_servers::oauth::{OauthOptions, OauthServer};
use charm_demo_servers::oidc::OidcServer;
use common::{refresh, refused};

async fn oauth() -> TokenServer {
    TokenServer::Oauth(OauthServer::start(OauthOptions::default()).await.unwrap())
}

/// None only where there is no Node; `start` says so on standard error.
async fn oidc() -> Option<TokenServer> {
    OidcServer::start().await.unwrap().map(TokenServer::Oidc)
}

async fn every_refresh_rotates(server: TokenServer) {
    let first = refresh(&server, server.refresh_token()).await;
    assert_eq!(first.expires_in, 60);
    assert_ne!(first.refresh, server.refresh_token());
    let second = refresh(&server, &first.refresh).await;
    assert_ne!(second.refresh, first.refresh);
    assert_ne!(second.access, first.access);
    assert_eq!((server.refreshes().await.unwrap(), server.reuses().await.unwrap()), (2, 0));
    // The grant goes by any refresh token that it ever had.
    for token in [server.refresh_token(), &first.refresh, &second.refresh] {
        assert!(server.grant_alive(token).await.unwrap());
    }
    assert!(!server.grant_alive("unknown").await.unwrap());
}

async fn reuse_revokes_the_grant_and_no_other(server: TokenServer) {
    let check = server.token_check();
    let other = refresh(&server, &server.new_grant().await.unwrap()).await;
    let first = refresh(&server, server.refresh_token()).await;
    let second = refresh(&server, &first.refresh).await;
    assert!(check.is_valid(&second.access).await.unwrap());

    refused(&server, &first.refresh).await;
    assert_eq!((server.refreshes().await.unwrap(), server.reuses().await.unwrap()), (3, 1));
    // Every token of the grant is dead, the current refresh token too.
    assert!(!server.grant_alive(&second.refresh).await.unwrap());
    for access in [&first.access, &second.access] {
        assert!(!check.is_valid(access).await.unwrap());
    }
    for token in [server.refresh_token(), &first.refresh, &second.refresh] {
        refused(&server, token).await;
    }
    // The other grant stands.
    assert!(check.is_valid(&other.access).await.unwrap());
    refresh(&server, &other.refresh).await;
    assert_eq!((server.refreshes().await.unwrap(), server.reuses().await.unwrap()), (4, 1));
}

async fn mail_wants_a_fresh_access_token(server: TokenServer) {
    let mail = MailServer::start(server.token_check()).await.unwrap();
    let search = async |token: &str| {
        let request = reqwest::Client::new().get(mail.messages_url()).query(&[("q", "INVOICE")]).bearer_auth(token);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let unauthorized = (401, r#"{"error":"invalid_token"}"#.to_owned());

    let first = refresh(&server, server.refresh_token()).await;
    let (status, body) = search(&first.access).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        serde_json::json!({ "messages": [
            { "id": "m1", "subject": "Invoice 1042 for October" },
            { "id": "m5", "subject": "Invoice 1043 for November" },
        ]})
    );
    // Unknown, malformed, and a good refresh token, which is no access token.
    for token in ["unknown", "a&token=b", "", &first.refresh] {
        assert_eq!(search(token).await, unauthorized, "{token}");
    }
    server.expire_all_access_tokens().await.unwrap();
    assert_eq!(search(&first.access).await, unauthorized);
    assert_eq!((mail.served(), mail.refused()), (1, 5));

    // A stale access token costs a refresh, not the grant.
    let second = refresh(&server, &first.refresh).await;
    assert_eq!(search(&second.access).await.0, 200);
    assert!(server.grant_alive(&second.refresh).await.unwrap());
}

/// One test for each server and story.
macro_rules! against_both {
    ($($story:ident),*) => {
        mod with_oauth {
            $(#[tokio::test] async fn $story() { super::$story(super::oauth().await).await; })*
        }
        mod with_oidc_provider {
            $(#[tokio::test] async fn $story() {
                if let Some(server) = super::oidc().await { super::$story(server).await; }
            })*
        }
    };
}
against_both!(every_refresh_rotates, reuse_revokes_the_grant_and_no_other, mail_wants_a_fresh_access_token);

#[tokio::test]
async fn dropping_the_oidc_server_ends_its_process() {
    let Some(server) = oidc().await else { return };
    let url = server.token_url();
    drop(server);
    for _ in 0..100 {
        if reqwest::get(&url).await.is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{url} still answers");
}
