//! What a token request holds, and the answers of RFC 6749 section 5.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::OauthOptions;

/// The answer to a good request.
#[derive(Serialize)]
pub(super) struct Answer {
    pub(super) access_token: String,
    pub(super) token_type: &'static str,
    /// Seconds.
    pub(super) expires_in: u64,
    pub(super) refresh_token: String,
}

/// The errors of RFC 6749 section 5.2 that apply here.
#[derive(Debug, PartialEq)]
pub(super) enum TokenError {
    InvalidRequest(&'static str),
    InvalidClient,
    InvalidGrant,
    UnsupportedGrantType,
}

/// Checks a request up to its refresh token.
pub(super) fn read_refresh_token<'a>(
    fields: &'a [(String, String)],
    options: &OauthOptions,
) -> Result<&'a str, TokenError> {
    let grant_type = field(fields, "grant_type")?.ok_or(TokenError::InvalidRequest("grant_type is missing"))?;
    let client_id = field(fields, "client_id")?.ok_or(TokenError::InvalidRequest("client_id is missing"))?;
    let client_secret = field(fields, "client_secret")?;
    if client_id != options.client_id || client_secret != options.client_secret.as_deref() {
        return Err(TokenError::InvalidClient);
    }
    if grant_type != "refresh_token" {
        return Err(TokenError::UnsupportedGrantType);
    }
    field(fields, "refresh_token")?.ok_or(TokenError::InvalidRequest("refresh_token is missing"))
}

/// Finds a field. An empty one counts as missing; one that comes twice is an error (RFC 6749 section 3.2).
fn field<'a>(fields: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, TokenError> {
    let mut values = fields.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let value = values.next().filter(|value| !value.is_empty());
    match values.next() {
        Some(_) => Err(TokenError::InvalidRequest("a field comes twice")),
        None => Ok(value),
    }
}

/// Token answers must not be cached (RFC 6749 section 5.1).
const NO_STORE: [(header::HeaderName, &str); 2] = [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (NO_STORE, Json(self)).into_response()
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::InvalidRequest(why) => {
                (StatusCode::BAD_REQUEST, json!({ "error": "invalid_request", "error_description": why }))
            }
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, json!({ "error": "invalid_client" })),
            Self::InvalidGrant => (StatusCode::BAD_REQUEST, json!({ "error": "invalid_grant" })),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, json!({ "error": "unsupported_grant_type" })),
        };
        (status, NO_STORE, Json(body)).into_response()
    }
}
