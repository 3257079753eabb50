//! The interfaces: components built for later worlds run here, those for earlier ones too, and what this host cannot give is
//! refused by name.

use std::path::PathBuf;

use charm_conformance::*;
use charm_host::{Charm, NewEvent, Outcome};
use serde_json::json;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata, semver_check};
use wit_parser::{ManglingAndAbi, Resolve, WorldId};

use super::by_hand;

/// The interfaces of a version, changed for a test.
struct Wit {
    version: &'static str,
    files: Vec<(String, String)>,
}

impl Wit {
    fn of(folder: PathBuf) -> Wit {
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let wit = files.filter(|file| file.extension().is_some_and(|extension| extension == "wit"));
        let named = |file: PathBuf| {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(file).unwrap())
        };
        Wit { version: "0.2.0", files: wit.map(named).collect() }
    }

    /// Returns those of this host.
    fn now() -> Wit {
        Wit::of(root().join("wit"))
    }

    /// Puts text in place of text that stands once in one of the files.
    fn with(mut self, file: &str, text: &str, with: &str) -> Wit {
        let (_, content) = self.files.iter_mut().find(|(name, _)| name == file).unwrap();
        assert_eq!(content.matches(text).count(), 1, "{file}: {text}");
        *content = content.replace(text, with);
        self
    }

    /// Makes it another version.
    fn version(mut self, version: &'static str) -> Wit {
        for (_, content) in &mut self.files {
            *content = content.replace(&format!("charm:host@{}", self.version), &format!("charm:host@{version}"));
        }
        self.version = version;
        self
    }

    /// Returns a world of it.
    fn world(&self, resolve: &mut Resolve, world: &str) -> WorldId {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let (package, _) = resolve.push_dir(folder.path()).unwrap();
        resolve.select_world(&[package], Some(world)).unwrap()
    }

    /// Returns the component of a guest of the tests, as it would be built for a world of these.
    fn built(&self, guest: &str, world: &str) -> Vec<u8> {
        let component = component(guest);
        let module = wasmparser::Parser::new(0).parse_all(&component).find_map(|part| match part.unwrap() {
            wasmparser::Payload::ModuleSection { unchecked_range, .. } => Some(component[unchecked_range].to_vec()),
            _ => None,
        });
        // Its names say for which version it is; both are as long.
        let (from, to) = ("@0.2.0", format!("@{}", self.version));
        let module = patched(module.unwrap(), from, &to);
        let mut resolve = Resolve::default();
        let world = self.world(&mut resolve, world);
        encoded(module, &resolve, world)
    }

    /// Returns a component that imports all of a world, and does nothing.
    fn whole(&self, world: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let world = self.world(&mut resolve, world);
        encoded(dummy_module(&resolve, world, ManglingAndAbi::Standard32), &resolve, world)
    }
}

