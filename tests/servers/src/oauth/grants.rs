//! Grants and their tokens: rotation, reuse, expiry. No I/O.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Every grant ever made, with every token ever issued for it.
#[derive(Default)]
pub(super) struct Grants {
    grants: Vec<Grant>,
    /// Refresh token -> place of its grant in `grants`. Old ones stay: they are how reuse is noticed.
    refresh_tokens: HashMap<String, usize>,
    access_tokens: HashMap<String, AccessToken>,
    pub(super) refreshes: u64,
    pub(super) reuses: u64,
}

struct Grant {
    /// The one refresh token that may be used; none once the grant is revoked.
    current: Option<String>,
}

struct AccessToken {
    grant: usize,
    expires: Instant,
}

/// What one refresh gives.
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: String,
}

impl Grants {
    /// Makes a grant and gives its first refresh token.
    pub(super) fn new_grant(&mut self) -> String {
        self.grants.push(Grant { current: None });
        self.rotate(self.grants.len() - 1)
    }

    /// Exchanges a refresh token. None when it is unknown or its grant is revoked, or when it is an old one: then its
    /// grant is revoked now.
    pub(super) fn refresh(&mut self, refresh_token: &str, lifetime: Duration) -> Option<Tokens> {
        let place = *self.refresh_tokens.get(refresh_token)?;
        let current = self.grants[place].current.as_deref()?;
        if current != refresh_token {
            self.grants[place].current = None;
            self.reuses += 1;
            return None;
        }
        let now = Instant::now();
        self.access_tokens.retain(|_, token| token.expires > now);
        let access = random_token();
        self.access_tokens.insert(access.clone(), AccessToken { grant: place, expires: now + lifetime });
        self.refreshes += 1;
        Some(Tokens { access, refresh: self.rotate(place) })
    }

    /// Tells whether an access token is known, not expired, and its grant stands.
    pub(super) fn is_valid(&self, access_token: &str) -> bool {
        self.access_tokens
            .get(access_token)
            .is_some_and(|token| token.expires > Instant::now() && self.grants[token.grant].current.is_some())
    }

    /// Tells whether the grant of a refresh token, old or current, stands.
    pub(super) fn is_alive(&self, refresh_token: &str) -> bool {
        self.refresh_tokens.get(refresh_token).is_some_and(|place| self.grants[*place].current.is_some())
    }

    pub(super) fn expire_all_access_tokens(&mut self) {
        self.access_tokens.clear();
    }

    /// Makes a new refresh token the current one of a grant.
    fn rotate(&mut self, place: usize) -> String {
        let token = random_token();
        self.refresh_tokens.insert(token.clone(), place);
        self.grants[place].current = Some(token.clone());
        token
    }
}

/// 256 random bits in hex.
pub(super) fn random_token() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
