//! Outbound HTTP of one turn: what is allowed, what is recorded, and when a request may leave (A3, A4, T8).
//!
//! A request leaves only when everything its turn has read is durable. Nothing waits for the answer but the turn's
//! record: the attempt that asks ends, and when the answer is recorded the turn runs again from its start; a rerun
//! that asks the same gets the recorded answer. So a turn with n requests runs n + 1 times. The record is in memory:
//! after a crash of the host a turn starts anew and its requests are made again, but for those that may do harm: before one of
//! them leaves, it is noted that the turn asks for it, and the next host says that it is unknown what became of it. A request that a
//! turn waits for (S7) leaves apart from the turn: what is here checks and names it.

mod client;

use std::{fmt, sync::Arc, time::Duration};

pub use client::HttpClient;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    env::{BoxFuture, Env},
    limits::Limits,
};

/// One request, as a guest asks it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Upper-case method.
    pub method: String,
    /// Absolute URL.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// One answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// Headers, bodies and the rest of the URL never reach logs.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { method, url, headers, body } = self;
        let origin = shown(url).unwrap_or_default();
        write!(f, "{method} {origin} with {} headers and {} bytes", headers.len(), body.len())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Response { status, headers, body } = self;
        write!(f, "status {status} with {} headers and {} bytes", headers.len(), body.len())
    }
}

/// How an exchange fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HttpError {
    /// No grant covers this method and origin.
    #[error("no http grant for {0}: the operator can add one")]
    Denied(String),
    /// The name does not resolve to an address that may be called.
    #[error("{0}")]
    Address(String),
    /// No complete answer in time.
    #[error("timeout")]
    Timeout,
    /// The connection failed or the peer broke the protocol.
    #[error("connection: {0}")]
    Connection(String),
    /// It may have been carried out; its answer is lost, and making it again may do harm (A4).
    #[error("unknown what became of {0}: its answer is lost")]
    Unknown(String),
}

/// How `fetch` fails.
#[derive(Debug)]
pub enum FetchError {
    /// The exchange failed.
    Http(HttpError),
    /// The request is malformed.
    Invalid(String),
    /// A bound would be passed.
    Limit {
        /// Which.
        name: &'static str,
        /// Its value.
        max: u64,
    },
    /// The answer is not recorded yet: the attempt ends here.
    Waits,
}

/// What the operator lets one charm call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpGrant {
    /// `scheme://host` or `scheme://host:port`, without a path. An IP address or `localhost` here allows that
    /// very address; a name must resolve to a public address unless `private` is set.
    pub origin: String,
    /// Upper-case methods.
    pub methods: Vec<String>,
    /// Whether the name may resolve to a loopback, private or link-local address.
    pub private: bool,
}

/// How a transport fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// As the guest sees it.
    Http(HttpError),
    /// The answer passes a bound of `Limits`.
    TooLarge(&'static str),
}

/// Makes one exchange with the outside. A seam, so that tests can stand in for the network.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request that is allowed and well-formed, and returns the whole answer. No redirects.
    /// `private` says whether a name may resolve to an address that is not public.
    ///
    /// Dropped when it takes longer than `http-timeout-ms`, when the turn has spent `http-turn-ms-max`, or when the host
    /// shuts down.
    ///
    /// # Errors
    /// [`TransportError`].
    fn exchange(&self, request: Request, private: bool) -> BoxFuture<'_, Result<Response, TransportError>>;
}

/// The header by which a server knows a request that is made again
/// (`draft-ietf-httpapi-idempotency-key-header`).
const KEY_HEADER: &str = "idempotency-key";

/// Headers that the host writes itself, or that would change how the message is framed.
const OWN_HEADERS: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "proxy-authorization",
];

/// The outbound HTTP of one turn, lent to each attempt.
#[derive(Default)]
pub struct Outbound {
    limits: Arc<Limits>,
    grants: Arc<[HttpGrant]>,
    exchanges: Vec<Exchange>,
    wanted: Option<Wanted>,
    /// Time of all exchanges.
    spent: Duration,
    /// Exchanges of the turn's segments before.
    before: usize,
    /// What the keys of its requests are made with.
    seed: [u8; 32],
}

struct Exchange {
    request: Request,
    answer: Result<Response, TransportError>,
    /// Given out in this attempt.
    used: bool,
}

/// What a guest asks of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long it may take; the host's own time is the most.
    pub timeout: Option<Duration>,
    /// The request may be made again after a crash, whatever its method.
    pub repeatable: bool,
}

/// What an attempt asked for when it ended.
struct Wanted {
    request: Request,
    private: bool,
    /// As the guest wants it.
    options: Options,
    /// The last commit that the attempt could see.
    seen: u64,
}

