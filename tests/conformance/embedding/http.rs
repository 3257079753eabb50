//! The HTTP client that a host has of its own: lengths, connections, repeats, certificates, causes (A3, A4).

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use charm_conformance::until;
use charm_host::{HTTP_IDLE_MAX, HTTP_IDLE_MS, HttpClient, HttpError, Limits, OpenError};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::*;

/// What a server has seen.
#[derive(Default)]
struct Seen {
    /// Heads of requests.
    heads: Mutex<Vec<String>>,
    connections: AtomicUsize,
    /// Connections that are open.
    open: AtomicUsize,
}

impl Seen {
    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Answers so many requests of each connection, and closes it when the next one comes.
struct Server {
    origin: String,
    seen: Arc<Seen>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Server {
    async fn start(answers: usize, answer: &'static str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let server = Server { origin, seen: seen.clone() };
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let seen = seen.clone();
                seen.connections.fetch_add(1, Ordering::SeqCst);
                seen.open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    serve(connection, answers, answer, &seen).await;
                    seen.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    async fn ask(&self, client: &HttpClient, method: &str, body: &str) -> Result<Response, TransportError> {
        ask(client, &self.origin, method, body).await
    }
}

async fn ask(client: &HttpClient, url: &str, method: &str, body: &str) -> Result<Response, TransportError> {
    let request = Request { method: method.into(), url: url.into(), headers: vec![], body: body.into() };
    client.exchange(request, false).await
}

/// Reads requests without a body, or with one that ends in `!`.
async fn serve(mut connection: impl AsyncRead + AsyncWrite + Unpin, answers: usize, answer: &str, seen: &Seen) {
    for number in 0.. {
        let mut request = Vec::new();
        let is_whole = |request: &[u8]| {
            let text = String::from_utf8_lossy(request);
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            !head.is_empty() && length.is_none_or(|length| length.parse() == Ok(body.len()))
        };
        while !is_whole(&request) {
            match connection.read_buf(&mut request).await {
                Ok(1..) => {}
                _ => return,
            }
        }
        seen.heads.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
        if number == answers || connection.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn client(ca: &[u8]) -> HttpClient {
    HttpClient::new(Arc::new(Limits::default()), ca).unwrap()
}

/// RFC 9110, 8.6: without a body, a method that has a meaning for one says that its length is 0; the others say nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_tells_the_length_of_its_body() {
    let server = Server::start(1, OK).await;
    let client = client(b"");
    for (method, length) in [
        ("POST", Some("0")),
        ("PUT", Some("0")),
        ("PATCH", Some("0")),
        ("PURGE", Some("0")),
        ("GET", None),
        ("HEAD", None),
        ("OPTIONS", None),
        ("TRACE", None),
        ("DELETE", None),
    ] {
        for body in ["", "four"] {
            let answer = server.ask(&client, method, body).await.unwrap();
            assert_eq!(answer.status, 200, "{method}");
            let head = server.seen.heads().pop().unwrap().to_ascii_lowercase();
            let told = head.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect::<Vec<_>>();
            let expected = if body.is_empty() { length } else { Some("4") };
            assert_eq!(told, expected.into_iter().collect::<Vec<_>>(), "{method} with {body:?}: {head}");
            assert!(!head.contains("transfer-encoding"), "{head}");
        }
    }
}

/// RFC 9110, 8.6: the answer to HEAD tells the length that GET would have; nothing of it comes, so no bound is passed.
#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_what_does_not_come_is_no_length() {
    let client = client(b"");
    let large = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
    let server = Server::start(9, large).await;
    let answer = server.ask(&client, "HEAD", "").await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let refused = server.ask(&client, "GET", "").await.unwrap_err();
    assert_eq!(refused, TransportError::TooLarge("http-response-bytes-max"));
    let server = Server::start(9, "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000000000000\r\n\r\n").await;
    assert_eq!(server.ask(&client, "GET", "").await.unwrap().status, 304);
}

/// A server that closes a kept connection when it is used again fails no request: what can be repeated is, on a fresh
/// connection, and what can not has a fresh one from the start and arrives once (A4).
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_kept_connections_fails_no_request() {
    for (method, repeats) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("TRACE", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
        ("PURGE", false),
    ] {
        let (server, client) = (Server::start(1, OK).await, client(b""));
        for number in 0..20 {
            let answer = server.ask(&client, method, &format!("{number}!")).await;
            assert_eq!(answer.map(|answer| answer.status), Ok(200), "{method} {number}");
        }
        let heads = server.seen.heads();
        for number in 0..20 {
            let times = heads.iter().filter(|head| head.ends_with(&format!("\r\n\r\n{number}!"))).count();
            assert!(if repeats { (1..=2).contains(&times) } else { times == 1 }, "{method} {number}: {times} times");
        }
    }
}

/// A request whose connection is closed before the answer is told as that; only what can be repeated came a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_answer_is_made_twice_at_most_and_only_where_that_is_harmless() {
    for (method, times) in [("GET", 2), ("PUT", 2), ("POST", 1), ("PATCH", 1)] {
        let (server, client) = (Server::start(0, OK).await, client(b""));
        let error = server.ask(&client, method, "x!").await.unwrap_err();
        assert!(format!("{error:?}").contains("the server closed it before it answered"), "{error:?}");
        assert_eq!(server.seen.heads().len(), times, "{method}");
    }
}

/// Kept connections are few, and closed when they are not used: `HTTP_IDLE_MAX`, `HTTP_IDLE_MS`.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_for_a_while_and_are_few() {
    const { assert!(HTTP_IDLE_MS < 5_000) };
    let (server, client) = (Server::start(1_000, OK).await, Arc::new(client(b"")));
    let connections = || server.seen.connections.load(Ordering::SeqCst);
    for _ in 0..5 {
        server.ask(&client, "GET", "").await.unwrap();
    }
    // On a slow machine one may have been closed between two requests.
    assert!(connections() < 5, "one after the other: a connection is used again");
    let before = connections();
    for _ in 0..5 {
        server.ask(&client, "POST", "").await.unwrap();
    }
    assert_eq!(connections() - before, 5, "what cannot be repeated has its own");
    let many = (0..4 * HTTP_IDLE_MAX).map(|_| server.ask(&client, "GET", ""));
    futures_util::future::join_all(many).await.into_iter().for_each(|answer| assert!(answer.is_ok()));
    until("few are kept", || server.seen.open.load(Ordering::SeqCst) <= HTTP_IDLE_MAX).await;
    until("what is idle is closed", || server.seen.open.load(Ordering::SeqCst) == 0).await;
}

fn pem(file: &str) -> Vec<u8> {
    let folder = root().join("tests/conformance/embedding/tls");
    std::fs::read(folder.join(file)).unwrap()
}

/// A server on this machine that shows this certificate.
async fn tls(certificate: &str) -> String {
    let chain = vec![CertificateDer::from_pem_slice(&pem(certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&pem("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(connection) = acceptor.accept(connection).await {
                    serve(connection, 1, OK, &Seen::default()).await;
                }
            });
        }
    });
    format!("https://localhost:{port}")
}

