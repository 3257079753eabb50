//! The token refresh that used to fail.
#![allow(clippy::unwrap_used, reason = "tests")]

use charm_demo_servers::{mail::MailServer, oauth::{OauthOptions, OauthServer}};
use serde_json::json;

use charm_conformance::{component, json, only, value};
use charm_host::*;

#[tokio::test(flavor = "multi_thread")]
async fn smoke() {
    let oauth = OauthServer::start(OauthOptions::default()).await.unwrap();
    let mail = MailServer::start(oauth.token_check()).await.unwrap();
    let host = Host::builder().open().await.unwrap();
    let grant = |url: &str, method: &str| HttpGrant { origin: url.trim_end_matches('/').to_owned(), methods: vec![method.into()], private: false };
    let auth = host.install(Charm::new("google-auth", component("google-auth")).may_call(grant(&oauth.url(), "POST"))).await.unwrap();
    let search = host
        .install(
            Charm::new("gmail-search", component("gmail-search"))
                .may_call(grant(&mail.url(), "GET"))
                .may_read(auth, only(&["token"]))
                .may_send(auth, only(&["refresh-token"])),
        )
        .await
        .unwrap();
    let connect = json!({"token_url": oauth.token_url(), "client_id": oauth.client_id(), "client_secret": oauth.client_secret(), "refresh_token": oauth.refresh_token()});
    let receipt = host.request(NewEvent::new(auth, "connect", value(connect))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let receipt = host.request(NewEvent::new(search, "configure", value(json!({"api": mail.url()})))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let receipt = host.request(NewEvent::new(search, "search", value(json!({"query": "invoice"})))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    for _ in 0..100 {
        if let Some(results) = host.get(&search, "results", &Path::root()).await.unwrap() {
            println!("{}", json(&results));
            println!("{:?}", host.verify(&search).unwrap());
            println!("{:?}", host.verify(&auth).unwrap());
            host.shutdown().await.unwrap();
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no results: {:?} {:?}", host.dead_letters(&search), host.dead_letters(&auth));
}
