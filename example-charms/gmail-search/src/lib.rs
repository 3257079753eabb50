//! Searches a mailbox with the token of another charm, and has it refreshed when it does not work any more.
//!
//! The token belongs to the charm with the tag `#google-auth`. This charm reads it and never writes it: it sends to
//! `refresh-token`, waits, and goes on in a fresh transaction of its own that sees the new token (S7).

use charm_sdk::prelude::*;

/// What is needed of the charm that keeps the token.
#[wish("#google-auth")]
struct Auth {
    token: Cell<Token>,
    refresh_token: Stream<Refresh>,
}

#[data]
struct Token {
    access: String,
    expires_at: u64,
    version: u64,
}

#[data]
struct Refresh {
    stale_version: u64,
}

/// The event of `configure`.
#[data]
pub struct Configure {
    /// Where the mail server's API is, like `https://gmail.googleapis.com/gmail/v1/users/me`.
    pub api: String,
}

/// The event of `search`.
#[data]
pub struct Search {
    pub query: String,
}

/// The answer to the last search that ended well.
#[data]
pub struct Results {
    pub query: String,
    pub messages: Vec<Message>,
}

#[data]
pub struct Message {
    pub id: String,
    pub subject: Option<String>,
}

#[charm(tags("#gmail-search"))]
pub struct GmailSearch {
    config: Cell<Configure>,
    results: Cell<Results>,
    refused: Cell<String>,
}

#[handlers]
impl GmailSearch {
    pub fn configure(&self, event: Configure) -> Result<()> {
        self.config.set(&event)
    }

    /// Searches with the token that is there, or has a new one made first.
    pub fn search(&self, event: Search) -> Result<()> {
        let auth = Auth::wish()?.one()?;
        let token = auth.token.get()?;
        if let Some(token) = &token
            && token.expires_at > context::time()
            && self.search_with(token, &event)?
        {
            return Ok(());
        }
        let stale_version = token.map_or(0, |token| token.version);
        auth.refresh_token.send(&Refresh { stale_version })?.commit_and_wait(Duration::from_secs(30))?;

        let token = auth.token.need()?; // the new one
        if !self.search_with(&token, &event)? {
            reject!("the mail server refuses the new token too");
        }
        Ok(())
    }

    /// The mistake that many make first: refreshing the token in place. The host refuses the write.
    pub fn search_wrong(&self, _event: Search) -> Result<()> {
        let auth = Auth::wish()?.one()?;
        let mine = Token { access: "made up".into(), expires_at: u64::MAX, version: 0 };
        let Err(refusal) = auth.token.set(&mine) else { return Ok(()) };
        log::warn(&refusal);
        self.refused.set(&refusal.to_string())
    }

    /// Stores what the mail server finds. False when it does not take the token.
    fn search_with(&self, token: &Token, search: &Search) -> Result<bool> {
        let url = format!("{}/messages", self.config.need()?.api);
        let answer = http::Request::get(url).query(&[("q", &search.query)]).bearer(&token.access).send()?;
        match answer.status {
            200 => {}
            401 => return Ok(false),
            other => reject!("the mail server answered {other}"),
        }
        let messages = answer.json::<Found>()?.messages;
        self.results.set(&Results { query: search.query.clone(), messages })?;
        Ok(true)
    }
}

/// What the mail server answers.
#[data]
struct Found {
    #[serde(default)]
    messages: Vec<Message>,
}