impl Outbound {
    /// Returns the outbound HTTP of a new turn, whose requests get keys by `seed`.
    pub fn new(limits: Arc<Limits>, seed: [u8; 32]) -> Outbound {
        Outbound { limits, seed, ..Outbound::default() }
    }

    /// Starts an attempt: recorded answers are given out again, only what is new asks these grants. So many exchanges the turn
    /// has made before its last wait.
    pub fn rewind(&mut self, grants: Arc<[HttpGrant]>, before: usize) {
        (self.grants, self.before) = (grants, before);
        self.wanted = None;
        for exchange in &mut self.exchanges {
            exchange.used = false;
        }
    }

    /// Returns the recorded answer to the same request, or notes the request. `seen` is the last commit that the turn's
    /// snapshot shows.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn fetch(&mut self, request: Request, options: Options, seen: u64) -> Result<Response, FetchError> {
        let limits = &self.limits;
        let recorded = self.exchanges.iter_mut().find(|exchange| !exchange.used && exchange.request == request);
        if let Some(exchange) = recorded {
            exchange.used = true;
            return told(exchange.answer.clone(), limits);
        }
        let private = self.check(&request)?;
        if self.spent >= Duration::from_millis(limits.http_turn_ms_max) {
            return Err(FetchError::Limit { name: "http-turn-ms-max", max: limits.http_turn_ms_max });
        }
        self.wanted = Some(Wanted { request, private, options, seen });
        Err(FetchError::Waits)
    }

    /// Checks a request that the turn is to wait for; returns it as it leaves, and how long it may take.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn ask(&self, request: Request, options: Options) -> Result<(Request, Duration), FetchError> {
        self.check(&request)?;
        let max = Duration::from_millis(self.limits.http_timeout_ms);
        Ok((self.keyed(request, options), options.timeout.unwrap_or(max).min(max)))
    }

    /// Checks that a request may be made; returns whether its name may resolve to an address that is not public.
    fn check(&self, request: &Request) -> Result<bool, FetchError> {
        let private = check(request, &self.grants, &self.limits)?.private;
        let max = self.limits.http_requests_max;
        if self.before + self.exchanges.len() >= max {
            return Err(FetchError::Limit { name: "http-requests-max", max: max as u64 });
        }
        Ok(private)
    }

    /// Returns what names the next request of this kind: the same in every run, and nobody can tell the event from it.
    fn named(&self, request: &Request) -> [u8; 32] {
        let same = self.exchanges.iter().filter(|exchange| exchange.request == *request).count();
        let number = (self.before + same) as u64;
        let bytes = postcard::to_stdvec(request).unwrap_or_default();
        Sha256::new().chain_update(self.seed).chain_update(number.to_be_bytes()).chain_update(bytes).finalize().into()
    }

    /// Returns a request as it leaves: one that is repeatable has a key, the same whenever it is made again.
    fn keyed(&self, mut request: Request, options: Options) -> Request {
        let is_keyed = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(KEY_HEADER));
        if options.repeatable && !is_keyed {
            let key: String = self.named(&request)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            request.headers.push((KEY_HEADER.to_owned(), format!("\"{key}\"")));
        }
        request
    }

    /// Returns the last commit that must be durable before the noted request leaves; none when nothing is noted.
    pub fn seen(&self) -> Option<u64> {
        self.wanted.as_ref().map(|wanted| wanted.seen)
    }

    /// Forgets what was noted: the next attempt asks again.
    pub fn forget(&mut self) {
        self.wanted = None;
    }

    /// Forgets what was noted when these grants do not cover it.
    pub fn check_wanted(&mut self, grants: &[HttpGrant]) {
        self.wanted.take_if(|wanted| check(&wanted.request, grants, &self.limits).is_err());
    }

    /// Returns the hash that tells the noted request from all others of the turn, if it must not be made twice.
    pub fn asks_once(&self) -> Option<[u8; 32]> {
        let wanted = self.wanted.as_ref()?;
        let Wanted { request, options, .. } = wanted;
        let is_once = !options.repeatable && !is_idempotent(&request.method);
        is_once.then(|| self.named(request))
    }

    /// Records that nobody knows what became of the noted request.
    pub fn lose(&mut self) {
        let Some(Wanted { request, .. }) = self.wanted.take() else { return };
        let answer = Err(TransportError::Http(HttpError::Unknown(called(&request))));
        self.exchanges.push(Exchange { request, answer, used: false });
    }

    /// Makes the exchange that was noted and records what came of it, at the latest when its time is over, whatever the
    /// transport does.
    pub async fn exchange(&mut self, transport: &dyn Transport, env: &dyn Env) {
        let Some(Wanted { request, private, options, .. }) = self.wanted.take() else { return };
        let left = Duration::from_millis(self.limits.http_turn_ms_max).saturating_sub(self.spent);
        let max = Duration::from_millis(self.limits.http_timeout_ms).min(left);
        let timeout = options.timeout.unwrap_or(max).min(max);
        let start = env.monotonic();
        let answer = exchange(transport, env, self.keyed(request.clone(), options), private, timeout).await;
        self.spent += env.monotonic().saturating_sub(start);
        self.exchanges.push(Exchange { request, answer, used: false });
    }
}

