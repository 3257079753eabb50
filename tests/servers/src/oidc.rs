//! `oidc-provider`, a certified OAuth server, in a Node process.
//!
//! The script and its lock file are in `oidc/`. Its first grant comes from a walk through the authorization code flow.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::serve::call;
use crate::{TokenCheck, root};

/// Where they are, from the root of the repository.
const DIRECTORY: &str = "tests/servers/oidc";
/// Longest time from start to the first line.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// The running process; killed when dropped. It also ends by itself when this process dies.
pub struct OidcServer {
    start: Started,
    _child: Child,
}

/// The line that the script prints.
#[derive(Deserialize)]
struct Started {
    url: String,
    client_id: String,
    client_secret: String,
    refresh_token: String,
}

impl OidcServer {
    /// Starts the server with one grant. Runs `npm ci` first when its packages are not there.
    ///
    /// Gives none, and says so on standard error, when there is no `node` at all.
    ///
    /// # Errors
    /// `npm ci` fails, or the script does not come up within 30 seconds.
    #[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
    pub async fn start() -> io::Result<Option<Self>> {
        let server = Self::start_with("node").await?;
        if server.is_none() {
            eprintln!(
                "SKIPPED: no `node` on the PATH, so nothing runs against oidc-provider; install Node 20 or later"
            );
        }
        Ok(server)
    }

    async fn start_with(node: &str) -> io::Result<Option<Self>> {
        match Command::new(node).arg("--version").output().await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        tokio::task::spawn_blocking(install).await.map_err(io::Error::other)??;
        let mut child = Command::new(node)
            .arg("server.mjs")
            .current_dir(root()?.join(DIRECTORY))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_TIME_MAX, lines.next_line())
            .await
            .map_err(|_| io::Error::other("server.mjs printed nothing in 30 seconds"))??
            .ok_or_else(|| io::Error::other("server.mjs ended at once; its standard error says why"))?;
        let start = serde_json::from_str(&line).map_err(io::Error::other)?;
        Ok(Some(Self { start, _child: child }))
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        self.start.url.clone()
    }

    /// Where refresh tokens are exchanged.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.start.url)
    }

    /// The one client.
    pub fn client_id(&self) -> &str {
        &self.start.client_id
    }

    /// Its secret.
    pub fn client_secret(&self) -> &str {
        &self.start.client_secret
    }

    /// The first refresh token of the grant made at start.
    pub fn refresh_token(&self) -> &str {
        &self.start.refresh_token
    }

    /// Makes another grant, through the code flow, and gives its first refresh token.
    ///
    /// # Errors
    /// The process does not answer.
    pub async fn new_grant(&self) -> io::Result<String> {
        let answer = call(&self.start.url, "POST", "/grant", "").await?;
        Ok(answer["refresh_token"].as_str().unwrap_or_default().to_owned())
    }

    /// Counts the refresh tokens exchanged.
    ///
    /// # Errors
    /// The process does not answer.
    pub async fn refreshes(&self) -> io::Result<u64> {
        Ok(self.stats("").await?["refreshes"].as_u64().unwrap_or_default())
    }

    /// Counts the grants revoked because an old refresh token was used.
    ///
    /// # Errors
    /// The process does not answer.
    pub async fn reuses(&self) -> io::Result<u64> {
        Ok(self.stats("").await?["reuses"].as_u64().unwrap_or_default())
    }

    /// Tells whether the grant that this refresh token was ever issued for still stands.
    ///
    /// # Errors
    /// The process does not answer.
    pub async fn grant_alive(&self, refresh_token: &str) -> io::Result<bool> {
        Ok(is_plain(refresh_token) && self.stats(refresh_token).await?["grant_alive"] == true)
    }

    /// Makes every access token stale; refresh tokens stay good.
    ///
    /// # Errors
    /// The process does not answer.
    pub async fn expire_all_access_tokens(&self) -> io::Result<()> {
        call(&self.start.url, "POST", "/expire", "").await.map(drop)
    }

    /// What [`crate::mail::MailServer`] asks about access tokens.
    pub fn token_check(&self) -> TokenCheck {
        TokenCheck::introspection(Introspection {
            url: self.start.url.clone(),
            client_id: self.start.client_id.clone(),
            client_secret: self.start.client_secret.clone(),
        })
    }

    async fn stats(&self, refresh_token: &str) -> io::Result<Value> {
        call(&self.start.url, "GET", &format!("/stats?refresh_token={refresh_token}"), "").await
    }
}

/// Asks the server about a token (RFC 7662).
#[derive(Clone)]
pub(crate) struct Introspection {
    url: String,
    client_id: String,
    client_secret: String,
}

impl Introspection {
    pub(crate) async fn is_valid(&self, access_token: &str) -> io::Result<bool> {
        if !is_plain(access_token) {
            return Ok(false);
        }
        let Self { url, client_id, client_secret } = self;
        let form = format!("client_id={client_id}&client_secret={client_secret}&token={access_token}");
        Ok(call(url, "POST", "/token/introspection", &form).await?["active"] == true)
    }
}

/// Tells whether a token is of the kind that the server issues, which needs no escaping in a form.
fn is_plain(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Fetches the packages that the lock file names, unless they are there.
fn install() -> io::Result<()> {
    let directory = root()?.join(DIRECTORY);
    // npm writes this file last.
    let done = directory.join("node_modules/.package-lock.json");
    if done.exists() {
        return Ok(());
    }
    // Tests run in several processes: one of them installs.
    let lock = File::open(directory.join("package-lock.json"))?;
    lock.lock()?;
    if done.exists() {
        return Ok(());
    }
    let npm = std::process::Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::other(format!("can not run `npm ci` in {DIRECTORY}: {error}")))?;
    if !npm.status.success() {
        let text = String::from_utf8_lossy(&npm.stderr);
        let text: String = text.chars().take(1000).collect();
        return Err(io::Error::other(format!("`npm ci` in {DIRECTORY} failed; run it by hand: {text}")));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_none_without_node() {
        assert!(OidcServer::start_with("no-such-node").await.unwrap().is_none());
    }
}
