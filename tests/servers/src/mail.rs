//! A mail search API that wants a good access token.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::TokenCheck;
use crate::serve::Running;

/// Every message of the mailbox, as (id, subject).
pub const MAILBOX: &[(&str, &str)] = &[
    ("m1", "Invoice 1042 for October"),
    ("m2", "Lunch on Thursday?"),
    ("m3", "Re: Lunch on Thursday?"),
    ("m4", "Your parcel has been delivered"),
    ("m5", "Invoice 1043 for November"),
    ("m6", "Minutes of the garden committee"),
];

/// `GET /messages?q=TEXT` with `Authorization: Bearer TOKEN`.
///
/// Answers 200 `{"messages":[{"id":..,"subject":..}]}` with the messages whose subject holds TEXT, whatever the case
/// (all of them without `q`); 401 `{"error":"invalid_token"}` without a good token; 503 when the token server is silent.
pub struct MailServer {
    running: Running,
    inbox: Arc<Inbox>,
}

struct Inbox {
    check: TokenCheck,
    served: AtomicU64,
    refused: AtomicU64,
}

impl MailServer {
    /// Starts the server; it asks `check` about every token.
    ///
    /// # Errors
    /// No free port on 127.0.0.1.
    pub async fn start(check: TokenCheck) -> io::Result<Self> {
        let inbox = Arc::new(Inbox { check, served: AtomicU64::new(0), refused: AtomicU64::new(0) });
        let router = Router::new().route("/messages", get(messages)).with_state(Arc::clone(&inbox));
        Ok(Self { running: Running::start(router).await?, inbox })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        self.running.url()
    }

    /// Where messages are searched.
    pub fn messages_url(&self) -> String {
        format!("{}/messages", self.url())
    }

    /// Counts the requests answered with 200.
    pub fn served(&self) -> u64 {
        self.inbox.served.load(Ordering::SeqCst)
    }

    /// Counts the requests answered with 401.
    pub fn refused(&self) -> u64 {
        self.inbox.refused.load(Ordering::SeqCst)
    }
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
}

async fn messages(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, Query(search): Query<Search>) -> Response {
    let valid = match bearer(&headers) {
        Some(token) => inbox.check.is_valid(token).await,
        None => Ok(false),
    };
    match valid {
        Ok(true) => {
            inbox.served.fetch_add(1, Ordering::SeqCst);
            let wanted = search.q.to_lowercase();
            let found: Vec<_> = MAILBOX
                .iter()
                .filter(|(_, subject)| subject.to_lowercase().contains(&wanted))
                .map(|(id, subject)| json!({ "id": id, "subject": subject }))
                .collect();
            Json(json!({ "messages": found })).into_response()
        }
        Ok(false) => {
            inbox.refused.fetch_add(1, Ordering::SeqCst);
            let challenge = [(header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)];
            (StatusCode::UNAUTHORIZED, challenge, Json(json!({ "error": "invalid_token" }))).into_response()
        }
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "token_server_unavailable" }))).into_response()
        }
    }
}

/// Reads `Authorization: Bearer TOKEN` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