fn encoded(mut module: Vec<u8>, resolve: &Resolve, world: WorldId) -> Vec<u8> {
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// A later version: one more interface to import, one to export, a function, and a method of a resource.
fn later() -> Wit {
    Wit::now()
        .version("0.2.1")
        .with("log.wit", "interface log {", "interface gauges {\n  gauge: func(name: string);\n}\ninterface log {")
        .with("world.wit", "    import log;\n", "    import log;\n    import gauges;\n")
        .with(
            "cells.wit",
            "    resource cell {",
            "    bytes: func() -> u64;\n    resource cell {\n        touch: func();\n",
        )
        .with(
            "derivations.wit",
            "interface derivations {",
            "interface movers {\n  move: func();\n}\ninterface derivations {",
        )
        .with(
            "world.wit",
            "world deriving-charm {",
            "world moving-charm {\n    include charm;\n    export movers;\n}\nworld deriving-charm {",
        )
}

/// Installs a component; says why it is refused.
async fn refused(component: Vec<u8>) -> String {
    host().await.install(Charm::new("later", component)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_component_of_a_later_world_that_needs_nothing_of_it_runs() {
    let component = later().built("deriver", "deriving-charm");
    let host = host().await;
    let did = host.install(Charm::new("later", component.clone())).await.unwrap();
    let told = host.describe(Charm::new("later", component)).await.unwrap();
    assert!(told.imports.contains(&"charm:host/cells@0.2.1".to_owned()), "{:?}", told.imports);
    let steps =
        json!([["set", "x", [], 4], ["set", "of-d1", [], ["sum", ["get", "x", []], ["value", 1]]], ["get", "d1", []]]);
    assert_eq!(results(&host, did, steps).await[2], 5, "it reads, writes and derives");
}

#[tokio::test]
async fn a_component_of_an_earlier_world_runs() {
    // As if these had come since.
    let earlier =
        Wit::now().with("world.wit", "    import retries;\n    import discovery;\n    import http;\n", "").with(
            "cells.wit",
            "    remove-all: func(owner: option<did>, span: span, limit: u32) -> result<removed, error>;\n",
            "",
        );
    let host = host().await;
    for guest in ["waiter", "bench", "relay"] {
        host.install(Charm::new(guest, earlier.built(guest, "charm"))).await.unwrap();
    }
    let relay = host.did_of("relay").unwrap();
    let receipt = host.request(NewEvent::new(relay, "link", value(json!(relay.to_string())))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
}

#[tokio::test]
async fn what_a_later_world_has_and_this_host_does_not_is_refused_by_name() {
    let plain = || {
        let without = later().with("world.wit", "    import gauges;\n", "").with("cells.wit", "touch: func();", "");
        without.with("cells.wit", "bytes: func() -> u64;", "")
    };
    let import = ("world.wit", "    import log;\n", "    import log;\n    import gauges;\n");
    let method = ("cells.wit", "    resource cell {", "    resource cell {\n        touch: func();\n");
    let function = ("cells.wit", "    resource cell {", "    bytes: func() -> u64;\n    resource cell {");
    for ((file, text, with), name) in [(import, "gauges@0.2.1"), (method, "cell.touch"), (function, "bytes")] {
        let why = refused(plain().with(file, text, with).whole("charm")).await;
        assert!(why.contains(name) && why.ends_with("or use a later host"), "{why}");
    }
    let why = refused(plain().whole("moving-charm")).await;
    assert!(why.contains("movers@0.2.1") && why.ends_with("or use a later host"), "{why}");
}

#[tokio::test]
async fn a_world_with_other_types_is_refused() {
    let more = Wit::now().with(
        "types.wit",
        "        cycle(list<address>),\n",
        "        cycle(list<address>),\n        late(string),\n",
    );
    let why = refused(more.built("deriver", "deriving-charm")).await;
    assert!(why.contains("build it again"), "{why}");
    let why = refused(Wit::now().version("0.3.0").built("deriver", "deriving-charm")).await;
    assert!(why.contains("@0.3.0"), "{why}");
}

/// Keys of the description that came later are kept, of the whole and of each declaration; the charm runs.
#[tokio::test]
async fn a_description_with_later_keys_is_kept() {
    let description = value(json!({
        "icon": { "text": "A" },
        "streams": { "run": { "shape": "any", "ordered": true } },
        "cells": { "x": { "shape": "int", "unit": "euro" } },
        "families": { "order": { "shape": "any", "index": ["at"] } },
    }));
    let charm = || Charm::new("described", by_hand::described(description.as_bytes()));
    let host = host().await;
    let told = host.describe(charm()).await.unwrap().descriptor;
    let keys = |more: &std::collections::BTreeMap<String, charm_host::Value>| more.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&told.more), ["icon"]);
    assert_eq!(keys(&told.streams["run"].more), ["ordered"]);
    assert_eq!(keys(&told.cells["x"].more), ["unit"]);
    assert_eq!(keys(&told.families["order"].more), ["index"]);
    let did = host.install(charm()).await.unwrap();
    let receipt = host.request(NewEvent::new(did, "run", value(json!(1)))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
}

/// What must not be left out is asked for: a host that does not know it refuses the component by name.
#[tokio::test]
async fn a_description_that_needs_what_comes_later_is_refused() {
    let needs = |needs: serde_json::Value| {
        let description = value(json!({ "needs": needs, "cells": { "x": { "shape": "int", "sealed": true } } }));
        Charm::new("needs", by_hand::described(description.as_bytes()))
    };
    let host = host().await;
    host.describe(needs(json!([]))).await.unwrap();
    let why = host.install(needs(json!(["sealed"]))).await.unwrap_err().to_string();
    assert!(why.contains("it needs sealed, which this host does not know: use a later one"), "{why}");
    for wrong in [json!("sealed"), json!([1])] {
        let why = host.install(needs(wrong)).await.unwrap_err().to_string();
        assert!(why.contains("needs: no "), "{why}");
    }
}

/// Returns whether a host with the one world runs what was built for the other.
fn grows(before: &Wit, after: Wit) -> Result<(), String> {
    let after = after.version("0.2.9");
    for name in ["charm", "deriving-charm"] {
        let mut resolve = Resolve::default();
        let (old, new) = (before.world(&mut resolve, name), after.world(&mut resolve, name));
        semver_check(resolve, old, new).map_err(|error| format!("{name}: {error:#}"))?;
    }
    Ok(())
}

/// The world of 0.2.0 is kept as it was: what was built for it runs as long as this holds.
#[test]
fn the_world_only_grows() {
    let kept = Wit::of(root().join("tests/data/0.2.0/wit"));
    grows(&kept, Wit::now()).unwrap();
    grows(&kept, Wit::now().with("log.wit", "interface log {", "interface log {\n    flush: func();\n")).unwrap();
    // What makes another version.
    let changed = [
        ("types.wit", "        cycle(list<address>),\n", "        cycle(list<address>),\n        late(string),\n"),
        ("types.wit", "        max: u64,\n", "        max: u64,\n        now: u64,\n"),
        ("cells.wit", "        owner: func() -> did;\n", ""),
        ("log.wit", "log: func(level: level, message: string)", "log: func(level: option<level>, message: string)"),
        (
            "guest.wit",
            "    describe: func() -> value;\n",
            "    describe: func() -> value;\n    explain: func() -> string;\n",
        ),
        ("derivations.wit", "derive: func(name: string)", "derive: func(name: string, way: string)"),
    ];
    for (file, text, with) in changed {
        let changed = Wit::now().with(file, text, with);
        assert!(grows(&kept, changed).is_err(), "{file}: {with}");
    }
}

/// S4: what may become of an event is the same set in what 0.2.0 said of it, in the interfaces, the host and the SDK, and a word
/// outside of it is none: it is never taken for a success.
#[test]
fn the_outcomes_are_those_of_the_interfaces() {
    let of_wit = |wit: Wit| -> Vec<String> {
        let (_, text) = wit.files.into_iter().find(|(name, _)| name == "streams.wit").unwrap();
        let words = text.split_once("outcome as text (").unwrap().1.split_once(')').unwrap().0;
        words.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let kept = of_wit(Wit::of(root().join("tests/data/0.2.0/wit")));
    assert_eq!(of_wit(Wit::now()), kept);
    // What each of them takes, in the words of its error.
    let host = serde_json::from_value::<Outcome>(json!("lost")).unwrap_err().to_string();
    let sdk = serde_json::from_value::<charm_sdk::Outcome>(json!("lost")).unwrap_err().to_string();
    let known: Vec<String> = kept.iter().map(|word| format!("`{word}`")).collect();
    for error in [host, sdk] {
        assert!(error.starts_with("unknown variant") && error.ends_with(&known.join(", ")), "{error}");
    }
}
