//! What is not fit to be installed or sent: each is refused with a typed error of one bounded line that names the
//! thing and says what to do, nothing remains, and the host serves the next (A1, A5, T7).
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../by_hand.rs"]
mod by_hand;
mod manifest;
mod world;

use std::fmt::Display;

use charm_conformance::*;
use charm_host::*;
use serde_json::json;

/// Checks an error's text and returns it.
fn bounded(error: &impl Display) -> String {
    let text = error.to_string();
    assert!(text.len() <= MESSAGE_BYTES_MAX, "{} bytes: {text}", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(!text.contains("backtrace") && !text.contains("wasmtime::"), "{text}");
    text
}

/// Installs what is refused; returns the error after looking that nothing remains and another charm is served.
async fn refused(host: &Host, component: impl Into<Vec<u8>>) -> InstallError {
    let error = host.install(Charm::new("bad", component.into())).await.unwrap_err();
    assert!(bounded(&error).starts_with("charm bad: "), "{error}");
    assert_eq!(host.did_of("bad"), None);
    assert!(!host.charms().iter().any(|charm| charm.name == "bad"));
    serves(host).await;
    error
}

/// The host still takes charms and runs them.
async fn serves(host: &Host) {
    let good = probe(host, "good").await;
    let receipt = run(host, good, json!([["set", "alive", [], true]])).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
}

fn small() -> Limits {
    Limits { turns_max: 4, ..Limits::default() }
}

async fn small_host() -> Host {
    builder().limits(small()).open().await.unwrap()
}

/// Refuses hand-written components; `words` are what the error says.
async fn each_refused(host: &Host, cases: &[(&[(&str, &str)], &str)]) {
    for (changes, words) in cases {
        let error = refused(host, by_hand::charm(changes)).await;
        assert!(error.to_string().contains(words), "{changes:?}: {error}");
    }
}

// -- components --

/// A1
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_component_are_refused() {
    let host = small_host().await;
    let whole = component("probe");
    let mut cases: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0],
        b"\0asm".to_vec(),
        b"\0asm\x0d\0\x01\0\xff".to_vec(),
        b"#!/bin/sh\necho hello".to_vec(),
        b"(component".to_vec(),
        b"(component (import \"x\" (func (param \"\0\" string))))".to_vec(),
        "é".repeat(10_000).into_bytes(),
        vec![0xff; 100_000],
    ];
    cases.extend([1, 7, 8, 9, 100, 1_000, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec()));
    for bytes in cases {
        let error = refused(&host, bytes.clone()).await;
        let shown = &bytes[..bytes.len().min(20)];
        // A component that ends early at the end of a section is whole as bytes, but lacks its exports.
        assert!(matches!(error, InstallError::Malformed { .. } | InstallError::World { .. }), "{shown:?}: {error:?}");
    }
}

/// A1: a module is what compilers make; the error says that a component is needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_core_module_is_refused() {
    let host = small_host().await;
    for module in [assembled("(module)"), assembled("(module (func (export \"handle\")))")] {
        let error = refused(&host, module).await;
        assert!(matches!(error, InstallError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains("component"), "{error}");
    }
}

/// A1, A5: whatever stands in the file, the host decides and lives on. The changes follow a fixed seed.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_components_never_hurt_the_host() {
    let host = builder().limits(Limits { compute_ms_max: 200, fuel_max: 50_000_000, ..small() }).open().await.unwrap();
    let whole = component("trespasser");
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..40 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next(3) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = next(256) as u8,
                _ => drop(bytes.splice(at..(at + next(20)).min(whole.len() - 40), [])),
            }
        }
        match host.install(Charm::new("bad", bytes)).await {
            Err(error) => {
                bounded(&error);
                refused += 1;
            }
            Ok(did) => {
                // A change in a text or a dead function: a charm like any other.
                taken += 1;
                let _ = host
                    .request(NewEvent::new(did, "start-scan", value(json!({ "n": 1 }))))
                    .await
                    .map(|receipt| receipt.outcome);
            }
        }
    }
    assert!(refused >= 20, "{refused} refused, {taken} taken");
    serves(&host).await;
}

