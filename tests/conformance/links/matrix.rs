//! Who may do what through which link: every combination, against the rule in words (C5, T2, A2).

use super::*;

/// Whose cell it is, and what the holder may do with it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    Own,
    Granted,
    Ungranted,
    Private,
    Undeclared,
}

/// How the holder comes there.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// By its name.
    Direct,
    /// By a handle that a link was opened as.
    Opened,
    /// By a path through a link in the holder's own cell.
    Own,
    /// By a path through a link in a cell that the holder may read.
    Granted,
    /// By one in a cell that it may not read.
    Ungranted,
}

const TARGETS: [Target; 5] = [Target::Own, Target::Granted, Target::Ungranted, Target::Private, Target::Undeclared];
const WAYS: [Way; 5] = [Way::Direct, Way::Opened, Way::Own, Way::Granted, Way::Ungranted];
const VERBS: [&str; 7] = ["get", "set", "remove", "append", "add-unique", "remove-by-value", "increment"];

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Own => "mine",
            Target::Granted => "x",
            Target::Ungranted => "table",
            Target::Private => "hidden",
            Target::Undeclared => "unheard-of",
        }
    }
}

/// What the rule says: none when the call is made.
fn rule(target: Target, way: Way, verb: &str) -> Option<&'static str> {
    match (way, target, verb) {
        // It never comes to the link.
        (Way::Ungranted, _, "get") => Some("denied"),
        (Way::Ungranted, ..) => Some("write-isolation"),
        (_, Target::Own, _) | (_, Target::Granted, "get") => None,
        (_, _, "get") => Some("denied"),
        _ => Some("write-isolation"),
    }
}

/// A name is no right: neither to the holder of a link nor to what it holds.
#[tokio::test]
async fn whoever_holds_a_link_may_do_with_its_target_what_it_may_do_without() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let owner = |target: Target| if target == Target::Own { a } else { b };
    let before = json!({ "in": { "list": [1], "n": 1 } });
    let mut links = Vec::new();
    for target in TARGETS {
        run(&host, owner(target), json!([["set", target.name(), [], before]])).await;
        let link = json!([of(owner(target), target.name()), ["in"]]);
        links.push(json!(["set-link", "links", [target.name()], link]));
        // Another that both hold, under names of which one is granted.
        let (shared, kept) = ("y", "kept");
        run(&host, b, json!([["set-link", shared, [target.name()], link], ["set-link", kept, [target.name()], link]]))
            .await;
    }
    run(&host, a, json!(links)).await;
    for target in TARGETS {
        for way in WAYS {
            for verb in VERBS {
                let (inside, value) = match verb {
                    "get" | "remove" => ("n", None),
                    "set" => ("n", Some(json!(7))),
                    "increment" => ("n", Some(json!(1))),
                    "remove-by-value" => ("list", Some(json!(1))),
                    _ => ("list", Some(json!(2))),
                };
                let name = target.name();
                let (cell, path) = match way {
                    Way::Direct => (of(owner(target), name), json!(["in", inside])),
                    Way::Opened => (json!("here"), json!([inside])),
                    Way::Own => (json!("links"), json!([name, inside])),
                    Way::Granted => (of(b, "y"), json!([name, inside])),
                    Way::Ungranted => (of(b, "kept"), json!([name, inside])),
                };
                let mut step = vec![json!(verb), cell, path];
                step.extend(value);
                let step = match way {
                    Way::Opened => json!(["follow", "links", [name], step]),
                    _ => json!(step),
                };
                let what = format!("{verb} {target:?} {way:?}");
                let told = one(&host, a, step).await;
                let wanted = rule(target, way, verb);
                assert_eq!(told.get("kind").and_then(Json::as_str), wanted, "{what}: {told}");
                let changed = wanted.is_none() && verb != "get";
                assert_eq!(self::cell(&host, owner(target), name).await != before, changed, "{what}");
                if let (Some("write-isolation"), false) = (wanted, matches!(way, Way::Ungranted)) {
                    assert_eq!(told["requested"], json!(owner(target).to_string()), "{what}");
                }
                run(&host, owner(target), json!([["set", name, [], before]])).await;
            }
        }
    }
}

/// A2: a grant that goes takes with it what links lead to.
#[tokio::test]
async fn a_right_that_is_gone_is_gone_behind_links_too() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    run(&host, b, json!([["set", "x", ["n"], 1]])).await;
    run(&host, a, json!([["set-link", "links", ["x"], [of(b, "x"), []]]])).await;
    let read = json!(["get", "links", ["x", "n"]]);
    assert_eq!(one(&host, a, read.clone()).await, json!(1));
    grant(&host, a, Default::default(), Default::default()).await.unwrap();
    let denied = json!({ "kind": "denied", "owner": b.to_string(), "name": "x" });
    assert_eq!(one(&host, a, read.clone()).await, denied);
    assert_eq!(one(&host, a, json!(["follow", "links", ["x"], ["get", "here", ["n"]]])).await, denied);
    assert_eq!(one(&host, a, json!(["get", "links", ["x"]])).await["link"][1], json!("x"), "the name stays");
}