/// Makes an exchange, which is over when its time is, whatever the transport does.
pub async fn exchange(
    transport: &dyn Transport,
    env: &dyn Env,
    request: Request,
    private: bool,
    timeout: Duration,
) -> Result<Response, TransportError> {
    tokio::select! {
        biased;
        answer = transport.exchange(request, private) => answer,
        () = env.sleep(timeout) => Err(TransportError::Http(HttpError::Timeout)),
    }
}

/// Returns whether a request can be made again by its method (RFC 9110, 9.2.2).
pub(crate) fn is_idempotent(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method)
}

/// Returns method and origin of a request, as an error may show them.
pub(crate) fn called(request: &Request) -> String {
    let origin = shown(&request.url).unwrap_or_default();
    crate::text::clip(&format!("{} {origin}", request.method), 256).into_owned()
}

/// Returns an answer as the guest gets it.
///
/// # Errors
/// [`FetchError`].
pub fn told(answer: Result<Response, TransportError>, limits: &Limits) -> Result<Response, FetchError> {
    answer.map_err(|error| match error {
        TransportError::Http(error) => FetchError::Http(error),
        TransportError::TooLarge(name) => {
            let max = match name {
                "http-headers-max" => limits.http_headers_max,
                "http-header-bytes-max" => limits.http_header_bytes_max,
                _ => limits.http_response_bytes_max,
            };
            FetchError::Limit { name, max: max as u64 }
        }
    })
}

/// Returns the origin of a URL in the form that grants use.
///
/// # Errors
/// What is wrong with it.
pub fn origin(url: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(url).map_err(|_| "url does not parse".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("url is not http or https".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url holds a user name".to_owned());
    }
    Ok(url.origin().ascii_serialization())
}

/// Returns what may be shown of a URL: its scheme, host and port. The rest may hold secrets, and so may a text that is
/// no URL.
pub(crate) fn shown(url: &str) -> Option<String> {
    let origin = reqwest::Url::parse(url).ok().filter(|url| url.has_host())?.origin();
    Some(crate::text::clip(&origin.ascii_serialization(), 128).into_owned())
}

fn check<'a>(request: &Request, grants: &'a [HttpGrant], limits: &Limits) -> Result<&'a HttpGrant, FetchError> {
    let invalid = |text: String| Err(FetchError::Invalid(text));
    let over = |name, max: usize| Err(FetchError::Limit { name, max: max as u64 });
    let Request { method, url, headers, body } = request;
    if url.len() > limits.http_url_bytes_max {
        return over("http-url-bytes-max", limits.http_url_bytes_max);
    }
    if headers.len() > limits.http_headers_max {
        return over("http-headers-max", limits.http_headers_max);
    }
    if headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > limits.http_header_bytes_max {
        return over("http-header-bytes-max", limits.http_header_bytes_max);
    }
    if body.len() > limits.http_request_bytes_max {
        return over("http-request-bytes-max", limits.http_request_bytes_max);
    }
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return invalid("method is not upper-case letters".to_owned());
    }
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return invalid("a header name is malformed".to_owned());
        }
        if OWN_HEADERS.contains(&lower.as_str()) || lower.starts_with("proxy-") {
            return invalid(format!("header {lower} is set by the host"));
        }
        if !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
            return invalid(format!(
                "header {} has a value that is not printable ASCII",
                crate::text::clip(&lower, 64)
            ));
        }
    }
    origin(url).map_err(FetchError::Invalid)?;
    if url.contains('#') {
        return invalid("url holds a fragment".to_owned());
    }
    covered(request, grants).map_err(FetchError::Http)
}

/// Returns the grant that covers a request.
///
/// # Errors
/// [`HttpError::Denied`].
pub fn covered<'a>(request: &Request, grants: &'a [HttpGrant]) -> Result<&'a HttpGrant, HttpError> {
    let (method, origin) = (&request.method, origin(&request.url).unwrap_or_default());
    let covers = |grant: &&HttpGrant| grant.origin == origin && grant.methods.contains(method);
    let covering = grants.iter().filter(covers).max_by_key(|grant| grant.private);
    covering.ok_or_else(|| HttpError::Denied(crate::text::clip(&format!("{method} {origin}"), 256).into_owned()))
}
