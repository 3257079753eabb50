//! HTTP requests, as far as the operator's grants go (A3).
//!
//! A rerun of the turn gets the recorded answer, without another request (A4). [`Request::send`] is for short calls: the
//! charm takes no other event until the answer is there. [`Request::commit_and_send`] commits first, and lets it.
//!
//! # Examples
//! ```
//! use charm_sdk::prelude::*;
//!
//! #[data]
//! struct Weather { degrees: f64 }
//!
//! fn weather(city: &str) -> Result<Weather> {
//!     let answer = http::Request::get("https://weather.example/now").query(&[("city", city)]).send()?;
//!     if answer.status != 200 {
//!         reject!("the weather server answered {}", answer.status);
//!     }
//!     answer.json()
//! }
//! # let _ = weather;
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::value::from_json;
use crate::{Error, Result, host};

/// One request.
///
/// # Examples
/// ```
/// use charm_sdk::http::Request;
///
/// let request = Request::post("https://login.example/token").form(&[("grant_type", "refresh token")]);
/// assert_eq!(request.body, b"grant_type=refresh%20token");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Upper-case method.
    pub method: String,
    /// Absolute `http` or `https` URL.
    pub url: String,
    /// Headers. The host adds those of connection, length and host itself.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long to wait for the whole answer; none is as long as the host does.
    pub timeout_ms: Option<u32>,
    /// Whether it may be made again after a crash that lost its answer, although its method does not say so (A4).
    pub repeatable: bool,
}

impl Request {
    /// Starts a request with any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
            repeatable: false,
        }
    }

    /// Starts a GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Starts a POST.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds the header `Authorization: Bearer ..`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Waits at most so long for the whole answer, in milliseconds.
    pub fn timeout_ms(self, timeout_ms: u32) -> Self {
        Self { timeout_ms: Some(timeout_ms), ..self }
    }

    /// Lets the host make it again after a crash that lost its answer. It carries the header `Idempotency-Key` then, the
    /// same each time, by which the server can know it; one that is set here stays.
    pub fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// Adds parameters to the URL, escaped.
    pub fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        self.url.push(if self.url.contains('?') { '&' } else { '?' });
        self.url.push_str(&pairs_text(pairs));
        self
    }

    /// Sets a form as the body, escaped, with its content type.
    pub fn form(mut self, pairs: &[(&str, &str)]) -> Self {
        self.body = pairs_text(pairs).into_bytes();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    /// Sets JSON as the body, with its content type.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what JSON does not know.
    pub fn json<T: Serialize>(mut self, value: &T) -> Result<Self> {
        self.body = serde_json::to_vec(value).map_err(|_| Error::Invalid("the body is no JSON".into()))?;
        Ok(self.header("content-type", "application/json"))
    }

    /// Sends it and waits for the whole answer. Redirects are not followed.
    ///
    /// # Errors
    /// [`Error::Http`], [`Error::Invalid`], [`Error::Limit`]. An answer with a bad status is no error.
    pub fn send(self) -> Result<Response> {
        host::fetch(self)
    }

    /// **Commits** what this handler has done so far, sends the request, and goes on with the whole answer in a fresh
    /// transaction. Redirects are not followed.
    ///
    /// Take it for what must not be made twice, and for servers that may be slow: meanwhile this charm takes other events.
    /// What was read before may have changed after it, so read it again ([`Sent`](crate::Sent) has examples).
    ///
    /// What was committed stays when the handler fails afterwards, and what the server did stays too: nothing calls the
    /// charge of a card back. Write before it what is true however it ends, and what is to be seen of it afterwards. A
    /// conflict afterwards goes on with the same answer; the request is not made again.
    ///
    /// When the host ends before it has recorded the answer, it makes the request again only if that does no harm: by its
    /// method, or because it is [`repeatable`](Request::repeatable). Else the answer is lost, and this is an
    /// [`Error::Http`] with [`HttpError::Unknown`](crate::HttpError::Unknown): look at the server what became of it, and do
    /// not take it for a failure.
    ///
    /// # Errors
    /// [`Error::Http`], [`Error::Invalid`], [`Error::Limit`]. An answer with a bad status is no error.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// use charm_sdk::HttpError;
    ///
    /// fn pay(state: &Cell<String>, order: u64) -> Result<()> {
    ///     state.set(&"is being paid".into())?; // committed before the request leaves
    ///     let charge = http::Request::post("https://bank.example/charges").json(&order)?.timeout_ms(10_000);
    ///     match charge.commit_and_send() {
    ///         Ok(answer) if answer.status == 200 => state.set(&"paid".into()),
    ///         Ok(answer) => state.set(&format!("refused: {}", answer.status)),
    ///         Err(error @ Error::Http(HttpError::Denied(_) | HttpError::Address(_))) => Err(error), // nothing was sent
    ///         Err(Error::Http(_)) => state.set(&"perhaps paid: to be looked at".into()),
    ///         Err(other) => Err(other),
    ///     }
    /// }
    /// # let _ = pay;
    /// ```
    pub fn commit_and_send(self) -> Result<Response> {
        host::fetch_as_wait(self)
    }
}

/// A whole answer.
///
/// # Examples
/// ```
/// use charm_sdk::http::Response;
///
/// let answer = Response::new(200, r#"{"ok": true}"#).header("content-type", "application/json");
/// assert_eq!(answer.get("Content-Type"), Some("application/json"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Makes an answer, for tests.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Adds a header, for tests.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Returns the first header of that name; case does not matter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// [`Error::Decode`], which names the type, the place and the reason, and never quotes the body (T7).
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        from_json(&self.body, &format_args!("the answer (status {})", self.status))
    }
}

/// `key=value` pairs, percent-encoded.
fn pairs_text(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        escape(key, &mut text);
        text.push('=');
        escape(value, &mut text);
    }
    text
}

fn escape(from: &str, to: &mut String) {
    for byte in from.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push('%');
            to.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
            to.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        }
    }
}
