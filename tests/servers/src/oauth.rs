//! A small OAuth 2.0 token server in this process.
//!
//! It knows one client and one grant type: `POST /token` with `grant_type=refresh_token` (RFC 6749 section 6).
//! Every refresh gives a new refresh token and retires the old one; a retired one that comes back means that somebody
//! has a copy, so its grant is revoked with all its tokens (RFC 9700 section 4.14).

mod grants;
mod request;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, State, rejection::FormRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::sync::watch;

use crate::TokenCheck;
use crate::serve::Running;
use grants::{Grants, random_token};
use request::{Answer, TokenError, read_refresh_token};

/// Longest body of a token request.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct OauthOptions {
    /// The one client.
    pub client_id: String,
    /// Its secret; none makes it a public client.
    pub client_secret: Option<String>,
    /// Lifetime of an access token, in seconds.
    pub expires_in: u64,
}

impl Default for OauthOptions {
    /// A client `charm-demo` with a random secret; access tokens live 60 seconds.
    fn default() -> Self {
        Self { client_id: "charm-demo".to_owned(), client_secret: Some(random_token()), expires_in: 60 }
    }
}

/// The running server. Tokens live as long as it does.
pub struct OauthServer {
    running: Running,
    shared: Arc<Shared>,
    refresh_token: String,
}

struct Shared {
    options: OauthOptions,
    grants: Mutex<Grants>,
    /// Requests still to be failed, and the status they get.
    failures: Mutex<(u64, StatusCode)>,
    /// Whether answers are held back.
    hold: watch::Sender<bool>,
    /// How many answers are held back now.
    held: watch::Sender<usize>,
}

impl OauthServer {
    /// Starts a server with one grant.
    ///
    /// # Errors
    /// No free port on 127.0.0.1.
    pub async fn start(options: OauthOptions) -> io::Result<Self> {
        let mut grants = Grants::default();
        let refresh_token = grants.new_grant();
        let shared = Arc::new(Shared {
            options,
            grants: Mutex::new(grants),
            failures: Mutex::new((0, StatusCode::OK)),
            hold: watch::Sender::new(false),
            held: watch::Sender::new(0),
        });
        let router = Router::new()
            .route("/token", post(token))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        Ok(Self { running: Running::start(router).await?, shared, refresh_token })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        self.running.url()
    }

    /// Where refresh tokens are exchanged.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.url())
    }

    /// The one client.
    pub fn client_id(&self) -> &str {
        &self.shared.options.client_id
    }

    /// Its secret, if it has one.
    pub fn client_secret(&self) -> Option<&str> {
        self.shared.options.client_secret.as_deref()
    }

    /// The first refresh token of the grant made at start.
    pub fn refresh_token(&self) -> &str {
        &self.refresh_token
    }

    /// Makes another grant and gives its first refresh token.
    pub fn new_grant(&self) -> String {
        self.grants().new_grant()
    }

    /// Tells whether the access token is good now.
    pub fn is_valid(&self, access_token: &str) -> bool {
        self.grants().is_valid(access_token)
    }

    /// What [`crate::mail::MailServer`] asks about access tokens. Tokens stay known after the server is dropped.
    pub fn token_check(&self) -> TokenCheck {
        let shared = Arc::clone(&self.shared);
        TokenCheck::new(move |access_token| lock(&shared.grants).is_valid(access_token))
    }

    /// Makes every access token stale; refresh tokens stay good.
    pub fn expire_all_access_tokens(&self) {
        self.grants().expire_all_access_tokens();
    }

    /// Counts the refresh tokens exchanged.
    pub fn refreshes(&self) -> u64 {
        self.grants().refreshes
    }

    /// Counts the grants revoked because an old refresh token was used.
    pub fn reuses(&self) -> u64 {
        self.grants().reuses
    }

    /// Tells whether the grant that this refresh token was ever issued for still stands.
    pub fn grant_alive(&self, refresh_token: &str) -> bool {
        self.grants().is_alive(refresh_token)
    }

    /// Fails the next `n` requests with `status` and no effect.
    ///
    /// # Panics
    /// `status` is no HTTP status.
    pub fn fail_next(&self, n: u64, status: u16) {
        let status = StatusCode::from_u16(status).expect("an HTTP status");
        *lock(&self.shared.failures) = (n, status);
    }

    /// Holds back answers from now on. A request takes effect when it arrives: its tokens are rotated, and a client
    /// that goes away before [`release_answers`](Self::release_answers) never learns the new ones.
    pub fn hold_answers(&self) {
        self.shared.hold.send_replace(true);
    }

    /// Lets the held answers go. Dropping the server does so too.
    pub fn release_answers(&self) {
        self.shared.hold.send_replace(false);
    }

    /// Waits until `n` or more answers are held back.
    pub async fn wait_for_held(&self, n: usize) {
        // The sender is in `shared`, so the wait can not fail.
        let _ = self.shared.held.subscribe().wait_for(|held| *held >= n).await;
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        lock(&self.shared.grants)
    }
}

impl Drop for OauthServer {
    fn drop(&mut self) {
        self.release_answers();
    }
}

type Fields = Vec<(String, String)>;

async fn token(State(shared): State<Arc<Shared>>, form: Result<Form<Fields>, FormRejection>) -> Response {
    let answer = match shared.take_failure() {
        Some(status) => status.into_response(),
        None => match shared.refresh(form) {
            Ok(answer) => answer.into_response(),
            Err(error) => error.into_response(),
        },
    };
    shared.wait_for_release().await;
    answer
}

impl Shared {
    fn take_failure(&self) -> Option<StatusCode> {
        let mut failures = lock(&self.failures);
        failures.0 = failures.0.checked_sub(1)?;
        Some(failures.1)
    }

    fn refresh(&self, form: Result<Form<Fields>, FormRejection>) -> Result<Answer, TokenError> {
        let Form(fields) =
            form.map_err(|_| TokenError::InvalidRequest("the body must be application/x-www-form-urlencoded"))?;
        let refresh_token = read_refresh_token(&fields, &self.options)?;
        let lifetime = Duration::from_secs(self.options.expires_in);
        let tokens = lock(&self.grants).refresh(refresh_token, lifetime).ok_or(TokenError::InvalidGrant)?;
        Ok(Answer {
            access_token: tokens.access,
            token_type: "Bearer",
            expires_in: self.options.expires_in,
            refresh_token: tokens.refresh,
        })
    }

    async fn wait_for_release(&self) {
        let _count = Held::count(&self.held);
        // The sender is in `self`, so the wait can not fail.
        let _ = self.hold.subscribe().wait_for(|hold| !*hold).await;
    }
}

/// Counts one held answer, also when its client goes away.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn count(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

/// Locks, whatever a panicking test left behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
