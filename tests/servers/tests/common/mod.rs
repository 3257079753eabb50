//! Requests as a client of the servers makes them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use charm_demo_servers::TokenServer;
use serde_json::Value;

/// Tokens of one good refresh.
pub struct Tokens {
    pub access: String,
    pub refresh: String,
    pub expires_in: u64,
}

/// Posts a form; gives status and body (null when it is no JSON).
pub async fn post(url: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = reqwest::Client::new().post(url).form(form).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

/// Sends one refresh, whatever comes back.
pub async fn try_refresh(server: &TokenServer, refresh_token: &str) -> (u16, Value) {
    let mut form =
        vec![("grant_type", "refresh_token"), ("client_id", server.client_id()), ("refresh_token", refresh_token)];
    form.extend(server.client_secret().map(|secret| ("client_secret", secret)));
    post(&server.token_url(), &form).await
}

/// Refreshes with a token that must be good.
pub async fn refresh(server: &TokenServer, refresh_token: &str) -> Tokens {
    let (status, body) = try_refresh(server, refresh_token).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["token_type"], "Bearer");
    Tokens {
        access: body["access_token"].as_str().unwrap().to_owned(),
        refresh: body["refresh_token"].as_str().unwrap().to_owned(),
        expires_in: body["expires_in"].as_u64().unwrap(),
    }
}

/// Refreshes with a token that must be refused as `invalid_grant`.
pub async fn refused(server: &TokenServer, refresh_token: &str) {
    let (status, body) = try_refresh(server, refresh_token).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")), "{body}");
}
