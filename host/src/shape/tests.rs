use serde_json::json;

use super::*;

fn shape(text: &str) -> Shape {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn value(json: serde_json::Value) -> Value {
    Value::encode(&json).expect("in the data model")
}

#[test]
fn text_round_trips() {
    for text in [
        "any",
        "{token: string, expires_at: int, scopes?: [string]}",
        "{*: {\"a b\": float?}}",
        "\"on\" | \"off\" | null",
        "[{}]",
        "(int | string)?",
    ] {
        let parsed = shape(text);
        assert_eq!(shape(&parsed.to_string()), parsed, "{text} -> {parsed}");
    }
}

#[test]
fn malformed_text_is_refused_with_its_place() {
    for (text, at) in
        [("", 0), ("strin", 5), ("{a int}", 3), ("[int", 4), ("{a: int, a: int}", 15), ("int int", 4), ("\"x", 0)]
    {
        assert_eq!(text.parse::<Shape>().expect_err(text).at, at, "{text}");
    }
    assert!("[".repeat(10_000).parse::<Shape>().is_err());
}

#[test]
fn values_fit_or_the_place_is_named() {
    let token = shape("{token: string, expires: int, scopes?: [string]}");
    assert_eq!(token.check(&value(json!({"token": "t", "expires": 1, "more": true}))), Ok(()));
    let error = token.check(&value(json!({"token": "t", "expires": "soon"}))).expect_err("misfit");
    assert_eq!((error.at.as_str(), error.expected.as_str(), error.actual.as_str()), ("/expires", "int", "string"));
    let error = token.check(&value(json!({"token": "t"}))).expect_err("misfit");
    assert_eq!((error.at.as_str(), error.actual.as_str()), ("/expires", "missing"));
    let error = token.check(&value(json!({"token": "t", "expires": 1, "scopes": [1]}))).expect_err("misfit");
    assert_eq!(error.at, "/scopes/0");
    let error = shape("{a: {b: int}?}").check(&value(json!({"a": {"b": true}}))).expect_err("misfit");
    assert_eq!(error.at, "/a/b");
    assert_eq!(shape("float").check(&value(json!(1))), Ok(()));
    assert_eq!(shape("\"a\"|\"b\"").check(&value(json!("b"))), Ok(()));
}

#[test]
fn fits_is_a_sound_order() {
    for (a, b, yes) in [
        ("int", "any", true),
        ("any", "int", false),
        ("int", "float", true),
        ("\"a\"", "string", true),
        ("int", "int?", true),
        ("int?", "int", false),
        ("{a: int, b: int}", "{a: int}", true),
        ("{a: int}", "{a: int, b: int}", false),
        ("{a: int}", "{a: int, b?: int}", true),
        ("{a?: int}", "{a: int}", false),
        ("[int]", "[float]", true),
        ("{*: int}", "{a: int}", false),
        ("{a: int}", "{*: int}", false),
    ] {
        assert_eq!(shape(a).fits(&shape(b)), yes, "{a} fits {b}");
    }
}
