//! The real network: one client without proxy, cookies, redirects or decompression.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{HttpError, Request, Response, Transport, TransportError};
use crate::{env::BoxFuture, limits::Limits};

/// Calls the outside with reqwest. A name is resolved once for each connection, and the connection goes to an
/// address that passed the check.
pub struct HttpClient {
    public: reqwest::Client,
    private: reqwest::Client,
    limits: Arc<Limits>,
}

impl HttpClient {
    /// Returns a client with these bounds.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(limits: Arc<Limits>) -> Result<HttpClient, String> {
        let build = |private| {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_millis(limits.http_timeout_ms))
                .dns_resolver(Arc::new(Checked { private }))
                .http1_only()
                .build()
                .map_err(|error| crate::text::clip(&error.to_string(), 256).into_owned())
        };
        Ok(HttpClient { public: build(false)?, private: build(true)?, limits: limits.clone() })
    }

    async fn run(&self, request: Request, private: bool) -> Result<Response, TransportError> {
        let malformed = |_| TransportError::Http(HttpError::Connection("malformed request".to_owned()));
        let method = reqwest::Method::from_bytes(request.method.as_bytes()).map_err(|_| malformed(()))?;
        let client = if private { &self.private } else { &self.public };
        let mut builder = client.request(method, &request.url).body(request.body);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let mut answer = builder.send().await.map_err(explain)?;
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

/// Says what went wrong without the URL, which may hold secrets.
fn explain(error: reqwest::Error) -> TransportError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return TransportError::Http(HttpError::Address(refused.to_string()));
        }
        source = cause.source();
    }
    TransportError::Http(if error.is_timeout() {
        HttpError::Timeout
    } else if error.is_connect() {
        HttpError::Connection("could not connect".to_owned())
    } else {
        HttpError::Connection("the peer broke off or broke the protocol".to_owned())
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
            let refused = |why| Refused { name: crate::text::clip(&host, 128).into_owned(), why };
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
