//! What goes to the operator and to the network: logs, diagnoses, HTTP.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

// -- diagnoses (T7) --

/// T6, T7: at most 256 bytes of what a guest says, whatever it says.
#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_panic_is_cut_and_escaped() {
    let street = Street::with(small()).await;
    street.goes_over(json!([["panic", "out of cheese"]]), Outcome::Faulted, "out of cheese").await;
    for endless in [text(5_000), "é".repeat(5_000), "\u{1b}[31m\n\0".repeat(1_000), "水".repeat(3_000)] {
        let receipt = run(&street.host, street.greedy, json!([["panic", endless]])).await;
        let message = receipt.message.unwrap();
        assert!(message.starts_with("panicked: ") && message.ends_with('…'), "{message}");
        assert!(message.len() <= "panicked: ".len() + PANIC_BYTES_MAX, "{} bytes", message.len());
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
    street.both_go_on().await;
}

/// T6, T7: an unreachable, a division, an access outside: the engine's own words, no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_told_in_one_bounded_line() {
    let street = Street::with(small()).await;
    street.goes_over(json!([["trap"]]), Outcome::Faulted, "trapped: ").await;
    for (trap, words) in [
        ("unreachable", "unreachable"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(drop (i32.load (i32.const 0x7fff0000)))", "out of bounds"),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", "conversion"),
        // An answer that points outside the guest's memory, and one that is no answer.
        ("(return (i32.const 0x7ffffff0))", ""),
        ("(i32.store8 (i32.const 128) (i32.const 77))", ""),
        ("(i32.store8 (i32.const 128) (i32.const 1)) (i32.store (i32.const 132) (i32.const -1))", ""),
    ] {
        let component = by_hand::charm(&[("in handle", trap)]);
        let charm = street.host.install(Charm::new("hand", component)).await.unwrap();
        let receipt = soon(street.host.request(NewEvent::new(charm, "run", value(json!(1))))).await;
        assert_eq!(receipt.outcome, Outcome::Faulted, "{trap}: {receipt:?}");
        let message = receipt.message.unwrap();
        assert!(message.contains(words), "{trap}: {message}");
        assert!(message.len() <= 300, "{message}");
        assert_bounded(&message);
    }
    street.both_go_on().await;
}

/// T7: names that a guest chose for its functions are nobody's business.
#[tokio::test(flavor = "multi_thread")]
async fn no_name_from_inside_a_guest_reaches_a_diagnosis() {
    let host = host().await;
    let component =
        by_hand::charm(&[("in module", "(func $hello-operator unreachable)"), ("in handle", "(call $hello-operator)")]);
    let charm = host.install(Charm::new("hand", component)).await.unwrap();
    let receipt = soon(host.request(NewEvent::new(charm, "run", value(json!(1))))).await;
    assert!(!format!("{receipt:?}").contains("hello-operator"), "{receipt:?}");
}

/// T7: the text of a rejection is cut at 1 KiB.
#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_rejection_is_cut() {
    let street = Street::with(small()).await;
    street.goes_over(json!([["reject", "not today"]]), Outcome::Rejected, "not today").await;
    let receipt = run(&street.host, street.greedy, json!([["reject", text(100_000)]])).await;
    let message = receipt.message.unwrap();
    assert_eq!(message.len(), MESSAGE_BYTES_MAX);
    assert!(message.ends_with('…'));
}

// -- logs --

/// A5: after `log-bytes-max` bytes the rest of the turn's words is dropped, and the turn goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_log_bytes_is_logged_no_further() {
    let logs = Logs::capture();
    let street = Street::with(Limits { log_bytes_max: 2_000, ..small() }).await;
    let line = |word: &str| json!(["log", "info", format!("{word}{}", text(490))]);
    let steps = json!([line("first"), ["repeat", 50, line("middle")], ["log", "error", "the last words"]]);
    let receipt = run(&street.host, street.greedy, steps).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let id = receipt.id.to_string();
    let lines: Vec<String> = logs.lines(&id).into_iter().filter(|line| line.contains("charm::guest")).collect();
    let count = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert_eq!((count("first"), count("log-bytes-max reached"), count("the last words")), (1, 1, 0), "{lines:?}");
    assert!(count("middle") <= 4, "{}", count("middle"));
    street.both_go_on().await;
}

/// T7: one line of log is at most 1 KiB and holds no control characters.
#[tokio::test(flavor = "multi_thread")]
async fn a_logged_line_is_cut_and_escaped() {
    let logs = Logs::capture();
    let street = Street::with(small()).await;
    let steps =
        json!([["log", "info", format!("long {}", "#".repeat(3_000))], ["log", "warn", "two\nlines \u{1b}[2J"]]);
    let id = run(&street.host, street.greedy, steps).await.id.to_string();
    let lines: Vec<String> = logs.lines(&id).into_iter().filter(|line| line.contains("charm::guest")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0].matches('#').count(), MESSAGE_BYTES_MAX - "long ".len() - '…'.len_utf8());
    assert!(lines[1].contains(r"two\nlines \u{1b}[2J"), "{}", lines[1]);
}

// -- HTTP (A3) --

async fn street_with_network(limits: Limits) -> (Street, Wire) {
    let wire = Wire::open();
    let street = Street::on(builder().limits(limits).transport(wire.clone())).await;
    street.host.install(probe_charm("greedy").may_call(Wire::grant())).await.unwrap();
    (street, wire)
}

fn fetch() -> Json {
    json!(["fetch", { "url": format!("{WIRE}/") }])
}

