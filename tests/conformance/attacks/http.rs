//! A charm that may call one origin and tries to reach others, or to make the one request into two (A3). The real client,
//! and servers on this machine that count who connects.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A server on this machine that keeps what it is sent, connection by connection, and gives the same answer to each.
#[derive(Clone)]
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Listens at every address of this machine.
    async fn start(answer: String) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server { port, connections: Arc::default(), heads: Arc::default() };
        let this = server.clone();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                this.connections.fetch_add(1, Ordering::SeqCst);
                let (this, answer) = (this.clone(), answer.clone());
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.windows(4).any(|end| end == b"\r\n\r\n")
                        && matches!(connection.read_buf(&mut request).await, Ok(1..))
                    {}
                    this.heads.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                    let _ = connection.write_all(answer.as_bytes()).await;
                });
            }
        });
        server
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn ok() -> String {
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_owned()
}

fn grant(origin: &str) -> HttpGrant {
    HttpGrant { origin: origin.to_owned(), methods: vec!["GET".to_owned(), "POST".to_owned()], private: false }
}

/// Asks for each of these in a turn of its own; returns what kind of refusal each got, or its status.
async fn asked(
    host: &Host,
    charm: Did,
    requests: impl IntoIterator<Item = serde_json::Value>,
) -> Vec<(String, String)> {
    let mut kinds = Vec::new();
    for request in requests {
        let answer = results(host, charm, json!([["try", ["fetch", request]]])).await;
        let kind = answer[0]["error"]["kind"].as_str().map_or_else(|| answer[0]["ok"].to_string(), str::to_owned);
        kinds.push((request.to_string(), kind));
    }
    kinds
}

/// Every spelling of an address that is not granted is refused before anything connects.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_an_address_leads_past_the_grants() {
    let server = Server::start(ok()).await;
    let host = builder().open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    let charm = host.install(probe_charm("evil").may_call(grant("https://api.test"))).await.unwrap();
    let hosts = [
        // This machine.
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "0x7f.1",
        "0x7f000001",
        "0x7f.0x0.0x0.0x1",
        "0177.0.0.1",
        "017700000001",
        "2130706433",
        "127.127.127.127",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "foo.localhost",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "１２７.０.０.１",
        "127。0。0。1",
        "①②⑦.⓪.⓪.①",
        "%31%32%37.0.0.1",
        // The machines around it, and what tells secrets to those who are inside.
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[fd00::1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "metadata.google.internal",
        // The granted name, nearly.
        "api.test.",
        "api.test.evil.test",
        "evil.api.test",
        "api.test@127.0.0.1",
        "127.0.0.1#api.test",
        "127.0.0.1/api.test",
        "127.0.0.1?api.test",
        "api.test:443@127.0.0.1",
        "127.0.0.1\\@api.test",
        "api.test\u{0}.evil.test",
        "api.test%00.evil.test",
        "api.test%2f@127.0.0.1",
        "api。test.evil.test",
        "аpi.test",
        "api.test:80",
        "api.test:444",
    ];
    let urls = hosts.iter().flat_map(|name| {
        let bare = name.ends_with(|c: char| c == ']' || !c.is_ascii_digit()) || !name.contains(':');
        let port = if bare { format!(":{}", server.port) } else { String::new() };
        ["http", "https"].map(|scheme| json!({ "url": format!("{scheme}://{name}{port}/latest/meta-data/") }))
    });
    let others = [
        "file:///etc/passwd",
        "ftp://api.test/",
        "gopher://api.test/",
        "data:text/plain,x",
        "unix:///run/x.sock",
        "//127.0.0.1/",
        "http:/127.0.0.1/",
        "http:127.0.0.1",
        "https:///127.0.0.1/",
        "/",
        "",
        "https://",
        "https://[",
        "https://[::1",
        "jar:https://api.test!/",
    ];
    let urls: Vec<_> = urls.chain(others.map(|url| json!({ "url": url }))).collect();
    assert!(urls.len() > 100, "the table is walked");
    let (kinds, _) = neighbours.beside(&host, asked(&host, charm, urls)).await;
    for (url, kind) in kinds {
        assert!(["http-denied", "invalid"].contains(&&*kind), "{url}: {kind}");
    }
    assert_eq!(server.connections(), 0);
}

/// A grant for a name does not cover where the name leads, when that is not the public internet.
#[tokio::test(flavor = "multi_thread")]
async fn a_granted_name_that_leads_to_this_machine_is_refused() {
    let server = Server::start(ok()).await;
    let host = builder().open().await.unwrap();
    // This machine's own name leads to itself nearly everywhere, the others on many machines.
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let names =
        [own.trim(), "localhost.", "foo.localhost", "localhost.localdomain", "ip6-localhost", "nowhere.invalid"];
    let mut lead_here = 0;
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let found: Vec<_> = tokio::net::lookup_host((name, 0)).await.into_iter().flatten().collect();
        if found.iter().any(|address| !address.ip().is_loopback()) {
            continue;
        }
        lead_here += usize::from(!found.is_empty());
        let origin = format!("http://{name}:{}", server.port);
        let charm = host.install(probe_charm("evil").may_call(grant(&origin))).await.unwrap();
        let kinds = asked(&host, charm, [json!({ "url": origin })]).await;
        assert_eq!(kinds[0].1, "http-address", "{name}");
    }
    assert_eq!(server.connections(), 0);
    if lead_here == 0 {
        eprintln!("SKIPPED: no name but `localhost` leads to this machine");
    }
}

