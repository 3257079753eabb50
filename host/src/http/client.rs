//! The real network: one client without proxy, cookies, redirects or decompression.

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{HttpError, Request, Response, Transport, TransportError};
use crate::{
    env::BoxFuture,
    limits::{HTTP_IDLE_MAX, HTTP_IDLE_MS, Limits},
    text::clip,
};

/// Calls the outside with reqwest. A name is resolved once for each connection, and the connection goes to an
/// address that passed the check.
///
/// Connections are kept for `HTTP_IDLE_MS` and used again for requests that can be repeated (RFC 9110, 9.2.2: GET, HEAD,
/// OPTIONS, TRACE, PUT, DELETE). When the server has closed such a connection meanwhile, the request is made once more on a
/// fresh one. Every other request has a fresh connection of its own and is made once.
pub struct HttpClient {
    public: Connections,
    private: Connections,
    limits: Arc<Limits>,
}

/// The connections to servers of one kind of address.
struct Connections {
    /// Those that are used again.
    kept: reqwest::Client,
    /// One for each request.
    fresh: reqwest::Client,
}

/// Methods for which a body means nothing: without one they have no length either (RFC 9110, 8.6).
const WITHOUT_BODY: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "CONNECT"];

impl HttpClient {
    /// Returns a client with these bounds. `ca` are certificates of authorities as PEM that it trusts beside the public ones.
    ///
    /// # Errors
    /// What is wrong with the certificates, or why TLS cannot be set up.
    pub fn new(limits: Arc<Limits>, ca: &[u8]) -> Result<HttpClient, String> {
        let failed = |error: reqwest::Error| clip(&error.to_string(), 256).into_owned();
        let authorities = reqwest::Certificate::from_pem_bundle(ca).map_err(failed)?;
        if authorities.is_empty() && !ca.is_empty() {
            return Err("no certificate in PEM form is in there".to_owned());
        }
        let build = |private, idle| {
            let client = reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_millis(limits.http_timeout_ms))
                .dns_resolver(Arc::new(Checked { private }))
                .pool_idle_timeout(Duration::from_millis(HTTP_IDLE_MS))
                .pool_max_idle_per_host(idle)
                .http1_only();
            let trusting = authorities.iter().cloned().fold(client, reqwest::ClientBuilder::add_root_certificate);
            trusting.build().map_err(failed)
        };
        let connections = |private| {
            let (kept, fresh) = (build(private, HTTP_IDLE_MAX)?, build(private, 0)?);
            Ok::<_, String>(Connections { kept, fresh })
        };
        Ok(HttpClient { public: connections(false)?, private: connections(true)?, limits: limits.clone() })
    }

    /// Makes the request, once more when it can be repeated and a kept connection turns out to be closed.
    async fn send(&self, request: &Request, private: bool) -> Result<reqwest::Response, TransportError> {
        let connections = if private { &self.private } else { &self.public };
        let method = request.method.as_str();
        if super::is_idempotent(method) {
            match once(&connections.kept, request).await {
                Err(error) if is_closed(&error) => {}
                answer => return answer.map_err(explain),
            }
        }
        once(&connections.fresh, request).await.map_err(explain)
    }

    async fn run(&self, request: Request, private: bool) -> Result<Response, TransportError> {
        let mut answer = self.send(&request, private).await?;
        if answer.headers().len() > self.limits.http_headers_max {
            return Err(TransportError::TooLarge("http-headers-max"));
        }
        let bytes: usize = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > self.limits.http_header_bytes_max {
            return Err(TransportError::TooLarge("http-header-bytes-max"));
        }
        if answer.content_length().is_some_and(|bytes| bytes > self.limits.http_response_bytes_max as u64) {
            return Err(TransportError::TooLarge("http-response-bytes-max"));
        }
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(explain)? {
            if body.len() + chunk.len() > self.limits.http_response_bytes_max {
                return Err(TransportError::TooLarge("http-response-bytes-max"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status: answer.status().as_u16(), headers, body })
    }
}

impl Transport for HttpClient {
    fn exchange(&self, request: Request, private: bool) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(self.run(request, private))
    }
}

