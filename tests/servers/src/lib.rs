//! The servers that the demo and the tests talk to: two OAuth token servers and a mail search API.
//!
//! All of them are real HTTP servers, bound to a free port of 127.0.0.1, and stop when dropped.
//!
//! - [`oauth`]: a small token server in this process, with knobs for tests (held answers, failures).
//! - [`oidc`]: `oidc-provider`, a certified server on Node, so that nothing rests on our own reading of the RFCs.
//! - [`mail`]: the API that wants their access tokens.
//!
//! Both token servers rotate the refresh token on every use, and answer the use of an old one by revoking the whole
//! grant (RFC 9700 section 4.14). [`TokenServer`] is either of them, so one test serves both.

mod check;
pub mod mail;
pub mod oauth;
pub mod oidc;
mod serve;

use std::{io, path::PathBuf};

pub use check::TokenCheck;
use oauth::OauthServer;
use oidc::OidcServer;

/// Returns the root of the repository that this runs in, from the working folder up: a copy of the folder, with what is
/// built in it, is a repository of its own.
///
/// # Errors
/// Outside of any.
pub fn root() -> io::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let root = here.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file());
    root.map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{} is in no repository of charm", here.display())))
}

/// One of the two token servers.
#[allow(clippy::large_enum_variant, reason = "a test holds one of them")]
pub enum TokenServer {
    /// The small one in this process.
    Oauth(OauthServer),
    /// `oidc-provider` in a Node process.
    Oidc(OidcServer),
}

impl TokenServer {
    /// Where refresh tokens are exchanged.
    pub fn token_url(&self) -> String {
        match self {
            Self::Oauth(server) => server.token_url(),
            Self::Oidc(server) => server.token_url(),
        }
    }

    /// The one client that the server knows.
    pub fn client_id(&self) -> &str {
        match self {
            Self::Oauth(server) => server.client_id(),
            Self::Oidc(server) => server.client_id(),
        }
    }

    /// The client's secret, sent in the form (`client_secret_post`); none for a public client.
    pub fn client_secret(&self) -> Option<&str> {
        match self {
            Self::Oauth(server) => server.client_secret(),
            Self::Oidc(server) => Some(server.client_secret()),
        }
    }

    /// The first refresh token of the grant made at start.
    pub fn refresh_token(&self) -> &str {
        match self {
            Self::Oauth(server) => server.refresh_token(),
            Self::Oidc(server) => server.refresh_token(),
        }
    }

    /// Makes another grant and gives its first refresh token.
    ///
    /// # Errors
    /// The Node process does not answer.
    pub async fn new_grant(&self) -> io::Result<String> {
        match self {
            Self::Oauth(server) => Ok(server.new_grant()),
            Self::Oidc(server) => server.new_grant().await,
        }
    }

    /// Counts the refresh tokens exchanged.
    ///
    /// # Errors
    /// The Node process does not answer.
    pub async fn refreshes(&self) -> io::Result<u64> {
        match self {
            Self::Oauth(server) => Ok(server.refreshes()),
            Self::Oidc(server) => server.refreshes().await,
        }
    }

    /// Counts the grants revoked because an old refresh token was used.
    ///
    /// # Errors
    /// The Node process does not answer.
    pub async fn reuses(&self) -> io::Result<u64> {
        match self {
            Self::Oauth(server) => Ok(server.reuses()),
            Self::Oidc(server) => server.reuses().await,
        }
    }

    /// Tells whether the grant that this refresh token was ever issued for still stands.
    ///
    /// # Errors
    /// The Node process does not answer.
    pub async fn grant_alive(&self, refresh_token: &str) -> io::Result<bool> {
        match self {
            Self::Oauth(server) => Ok(server.grant_alive(refresh_token)),
            Self::Oidc(server) => server.grant_alive(refresh_token).await,
        }
    }

    /// Makes every access token stale; refresh tokens stay good.
    ///
    /// # Errors
    /// The Node process does not answer.
    pub async fn expire_all_access_tokens(&self) -> io::Result<()> {
        match self {
            Self::Oauth(server) => {
                server.expire_all_access_tokens();
                Ok(())
            }
            Self::Oidc(server) => server.expire_all_access_tokens().await,
        }
    }

    /// What [`mail::MailServer`] asks about access tokens.
    pub fn token_check(&self) -> TokenCheck {
        match self {
            Self::Oauth(server) => server.token_check(),
            Self::Oidc(server) => server.token_check(),
        }
    }
}