/// A3: what the operator trusts is trusted, and whoever fails is told why.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_is_trusted_and_a_failure_tells_its_cause() {
    let trusting = client(&pem("ca.pem"));
    let good = tls("server.pem").await;
    for method in ["GET", "POST"] {
        assert_eq!(ask(&trusting, &good, method, "").await.map(|answer| answer.status), Ok(200));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (client, url, words) in [
        (&client(b""), good.clone(), "is of an authority that is not trusted: the operator can add it as ca"),
        (&trusting, tls("expired.pem").await, "is out of date"),
        (&trusting, tls("early.pem").await, "is not valid yet"),
        (&trusting, tls("other.pem").await, "is for another name"),
        (&trusting, format!("https://{plain}"), "does not speak TLS"),
        (&trusting, format!("http://{closed}"), "connection refused"),
        (&trusting, good.replace("https:", "http:"), "the server"),
    ] {
        for method in ["GET", "POST"] {
            match ask(client, &url, method, "").await {
                Err(TransportError::Http(HttpError::Connection(why))) => assert!(why.contains(words), "{url}: {why}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }
}

/// What is no certificate is refused when the host opens.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_are_none_are_refused() {
    let cut = &pem("ca.pem")[..200];
    for ca in [b"hello".as_slice(), b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", cut] {
        let refused = Host::builder().ca(ca).open().await.err().unwrap();
        assert!(matches!(refused, OpenError::Ca { .. }), "{refused}");
        assert!(refused.to_string().contains("PEM"), "{refused}");
    }
    Host::builder().ca(pem("ca.pem")).open().await.unwrap();
}
