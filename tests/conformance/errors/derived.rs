//! What is told of derived cells.

use super::*;

/// T7: refusals of reads and writes of derived cells, inside derivations and out; nothing of what they read is in any.
#[tokio::test]
async fn no_refusal_about_a_derived_cell_is_long_or_tells_a_secret() {
    let secret = Secret::new("derived");
    let host = builder().open().await.unwrap();
    let charm = host.install(Charm::new("deriver", component("deriver"))).await.unwrap();
    let hidden = &secret.text;
    let get = |name: &str| json!(["get", name, []]);
    let formulas = [
        ("d0", json!(["get", "x", [hidden.as_str(), 1]])),
        ("d1", json!(["sum", get("x"), get("d2")])),
        ("d2", get("d1")),
        ("d3", json!(["try", ["set", "y", [], hidden]])),
        ("d4", json!(["get-each", ["x", "d5"], []])),
        ("d5", json!(["repeat", 100_000_000, get("x")])),
        ("whole", get("x")),
    ];
    let mut steps = vec![json!(["set", "x", [], hidden])];
    steps.extend(formulas.iter().map(|(name, step)| json!(["set", format!("of-{name}"), [], step])));
    assert_eq!(run(&host, charm, json!(steps)).await.outcome, Outcome::Committed);
    let calls = [
        ("read-only", json!(["set", "d0", [], hidden])),
        ("read-only", json!(["remove", "whole", [hidden.as_str()]])),
        ("failed", get("d0")),
        ("failed", get("d4")),
        ("failed", get("whole")),
        ("cycle", get("d1")),
    ];
    for (kind, call) in calls {
        let receipt = run(&host, charm, json!([["try", call], ["set", "y", [], 1]])).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        let seen = results(&host, charm, json!([["try", call]])).await;
        let error = &seen[0]["error"];
        assert_eq!(error["kind"], kind, "{call}: {error}");
        assert!(error.to_string().len() <= MESSAGE_BYTES_MAX, "{error}");
        // The words of a path are the caller's own.
        if call != get("d0") {
            secret.told(&error.to_string());
        }
    }
    let pure = results(&host, charm, json!([get("d3")])).await;
    assert_eq!(pure[0]["error"]["code"], "pure", "{pure}");
    secret.told(&pure.to_string());
    for name in ["d1", "d4", "whole"] {
        fails!(secret, host.get::<Value>(&charm, name, "").await.unwrap_err(), ReadError::Underivable(_));
    }
    let other = probe(&host, "other").await;
    run(&host, other, json!([["set", "whole", [], hidden]])).await;
    let again = host.install(Charm::new("other", component("deriver"))).await;
    fails!(secret, again.unwrap_err(), InstallError::DerivesValue { .. });
}