/// Sends a request and waits for the head of the answer.
async fn once(client: &reqwest::Client, request: &Request) -> reqwest::Result<reqwest::Response> {
    // It was checked to be letters; of anything else the server would say the same.
    let method = reqwest::Method::from_bytes(request.method.as_bytes()).unwrap_or_default();
    let mut builder = client.request(method, &request.url);
    if !request.body.is_empty() {
        builder = builder.body(request.body.clone());
    } else if !WITHOUT_BODY.contains(&request.method.as_str()) {
        builder = builder.header(reqwest::header::CONTENT_LENGTH, 0);
    }
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    builder.send().await
}

/// The causes of an error, also those that are wrapped in one of the system.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), |error| cause(*error))
}

/// Tells whether the connection was closed before anything of an answer came.
fn is_closed(error: &reqwest::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let closed = |cause: &(dyn Error + 'static)| {
        let http = cause.downcast_ref::<hyper::Error>();
        let system = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        http.is_some_and(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed())
            || system
                .is_some_and(|kind| [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&kind))
    };
    !error.is_connect() && !error.is_timeout() && causes(error).any(closed)
}

/// Says what went wrong, without the URL, which may hold secrets, and without words of the peer.
fn explain(error: reqwest::Error) -> TransportError {
    if let Some(refused) = causes(&error).find_map(|cause| cause.downcast_ref::<Refused>()) {
        return TransportError::Http(HttpError::Address(refused.to_string()));
    }
    if error.is_timeout() {
        return TransportError::Http(HttpError::Timeout);
    }
    let tls = causes(&error).find_map(|cause| cause.downcast_ref::<rustls::Error>()).map(of_tls);
    let system = || causes(&error).find_map(|cause| of_system(cause.downcast_ref::<io::Error>()?.kind()));
    let why = tls.or_else(system).unwrap_or(match error {
        _ if error.is_connect() => "could not connect",
        _ if is_closed(&error) => "the server closed it before it answered",
        _ => "the server broke off or broke the protocol",
    });
    TransportError::Http(HttpError::Connection(why.to_owned()))
}

fn of_tls(error: &rustls::Error) -> &'static str {
    use rustls::{CertificateError as Bad, Error::InvalidCertificate};
    match error {
        InvalidCertificate(Bad::UnknownIssuer) => {
            "the server's certificate is of an authority that is not trusted: the operator can add it as ca"
        }
        InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => "the server's certificate is out of date",
        InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the server's certificate is not valid yet: is the clock of this machine right?"
        }
        InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "the server's certificate is for another name"
        }
        InvalidCertificate(Bad::Revoked) => "the server's certificate is revoked",
        InvalidCertificate(_) => "the server's certificate is not valid",
        rustls::Error::AlertReceived(_) => "the server refused the TLS handshake",
        _ => "the server does not speak TLS as it should",
    }
}

fn of_system(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    Some(match kind {
        ConnectionRefused => "connection refused: does the server run, and at this port?",
        HostUnreachable | NetworkUnreachable => "the server cannot be reached from this machine",
        TimedOut => "the server does not answer",
        _ => return None,
    })
}

/// No address of a name may be called.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {why}")]
struct Refused {
    name: String,
    why: &'static str,
}

/// Resolves names to addresses that may be called.
struct Checked {
    private: bool,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let private = self.private || host == "localhost";
        Box::pin(async move {
            let refused = |why| Refused { name: clip(&host, 128).into_owned(), why };
            let found = tokio::net::lookup_host((host.as_str(), 0)).await.map_err(|_| refused("does not resolve"))?;
            let allowed: Vec<SocketAddr> = found.filter(|address| private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(refused("resolves to no public address").into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Returns whether an address belongs to the public internet, by the IANA special-purpose registries
/// (RFC 6890 and its updates).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(a == 0
                || a >= 224
                || v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && (c == 0 || c == 2))
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (b == 18 || b == 19))
                || v4.is_documentation())
        }
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(
            || {
                let [a, b, ..] = v6.segments();
                a & 0xe000 == 0x2000 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && (a, b & 0xf000) != (0x3fff, 0)
            },
            |v4| is_public(IpAddr::V4(v4)),
        ),
    }
}

/// Returns the IPv4 address inside a mapped, translated (64:ff9b::/96) or 6to4 address.
fn embedded_v4(v6: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let bytes = v6.octets();
    let part = |at: usize| std::net::Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    let segments = v6.segments();
    match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(part(12)),
        [0x2002, ..] => Some(part(2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001:0:1::1",
            "3fff::1",
        ] {
            assert!(!is_public(text.parse().expect(text)), "{text}");
        }
        for text in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(is_public(text.parse().expect(text)), "{text}");
        }
    }
}
