//! The `session.md` of each example charm, run against the real binary.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{fs, path::PathBuf, process::Command};

use charm_demo_servers::{
    mail::MailServer,
    oauth::{OauthOptions, OauthServer},
    root,
};
use common::{
    Folder,
    page::{self, fits},
};

/// Ends the host that a session began in the background, also when the session fails.
struct Background(PathBuf);

impl Drop for Background {
    fn drop(&mut self) {
        if let Ok(id) = fs::read_to_string(self.0.join("host.pid")) {
            let _ = Command::new("kill").arg(id.trim()).output();
        }
    }
}

async fn follow(charm: &str, components: &[&str]) {
    let oauth = OauthServer::start(OauthOptions::default()).await.unwrap();
    let mail = MailServer::start(oauth.token_check()).await.unwrap();
    let file = root().unwrap().join("example-charms").join(charm).join("session.md");
    let text = fs::read_to_string(file).unwrap();
    let folder = Folder::new(components, "");
    let _background = Background(folder.path(""));
    let connect = serde_json::json!({
        "token_url": oauth.token_url(), "client_id": oauth.client_id(),
        "client_secret": oauth.client_secret(), "refresh_token": oauth.refresh_token(),
    });
    fs::write(folder.path("connect.json"), connect.to_string()).unwrap();
    let envs = [("OAUTH", oauth.url()), ("MAIL", mail.url())];
    let commands = tokio::task::block_in_place(|| page::follow(charm, &text, &folder.path(""), &envs));
    assert!(commands > 3, "{charm}: {commands} commands");
}

#[tokio::test(flavor = "multi_thread")]
async fn counter() {
    follow("counter", &["counter"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_auth() {
    follow("google-auth", &["google-auth"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gmail_search() {
    follow("gmail-search", &["google-auth", "gmail-search"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn till() {
    follow("till", &["counter", "till"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shopping_list() {
    follow("shopping-list", &["shopping-list"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_total() {
    follow("running-total", &["running-total"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn picker() {
    follow("picker", &["counter", "picker"]).await;
}

#[test]
fn a_pattern_fits_what_it_says_and_nothing_else() {
    for (expected, line) in [("a…c", "abc"), ("…", ""), ("… b", "x b"), ("a…", "a"), ("a…b…c", "aXbYc"), ("a", "a")]
    {
        assert!(fits(expected, line), "{expected} {line}");
    }
    for (expected, line) in [("a…c", "ab"), ("a", "ab"), ("… b", "x c"), ("a…b…c", "acb"), ("…b", "bc")] {
        assert!(!fits(expected, line), "{expected} {line}");
    }
}
