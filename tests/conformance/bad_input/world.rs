//! The version of the world that a component is built for, and what it tells of itself (A1).

use serde_json::Value as Json;

use super::*;

/// A1: a component of another version says which, and what to do; any third number is the same version.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_another_version_is_refused_with_the_remedy() {
    let host = small_host().await;
    let import = |name: &str| by_hand::charm(&[("in component", &format!("(import \"{name}\" (instance))"))]);
    let export = |name: &str| by_hand::charm(&[("charm:host/guest@0.2.0", name)]);
    let first = "(component
        (core module $m (func (export \"f\") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i \"f\")))
        (export \"describe\" (func $f)) (export \"handle\" (func $f)))";
    for (component, name) in [
        (import("charm:host/cells@0.1.0"), "charm:host/cells@0.1.0"),
        (import("charm:host/cells@0.3.0"), "charm:host/cells@0.3.0"),
        (import("charm:host/cells@1.0.0"), "charm:host/cells@1.0.0"),
        (import("charm:host/cells@0.2.0-draft"), "charm:host/cells@0.2.0-draft"),
        (export("charm:host/guest@0.1.0"), "charm:host/guest@0.1.0"),
        (export("charm:host/guest@0.3.0"), "charm:host/guest@0.3.0"),
        (assembled(first), "charm:host/charm@0.1.0"),
    ] {
        let error = refused(&host, component).await;
        assert!(matches!(&error, InstallError::Version { built_for, .. } if built_for == name), "{name}: {error:?}");
        assert!(error.to_string().contains("build it again with the SDK of this version"), "{error}");
    }
    let time = |version: &str| {
        let import =
            format!("(import \"charm:host/context@{version}\" (instance (export \"time\" (func (result u64)))))");
        by_hand::charm(&[("in component", &import), ("charm:host/guest@0.2.0", &format!("charm:host/guest@{version}"))])
    };
    for version in ["0.2.0", "0.2.1", "0.2.99"] {
        let did = host.install(Charm::new("later", time(version))).await.unwrap();
        let receipt = host.request(NewEvent::new(did, "run", value(json!(1)))).await.unwrap();
        assert_eq!(receipt.outcome, Outcome::Committed, "{version}: {receipt:?}");
    }
}

/// A1: an interface that a component offers and nobody calls is a mistake; what is not ours is its own affair.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_the_host_never_calls_is_named() {
    let host = small_host().await;
    let also = |name: &str| {
        let end = "(export \"charm:host/guest@0.2.0\" (instance $exports))";
        by_hand::charm(&[(end, &format!("{end} (export \"{name}\" (instance $exports))"))])
    };
    let error = refused(&host, also("charm:host/migrations@0.2.0")).await;
    assert!(matches!(error, InstallError::World { .. }), "{error:?}");
    assert!(error.to_string().contains("charm:host/migrations@0.2.0, which this host never calls"), "{error}");
    host.install(Charm::new("more", also("acme:tools/tool@1.0.0"))).await.unwrap();
}

/// A1: names, shapes and tags are checked once, when a charm is installed.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_declarations_are_refused() {
    let host = small_host().await;
    let described = |description: Json| by_hand::described(value(description).as_bytes());
    for text in [
        "",
        "oops",
        "{a: int",
        "[",
        "any any",
        "int |",
        "{a: int, a: int}",
        "{: int}",
        &"[".repeat(200),
        &format!("\"{}\"", "x".repeat(SHAPE_BYTES_MAX)),
    ] {
        let error = refused(&host, described(json!({ "streams": { "run": { "shape": text } } }))).await;
        assert!(matches!(error, InstallError::Describe { .. }), "{text}: {error:?}");
        assert!(error.to_string().contains("stream run"), "it says which declaration: {error}");
    }
    let stream = |name: &str| json!({ "streams": { name: { "shape": "any" } } });
    let tags = vec!["#tag"; 257];
    for (description, words) in [
        (json!([]), "the description is no map"),
        (json!({ "tags": {} }), "tags: no list"),
        (json!({ "tags": [5] }), "tag: no text"),
        (json!({ "tags": ["any"] }), "does not start with #"),
        (json!({ "tags": tags }), "more than 256 tags"),
        (json!({ "cells": [] }), "cells is no map"),
        (json!({ "cells": { "a": "any" } }), "cell a: what is told of it is no map"),
        (json!({ "cells": { "a": {} } }), "cell a: shape: no text"),
        (json!({ "cells": { "a": { "shape": "any", "private": 1 } } }), "cell a: private: neither true nor false"),
        (json!({ "streams": { "a": { "shape": "any", "receipts": null } } }), "stream a: receipts: neither"),
        (stream(""), "stream: name is empty"),
        (stream(&"x".repeat(129)), "name longer than 128 bytes"),
        (stream("r\nn"), "control characters"),
    ] {
        let error = refused(&host, described(description)).await;
        assert!(matches!(error, InstallError::Describe { .. }), "{words}: {error:?}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    // `{"cells": {}, "tags": []}`: keys of one value stand in one order only.
    let unsorted = refused(&host, by_hand::described(b"\xa2\x65cells\xa0\x64tags\x80")).await;
    assert!(unsorted.to_string().contains("the description is no value"), "{unsorted}");
}

/// A1: a later SDK may tell more than this host knows: it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_description_tells_beyond_this_host_is_kept() {
    let host = small_host().await;
    let description = json!({
        "streams": { "run": { "shape": "any", "private": true, "speed": [1, "fast"] } },
        "cells": { "total": { "shape": "int", "receipts": true } },
        "colour": { "of": "the sky" },
    });
    host.install(Charm::new("new", by_hand::described(value(description).as_bytes()))).await.unwrap();
    let Descriptor { tags, cells, families, streams, derives, more } =
        host.charms().remove(0).descriptor.as_ref().clone();
    assert!(tags.is_empty() && families.is_empty() && !derives);
    let (run, total) = (&streams["run"], &cells["total"]);
    assert_eq!((run.private, run.receipts, &run.more["speed"]), (true, false, &value(json!([1, "fast"]))));
    assert_eq!((total.private, total.receipts, &total.more["receipts"]), (false, false, &value(json!(true))));
    assert_eq!(more["colour"], value(json!({ "of": "the sky" })));
    assert_eq!(more.len(), 1);
    host.install(Charm::new("bare", by_hand::described(b"\xa0"))).await.unwrap();
}

/// A5
#[tokio::test(flavor = "multi_thread")]
async fn too_many_declarations_are_refused() {
    let host = small_host().await;
    let many = |kind: &str, count: usize| {
        let declared: serde_json::Map<_, _> =
            (0..count).map(|n| (format!("n{n}"), json!({ "shape": "any" }))).collect();
        by_hand::described(value(json!({ kind: declared })).as_bytes())
    };
    let did = host.install(Charm::new("many", many("streams", DECLARATIONS_MAX))).await.unwrap();
    let known = host.charms().into_iter().find(|charm| charm.did == did).unwrap().descriptor.streams.len();
    assert_eq!(known, DECLARATIONS_MAX);
    for kind in ["cells", "streams"] {
        let error = refused(&host, many(kind, DECLARATIONS_MAX + 1)).await;
        assert!(error.to_string().contains("more than 256 declarations"), "{error}");
    }
}