/// A redirect is an answer: nobody follows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_leads_nowhere() {
    let target = Server::start(ok()).await;
    let host = builder().open().await.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let to = format!("http://127.0.0.1:{}/latest/meta-data/", target.port);
        let answer = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {to}\r\nrefresh: 0; url={to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let server = Server::start(answer).await;
        let origin = format!("http://127.0.0.1:{}", server.port);
        let charm = host.install(probe_charm("evil").may_call(grant(&origin))).await.unwrap();
        let kinds = asked(&host, charm, [json!({ "url": origin, "headers": { "authorization": "Bearer x" } })]).await;
        assert!(kinds[0].1.contains(&format!("\"status\":{status}")), "{kinds:?}");
        assert_eq!(server.connections(), 1);
    }
    assert_eq!(target.connections(), 0);
}

/// Whatever a charm writes into method, URL, headers and body, the peer sees one request with one host and one length.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_smuggled_into_another() {
    let server = Server::start(ok()).await;
    let host = builder().open().await.unwrap();
    let origin = format!("http://127.0.0.1:{}", server.port);
    let methods = ["GET", "POST", "GET / HTTP/1.1\r\nX: Y", "CONNECT", "get", "G T", ""];
    let mut allowed = grant(&origin);
    allowed.methods = methods[..2].iter().map(|method| (*method).to_owned()).collect();
    let charm = host.install(probe_charm("evil").may_call(allowed)).await.unwrap();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: other\r\n\r\n";
    let with =
        |name: &str, value: &str| json!({ "method": "POST", "url": origin, "headers": [[name, value]], "body": "x" });
    let mut requests: Vec<_> = methods.map(|method| json!({ "method": method, "url": origin })).to_vec();
    for (name, value) in [
        ("host", "other"),
        ("Host", "other"),
        ("HOST", ""),
        ("content-length", "0"),
        ("Content-Length", "100"),
        ("transfer-encoding", "chunked"),
        ("Transfer-Encoding", "identity"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("connection", "close, x"),
        ("keep-alive", "1"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("proxy-authorization", "x"),
        ("x", "y\r\nhost: other"),
        ("x", "y\nhost: other"),
        ("x", "y\rhost: other"),
        ("x", "\u{0}"),
        ("x", "y\u{85}host: other"),
        ("x\r\nhost", "other"),
        ("x: y", "z"),
        ("x ", "y"),
        (" x", "y"),
        ("", "y"),
        ("x\u{0}", "y"),
        (":authority", "other"),
        (":path", "/smuggled"),
        ("content-length ", "0"),
        ("transfer_encoding", "chunked"),
        ("transfer-encoding\t", "chunked"),
    ] {
        requests.push(with(name, value));
    }
    for path in [
        "/ HTTP/1.1\r\nhost: other\r\n\r\nGET /smuggled",
        "/%0d%0ahost:%20other",
        "/\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "/\n/smuggled",
        "/\t",
        "/ /smuggled",
        "?\r\nx: y",
        "/..%2f..",
        "/\u{0}",
        "//other/smuggled",
        "/http://other/smuggled",
        "#\r\nhost: other",
        "/\u{10000}\u{2028}",
    ] {
        requests.push(json!({ "url": format!("{origin}{path}") }));
    }
    requests.push(json!({ "method": "POST", "url": origin, "body": smuggled }));
    requests.push(json!({ "method": "GET", "url": origin, "body": smuggled }));
    requests.push(json!({ "method": "POST", "url": origin, "body": format!("0\r\n\r\n{smuggled}") }));
    let number = requests.len();
    let kinds = asked(&host, charm, requests).await;
    let answered = kinds.iter().filter(|(_, kind)| kind.contains("\"status\":200")).count();
    assert!((5..number - 20).contains(&answered), "some are fine and most are not: {kinds:?}");
    let heads = server.heads.lock().unwrap().clone();
    assert_eq!((server.connections(), heads.len()), (answered, answered), "{kinds:?}");
    for head in heads {
        let head = head.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
        let count = |name: &str| head.lines().filter(|line| line.trim_start().starts_with(name)).count();
        assert_eq!(count("host"), 1, "{head}");
        assert!(count("content-length") <= 1, "{head}");
        assert_eq!(count("transfer-encoding"), 0, "{head}");
        assert!(head.lines().next().unwrap().split(' ').count() == 3, "{head}");
        assert!(head.contains(&format!("host: 127.0.0.1:{}", server.port)), "{head}");
        assert!(!head.contains("get /smuggled"), "{head}");
    }
}