/// A5
#[tokio::test(flavor = "multi_thread")]
async fn a_component_over_its_bytes_is_refused() {
    let limits = Limits { component_bytes_max: 1_000_000, ..small() };
    let host = builder().limits(limits).open().await.unwrap();
    let error = refused(&host, vec![0; 1_000_001]).await;
    assert!(matches!(error, InstallError::TooLarge { bytes: 1_000_001, max: 1_000_000, .. }), "{error:?}");
    assert!(error.to_string().contains("component-bytes-max 1000000"), "{error}");
}

/// A1: by name, whatever it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_a_charm_does_not_get_is_named() {
    let host = small_host().await;
    for name in [
        "wasi:sockets/tcp@0.2.0",
        "wasi:filesystem/types@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "acme:secrets/vault@1.0.0",
        "charm:host/cells",
        "charm:other/cells@0.2.0",
        "vault",
    ] {
        let error =
            refused(&host, by_hand::charm(&[("in component", &format!("(import \"{name}\" (instance))"))])).await;
        let InstallError::Import { import, .. } = &error else { panic!("{name}: {error:?}") };
        assert_eq!(import, name);
        assert!(error.to_string().contains("charm:host@0.2"), "it says what a charm may import: {error}");
    }
    let long = format!("acme:{}/vault@1.0.0", "secrets-".repeat(500).trim_end_matches('-'));
    let error = refused(&host, by_hand::charm(&[("in component", &format!("(import \"{long}\" (instance))"))])).await;
    assert!(error.to_string().contains("acme:secrets-secrets-"), "{error}");
}

/// A1: a name of ours that this host does not have, and one of another type.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_interface_or_function_of_charm_host_is_named() {
    let host = small_host().await;
    for (import, words) in [
        ("(import \"charm:host/files@0.2.0\" (instance (export \"open\" (func))))", "charm:host/files@0.2.0"),
        ("(import \"charm:host/context@0.2.0\" (instance (export \"environment\" (func))))", "environment"),
        ("(import \"charm:host/context@0.2.0\" (instance (export \"time\" (func (result string)))))", "time"),
    ] {
        let error = refused(&host, by_hand::charm(&[("in component", import)])).await;
        assert!(matches!(error, InstallError::World { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// A1: a component of another world lacks what the host calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_another_world_is_refused() {
    let host = small_host().await;
    let empty = refused(&host, assembled("(component)")).await;
    assert!(empty.to_string().contains("charm:host/guest"), "{empty}");
    assert!(empty.to_string().contains("charm:host/charm"), "it says which world: {empty}");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("(export \"handle\" (func $handle))", "(export \"treat\" (func $handle))")], "handle"),
        (&[("(export \"describe\" (func $describe))", "")], "describe"),
        (
            &[("(func $describe (result (list u8))", "(func $describe (result string)")],
            "expected `list` found `string`",
        ),
        (&[("(param \"event\" (list u8))", "(param \"event\" string)")], "a function of guest: "),
    ];
    each_refused(&host, cases).await;
    let error = refused(&host, by_hand::charm(cases[0].0)).await;
    assert!(matches!(error, InstallError::World { .. }), "{error:?}");
}

/// A5: code that runs before anything is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_function_that_fails_is_refused() {
    let limits = Limits { fuel_max: 5_000_000, ..small() };
    let host = builder().limits(limits).open().await.unwrap();
    let start = |body: &str| by_hand::charm(&[("in module", &format!("(func $start {body}) (start $start)"))]);
    for (body, words) in [
        ("unreachable", "describe failed: trapped: wasm `unreachable`"),
        ("(loop $again (br $again))", "over fuel-max 5000000"),
        ("(call $start)", "over stack-bytes-max"),
    ] {
        let error = refused(&host, start(body)).await;
        assert!(matches!(error, InstallError::Describe { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// A5: `describe` has the bounds of a turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_describe_that_fails_is_refused() {
    let limits = Limits { fuel_max: 5_000_000, memory_bytes_max: 1 << 20, ..small() };
    let host = builder().limits(limits).open().await.unwrap();
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("in describe", "unreachable")], "describe failed: trapped: "),
        (&[("in describe", "(loop $again (br $again))")], "describe failed: over fuel-max 5000000"),
        (
            &[("in describe", "(if (i32.lt_s (memory.grow (i32.const 100)) (i32.const 0)) (then unreachable))")],
            "describe failed: over memory-bytes-max 1048576",
        ),
        (&[("in describe", "(return (i32.const 0x7ffffff0))")], "describe failed: "),
        (&[("in describe", "(i32.store (i32.const 20) (i32.const 0x7fffffff))")], "describe failed: "),
        // Bytes that are no value, and one that is longer than it may be.
        (&[("in describe", "(i32.store8 (i32.const 64) (i32.const 0xff))")], "the description is no value"),
        (
            &[("in describe", "(drop (memory.grow (i32.const 8))) (i32.store (i32.const 20) (i32.const 262145))")],
            &format!("over description-bytes-max {DESCRIPTION_BYTES_MAX}"),
        ),
    ];
    each_refused(&host, cases).await;
}

