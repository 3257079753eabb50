//! The `session.md` of each example charm, run against the real binary.
//!
//! A `toml` block is written to `charms.toml`. In a `console` block a line after `$ ` is run by the shell, with
//! standard error where standard output goes; the lines after it are what it prints, then `[exit N]` unless it
//! succeeds. `…` in such a line stands for any text.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{fs, process::Command};

use charm_demo_servers::{
    mail::MailServer,
    oauth::{OauthOptions, OauthServer},
    root,
};
use common::{Folder, program};

/// Reads the blocks of a text: language and lines.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) => {
                inside = !inside;
                if inside {
                    blocks.push((language, Vec::new()));
                }
            }
            None if inside => blocks.last_mut().unwrap().1.push(line),
            None => {}
        }
    }
    blocks
}

/// Whether a line fits, where `…` is any text.
fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("") || last.is_some_and(|last| line.ends_with(last))
}

async fn follow(charm: &str, components: &[&str]) {
    let oauth = OauthServer::start(OauthOptions::default()).await.unwrap();
    let mail = MailServer::start(oauth.token_check()).await.unwrap();
    let file = root().unwrap().join("example-charms").join(charm).join("session.md");
    let text = fs::read_to_string(file).unwrap();
    let folder = Folder::new(components, "");
    let connect = serde_json::json!({
        "token_url": oauth.token_url(), "client_id": oauth.client_id(),
        "client_secret": oauth.client_secret(), "refresh_token": oauth.refresh_token(),
    });
    fs::write(folder.path("connect.json"), connect.to_string()).unwrap();
    let program = program();
    let binaries = program.parent().unwrap().display();
    let mut commands = 0;
    for (language, lines) in blocks(&text) {
        if language == "toml" {
            let manifest = lines.join("\n").replace("$OAUTH", &oauth.url()).replace("$MAIL", &mail.url());
            fs::write(folder.path("charms.toml"), manifest).unwrap();
            continue;
        }
        assert_eq!(language, "console", "{charm}: a block of another language");
        for step in lines.join("\n").split("$ ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap_or((step, ""));
            let shell = Command::new("bash")
                .args(["-c", &format!("({command}) 2>&1")])
                .current_dir(folder.path(""))
                .env("PATH", format!("{binaries}:{}", std::env::var("PATH").unwrap()))
                .env("OAUTH", oauth.url())
                .env("MAIL", mail.url())
                .env_remove("CHARM_LOG")
                .output();
            let output = tokio::task::block_in_place(|| shell).unwrap();
            let mut printed = String::from_utf8(output.stdout).unwrap();
            if !output.status.success() {
                printed += &format!("[exit {}]\n", output.status.code().unwrap());
            }
            let (printed, expected): (Vec<_>, Vec<_>) = (printed.lines().collect(), expected.lines().collect());
            let same = printed.len() == expected.len() && expected.iter().zip(&printed).all(|(e, p)| fits(e, p));
            assert!(same, "{charm}: $ {command}\nexpected:\n{}\nprinted:\n{}", expected.join("\n"), printed.join("\n"));
            commands += 1;
        }
    }
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
