//! Keeps one OAuth grant and lends its access token to other charms.
//!
//! Others read the cell `token` and, when it does not work any more, send to `refresh-token`. Only this charm
//! writes the token (T2); the refresh token never leaves it.

use charm_sdk::prelude::*;

/// The access token for others to use.
#[data]
pub struct Token {
    pub access: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub expires_at: u64,
    /// Counts the tokens of this charm: names one without showing it.
    pub version: u64,
}

/// What the operator set up, and the refresh token as the server last rotated it.
#[data]
pub struct Grant {
    connect: Connect,
    /// How many tokens there were so far.
    issued: u64,
}

/// The event of `connect`: what the operator got from the consent screen.
#[data]
pub struct Connect {
    pub token_url: String,
    pub client_id: String,
    pub client_secret: Option<String>,
    pub refresh_token: String,
}

/// The event of `refresh-token`.
#[data]
pub struct Refresh {
    /// The version of the token that did not work, 0 for none.
    pub stale_version: u64,
}

#[charm(tags("#google-auth"))]
pub struct GoogleAuth {
    token: Cell<Token>,
    #[private]
    grant: Cell<Grant>,
}

#[handlers]
impl GoogleAuth {
    /// Sets up the grant and forgets the token of an earlier one.
    pub fn connect(&self, event: Connect) -> Result<()> {
        let issued = self.grant.get()?.map_or(0, |grant| grant.issued);
        self.grant.set(&Grant { connect: event, issued })?;
        self.token.remove()
    }

    /// Gets a new token, unless somebody else's event already did: many may ask, one request goes out.
    pub fn refresh_token(&self, event: Refresh) -> Result<()> {
        if self.token.get()?.is_some_and(|token| token.version != event.stale_version) {
            return Ok(());
        }
        let Some(mut grant) = self.grant.get()? else { reject!("not connected: send `connect` first") };

        let answer = ask(&grant.connect)?;
        let version = grant.issued + 1;
        let expires_at = context::time().saturating_add(answer.expires_in.unwrap_or(3600).saturating_mul(1000));
        self.token.set(&Token { access: answer.access_token, expires_at, version })?;

        grant.issued = version;
        if let Some(rotated) = answer.refresh_token {
            grant.connect.refresh_token = rotated;
        }
        self.grant.set(&grant)
    }
}

/// What a token server answers (RFC 6749, 5.1).
#[data]
struct Answer {
    access_token: String,
    /// Seconds.
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// What it answers instead (RFC 6749, 5.2).
#[data]
struct Refusal {
    error: String,
}

fn ask(grant: &Connect) -> Result<Answer> {
    let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", &grant.refresh_token)];
    form.push(("client_id", &grant.client_id));
    if let Some(secret) = &grant.client_secret {
        form.push(("client_secret", secret));
    }
    let answer = http::Request::post(&grant.token_url).form(&form).send()?;
    if answer.status == 200 {
        return answer.json();
    }
    let mut code = answer.json::<Refusal>().map_or("no code".into(), |refusal| refusal.error);
    code.retain(|letter| letter.is_ascii_lowercase() || "_ ".contains(letter)); // the server's words, not to be trusted
    reject!("the token server refused: {} {code:.40}", answer.status)
}