/// A1: `describe` has no transaction: any host call but `log` ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_describe_that_calls_the_host_is_refused() {
    let host = small_host().await;
    let import = "(import \"charm:host/context@0.2.0\" (instance $context (export \"time\" (func (result u64)))))
                  (core func $time (canon lower (func $context \"time\")))";
    let changes = [
        ("in component", import),
        ("in module", "(import \"context\" \"time\" (func $time (result i64)))"),
        ("with", "(with \"context\" (instance (export \"time\" (func $time))))"),
    ];
    let calls = [&changes[..], &[("in describe", "(drop (call $time))")]].concat();
    let error = refused(&host, by_hand::charm(&calls)).await;
    assert!(error.to_string().contains("describe may only log"), "{error}");
    // The same call in a turn is fine.
    let calls = [&changes[..], &[("in handle", "(drop (call $time))")]].concat();
    let did = host.install(Charm::new("hand", by_hand::charm(&calls))).await.unwrap();
    let receipt = host.request(NewEvent::new(did, "run", value(json!(1)))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
}

/// What was installed before stays, with its cells, when a replacement is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_replacement_leaves_the_charm_as_it_was() {
    let host = small_host().await;
    let good = probe(&host, "good").await;
    run(&host, good, json!([["set", "kept", [], 1]])).await;
    for bad in [Vec::new(), assembled("(component)"), by_hand::charm(&[("in describe", "unreachable")])] {
        bounded(&host.install(Charm::new("good", bad)).await.unwrap_err());
        let receipt = run(&host, good, json!([["get", "kept", []]])).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    }
    assert_eq!(cell(&host, good, "kept").await, json!(1));
}

// -- names and grants --

/// I1: a name stands for a DID in the store.
#[tokio::test(flavor = "multi_thread")]
async fn unusable_charm_names_are_refused() {
    let host = small_host().await;
    for name in ["", "Upper", "with space", "a/b", "@host", "é", "a\nb", "a_b", &"a".repeat(65), &"n".repeat(10_000)] {
        let error = host.install(Charm::new(name, component("probe"))).await.unwrap_err();
        assert!(matches!(error, InstallError::Name { .. }), "{error:?}");
        bounded(&error);
    }
    host.install(Charm::new("a-9".repeat(21), component("probe"))).await.unwrap();
}

/// I1
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_pinned_to_another_did_is_refused() {
    let host = small_host().await;
    let (a, b) = (probe(&host, "a").await, probe(&host, "b").await);
    let error = host.install(probe_charm("a").pinned(b)).await.unwrap_err();
    let text = bounded(&error);
    assert!(text.contains(&a.to_string()) && text.contains(&b.to_string()) && text.contains("manifest"), "{text}");
    let error = host.install(probe_charm("new").pinned(b)).await.unwrap_err();
    assert!(bounded(&error).contains("charm new"), "{error}");
    let stranger: Did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap();
    let error = host.install(probe_charm("new").pinned(stranger)).await.unwrap_err();
    assert!(matches!(error, InstallError::Key { .. }), "{error:?}");
    assert!(bounded(&error).contains(&stranger.to_string()), "{error}");
    host.install(probe_charm("a").pinned(a)).await.unwrap();
}

/// A3
#[tokio::test(flavor = "multi_thread")]
async fn malformed_http_grants_are_refused() {
    let host = small_host().await;
    let long = format!("https://{}.example", "a".repeat(5_000));
    for (origin, methods) in [
        ("", &["GET"][..]),
        ("example.org", &["GET"]),
        ("ftp://example.org", &["GET"]),
        ("https://example.org/", &["GET"]),
        ("https://example.org/path", &["GET"]),
        ("https://user:word@example.org", &["GET"]),
        ("https://EXAMPLE.org", &["GET"]),
        ("https://example.org:443", &["GET"]),
        ("*", &["GET"]),
        ("https://example.org", &[]),
        ("https://example.org", &["get"]),
        ("https://example.org", &["GET", ""]),
        (&format!("{long}/x"), &["GET"]),
    ] {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        let grant = HttpGrant { origin: origin.to_owned(), methods, private: false };
        let error = host.install(probe_charm("bad").may_call(grant)).await.unwrap_err();
        assert!(matches!(error, InstallError::Grant { .. }), "{origin}: {error:?}");
        let text = bounded(&error);
        assert!(text.starts_with("charm bad: grant: http origin "), "{text}");
    }
}

// -- events --

/// S4: what is not taken is said at once; nothing of it remains.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_do_not_fit_are_refused() {
    let host = small_host().await;
    let a = probe(&host, "a").await;
    let stranger: Did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap();
    let one = || value(json!(1));

    let error = host.send(NewEvent::new(stranger, "run", one())).await.unwrap_err();
    assert_eq!(error, SendError::NoSuchCharm { to: stranger });
    bounded(&error);

    let error = host.send(NewEvent::new(a, "walk", one())).await.unwrap_err();
    assert!(matches!(error, SendError::NoSuchStream { .. }), "{error:?}");
    assert!(bounded(&error).contains("it has: inner, note, on-receipt, run, shaped"), "{error}");
    let error = host.send(NewEvent::new(a, "walk\n".repeat(1_000), one())).await.unwrap_err();
    bounded(&error);

    for (event, at) in [(json!({ "n": "one" }), "/n"), (json!({}), "/n"), (json!(1), "/")] {
        let error = host.send(NewEvent::new(a, "shaped", value(event))).await.unwrap_err();
        let SendError::Shape { stream, mismatch } = &error else { panic!("{error:?}") };
        assert_eq!((stream.as_str(), mismatch.at.as_str()), ("shaped", at));
        assert!(bounded(&error).contains("shaped"), "{error}");
    }
    let wide: serde_json::Map<_, _> = [("n".to_owned(), json!("x".repeat(100_000)))].into_iter().collect();
    bounded(&host.send(NewEvent::new(a, "shaped", value(json!(wide)))).await.unwrap_err());

    for id in [String::new(), "x".repeat(SUPPLIED_ID_BYTES_MAX + 1)] {
        let error = host.send(NewEvent::new(a, "note", one()).id(id)).await.unwrap_err();
        assert!(matches!(error, SendError::Id(_)), "{error:?}");
        assert!(bounded(&error).contains("1 to 128 bytes"), "{error}");
    }

    let error = host.send(NewEvent::new(a, "note", one()).from(stranger)).await.unwrap_err();
    assert!(matches!(error, SendError::Denied { .. }), "{error:?}");
    assert!(bounded(&error).contains("charms.toml"), "it says who can help: {error}");

    assert_eq!(waiting(&host, a).await, []);
    assert_eq!(cell(&host, a, "notes").await, json!(null));
    assert_eq!(note(&host, a, json!("good")).await.outcome, Outcome::Committed);
}

/// S5: texts that are no event id.
#[test]
fn malformed_event_ids_are_refused() {
    let good = "0123456789abcdef0123456789abcdef";
    assert_eq!(good.parse::<EventId>().unwrap().to_string(), good);
    for bad in
        ["", "0123", &good.to_uppercase(), &good[1..], &format!("{good}0"), &good.replace('0', "g"), &"é".repeat(16)]
    {
        assert_eq!(bad.parse::<EventId>(), Err(EventIdError), "{bad}");
    }
}