/// A5, A3
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_http_requests_is_refused_more() {
    let (street, wire) = street_with_network(Limits { http_requests_max: 3, ..small() }).await;
    street.is_taken(json!(["repeat", 3, fetch()])).await;
    assert_eq!(wire.count(), 3);
    let results = results(&street.host, street.greedy, json!([["repeat", 3, fetch()], ["try", fetch()]])).await;
    assert_eq!(results[1], json!({ "error": { "kind": "limit", "name": "http-requests-max", "max": 3 } }));
    assert_eq!(wire.count(), 6, "the fourth never left");
    street.both_go_on().await;
}

/// A5, A3: before anything leaves.
#[tokio::test(flavor = "multi_thread")]
async fn an_http_request_over_a_bound_is_refused() {
    let limits = Limits {
        http_url_bytes_max: 100,
        http_headers_max: 3,
        http_header_bytes_max: 200,
        http_request_bytes_max: 1_000,
        ..small()
    };
    let (street, wire) = street_with_network(limits).await;
    let request = |path: usize, headers: usize, header: usize, body: usize| {
        let url = format!("{WIRE}/{}", text(path - WIRE.len() - 1));
        let headers: Vec<Json> = (0..headers).map(|n| json!([format!("x-{n}"), text(header - 3)])).collect();
        json!(["fetch", { "method": "POST", "url": url, "headers": headers, "body": text(body) }])
    };
    street.is_taken(request(100, 3, 66, 1_000)).await;
    assert_eq!(wire.count(), 1);
    for (step, name, max) in [
        (request(101, 1, 10, 0), "http-url-bytes-max", 100),
        (request(50, 4, 10, 0), "http-headers-max", 3),
        (request(50, 3, 67, 0), "http-header-bytes-max", 200),
        (request(50, 1, 10, 1_001), "http-request-bytes-max", 1_000),
    ] {
        street.is_refused(step, name, max).await;
    }
    assert_eq!(wire.count(), 1);
}

/// A5, A3: as the transport tells it.
#[tokio::test(flavor = "multi_thread")]
async fn an_http_answer_over_a_bound_is_refused() {
    let limits = Limits { http_response_bytes_max: 500, http_headers_max: 7, http_header_bytes_max: 90, ..small() };
    let (street, wire) = street_with_network(limits).await;
    for (name, max) in [("http-response-bytes-max", 500), ("http-headers-max", 7), ("http-header-bytes-max", 90)] {
        wire.answer(Err(TransportError::TooLarge(name)));
        street.is_refused(fetch(), name, max).await;
    }
    wire.answer(Err(TransportError::Http(HttpError::Timeout)));
    let results = results(&street.host, street.greedy, json!([["try", fetch()]])).await;
    assert_eq!(results, json!([{ "error": { "kind": "http-timeout" } }]));
}

/// A server on this machine that gives every connection the same answer, or none.
async fn server(answer: Option<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let _ = connection.read(&mut request).await;
            if let Some(answer) = &answer {
                let _ = connection.write_all(answer.as_bytes()).await;
            }
            // Kept open: only the bounds of the host end the exchange.
            open.push(connection);
        }
    });
    origin
}

/// Has a probe fetch from a real server through the real client; returns what it got.
async fn fetched(limits: Limits, answer: Option<String>) -> Json {
    let origin = server(answer).await;
    let host = builder().limits(limits).open().await.unwrap();
    let grant = HttpGrant { origin: origin.clone(), methods: vec!["GET".to_owned()], private: false };
    let a = host.install(probe_charm("a").may_call(grant)).await.unwrap();
    let results = results(&host, a, json!([["try", ["fetch", { "url": format!("{origin}/") }]]])).await;
    results[0].clone()
}

/// A5, A3: the client of the host keeps the bounds itself, whatever the other side promises.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_client_keeps_the_bounds_on_answers() {
    let limits = || Limits {
        http_response_bytes_max: 1_000,
        http_headers_max: 8,
        http_header_bytes_max: 300,
        http_timeout_ms: 5_000,
        ..small()
    };
    let over = |name: &str, max: u64| json!({ "error": { "kind": "limit", "name": name, "max": max } });
    let body = |bytes: usize| Some(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{}", text(bytes)));
    let fits = fetched(limits(), body(1_000)).await;
    assert_eq!(fits, json!({ "ok": { "status": 200, "body": text(1_000) } }));
    assert_eq!(fetched(limits(), body(1_001)).await, over("http-response-bytes-max", 1_000));
    // A promise of terabytes, none of it sent.
    let promise = "HTTP/1.1 200 OK\r\ncontent-length: 9999999999999\r\n\r\nx".to_owned();
    assert_eq!(fetched(limits(), Some(promise)).await, over("http-response-bytes-max", 1_000));
    let piece = format!("40\r\n{}\r\n", text(64));
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", piece.repeat(100));
    assert_eq!(fetched(limits(), Some(endless)).await, over("http-response-bytes-max", 1_000));
    let many: String = (0..9).map(|n| format!("x-{n}: 1\r\n")).collect();
    let headers = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{many}\r\n");
    assert_eq!(fetched(limits(), Some(headers)).await, over("http-headers-max", 8));
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-long: {}\r\n\r\n", text(300));
    assert_eq!(fetched(limits(), Some(long)).await, over("http-header-bytes-max", 300));
}

/// A5, A3: silence, and a first byte followed by silence.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_client_ends_an_exchange_in_time() {
    let limits = || Limits { http_timeout_ms: 300, ..small() };
    for answer in [None, Some("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx".to_owned())] {
        let start = std::time::Instant::now();
        assert_eq!(fetched(limits(), answer).await, json!({ "error": { "kind": "http-timeout" } }));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
