//! What the real HTTP client says and logs (A3): secrets in URL, headers and bodies, both ways.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A server on this machine that reads each request to its end and then gives every connection the same answer and
/// closes it, or stays silent.
async fn server(answer: Option<String>, end: &str) -> String {
    let end = end.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(end.as_bytes()) && matches!(connection.read_buf(&mut request).await, Ok(1..)) {}
            match &answer {
                Some(answer) => drop(connection.write_all(answer.as_bytes()).await),
                None => open.push(connection),
            }
        }
    });
    address
}

/// T7, A3
#[tokio::test(flavor = "multi_thread")]
async fn no_exchange_that_fails_tells_a_secret_or_logs_one() {
    let secret = Secret::new("http");
    let hidden = &secret.text;
    let body = format!("{} that is all", secret.much(100_000));
    let server = async |answer| server(answer, "that is all").await;
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nset-cookie: {hidden}\r\ncontent-length: {length}\r\n\r\n");
    let good = server(Some(format!("{}{hidden}", head(hidden.len())))).await;
    let short = server(Some(format!("{}{hidden}", head(1_000)))).await;
    let large = server(Some(format!("{}{}", head(50_000), secret.much(50_000)))).await;
    let garbage = server(Some(format!("{hidden} {hidden}\r\n\r\n"))).await;
    let malformed = server(Some(format!("HTTP/1.1 200 OK\r\n{hidden} {hidden}\r\n\r\n"))).await;
    let redirect = server(Some(format!("HTTP/1.1 302 Found\r\nlocation: https://x.test/?{hidden}\r\n\r\n"))).await;
    let no_tls = self::server(Some(format!("{hidden} {hidden}\r\n\r\n")), "").await;
    let silent = server(None).await;
    // Nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let cases = [
        (format!("http://{good}"), "ok"),
        (format!("http://{redirect}"), "ok"),
        (format!("http://{large}"), "limit"),
        (format!("http://{short}"), "http-connection"),
        (format!("http://{garbage}"), "http-connection"),
        (format!("http://{malformed}"), "http-connection"),
        (format!("http://{closed}"), "http-connection"),
        (format!("https://{no_tls}"), "http-connection"),
        (format!("http://{silent}"), "http-timeout"),
        // A name that leads to this machine, or nowhere.
        ("http://localhost.".to_owned(), "http-address"),
    ];
    let limits = Limits { http_response_bytes_max: 5_000, ..roomy() };
    let patient = builder().limits(limits.clone()).open().await.unwrap();
    let hasty = builder().limits(Limits { http_timeout_ms: 1_000, ..limits }).open().await.unwrap();
    for (origin, expected) in cases {
        let host = if expected == "http-timeout" { &hasty } else { &patient };
        let methods = vec!["POST".to_owned()];
        let grant = HttpGrant { origin: origin.clone(), methods, private: false };
        let a = host.install(probe_charm("a").may_call(grant)).await.unwrap();
        let request = json!({ "method": "POST", "url": format!("{origin}/{hidden}?token={hidden}"),
            "headers": { "authorization": format!("Bearer {hidden}"), "x-key": hidden }, "body": body });
        let seen = results(host, a, json!([["try", ["fetch", request]]])).await;
        if expected == "ok" {
            assert!(seen[0]["ok"]["status"].is_number(), "{origin}: {seen}");
            continue;
        }
        assert_eq!(seen[0]["error"]["kind"], expected, "{origin}: {seen}");
        secret.told(&seen[0].to_string());
        let receipt = run(host, a, json!([["fetch", request]])).await;
        assert_eq!(receipt.outcome, Outcome::Rejected);
        secret.receipt(&receipt);
    }
    assert!(!secret.logs.lines("starting new connection").is_empty(), "the client's own log is captured");
}

/// T7: what a transport of the embedder's hands out goes to the guest, cut; what it holds is not debugged.
#[test]
fn the_errors_of_a_transport_are_plain() {
    let secret = Secret::new("transport");
    fails!(secret, HttpError::Denied("GET https://x.test".to_owned()), HttpError::Denied(_));
    fails!(secret, HttpError::Address("x.test: does not resolve".to_owned()), HttpError::Address(_));
    fails!(secret, HttpError::Timeout, HttpError::Timeout);
    fails!(secret, HttpError::Connection("broke off".to_owned()), HttpError::Connection(_));
    fails!(secret, HttpError::Unknown("POST https://x.test".to_owned()), HttpError::Unknown(_));
    for error in [TransportError::Http(HttpError::Timeout), TransportError::TooLarge("http-headers-max")] {
        secret.absent(&format!("{error:?}"));
    }
    let hidden = &secret.text;
    for url in ["https://u:{}@x.test/{}?{}#{}", "{}", "u:{}@x.test", "https://u:p/{}@x.test"] {
        let url = url.replace("{}", hidden);
        let headers = vec![("authorization".to_owned(), hidden.clone())];
        let request = Request { method: "GET".to_owned(), url, headers, body: hidden.clone().into_bytes() };
        let shown = format!("{request:?} {request:#?}");
        assert!(shown.contains("GET") && shown.contains("1 headers"), "{shown}");
        secret.absent(&shown);
    }
}

/// T7: a transport that says a great deal.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_transport_says_is_cut_before_a_guest_sees_it() {
    let secret = Secret::new("talkative");
    let wire = Wire::open();
    let host = builder().transport(wire.clone()).open().await.unwrap();
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    type Make = fn(String) -> HttpError;
    let make: [(Make, &str); 4] = [
        (HttpError::Denied, "http-denied"),
        (HttpError::Address, "http-address"),
        (HttpError::Connection, "http-connection"),
        (HttpError::Unknown, "http-unknown"),
    ];
    for (error, kind) in make {
        for _ in 0..2 {
            wire.answer(Err(TransportError::Http(error(ugly(1 << 20)))));
        }
        let fetch = json!(["fetch", { "url": WIRE }]);
        let seen = results(&host, a, json!([["try", fetch]])).await;
        assert_eq!(seen[0]["error"]["kind"], kind, "{seen}");
        secret.told(&seen[0].to_string());
        secret.receipt(&run(&host, a, json!([fetch])).await);
    }
}
