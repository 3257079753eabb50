//! What dependencies may come in: licences, sources and features, by the lists of `deny.toml`. Reads what cargo has
//! downloaded for this machine; `cargo xtask soak deny` looks at every platform's.

use std::collections::BTreeSet;

use super::*;
use serde_json::Value as Json;

/// The workspaces, and what they are built for beside this machine.
const WORKSPACES: [(&str, &[&str]); 3] =
    [("", &[]), ("example-charms", &["wasm32-unknown-unknown"]), ("tests/guests", &["wasm32-unknown-unknown"])];

/// Where every foreign package comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn deny() -> toml::Table {
    file("deny.toml").text.parse().unwrap()
}

fn strings(list: &toml::Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// What cargo would build with these arguments: packages with target, mode, level of optimisation and features.
fn units(arguments: &str) -> BTreeSet<(String, String, String, String)> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--unit-graph", "-Zunstable-options"]).args(arguments.split(' '));
    let output = cargo.current_dir(root()).env("RUSTC_BOOTSTRAP", "1").output().unwrap();
    assert!(output.status.success(), "cargo build {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let graph: Json = serde_json::from_slice(&output.stdout).unwrap();
    let unit = |unit: &Json| {
        // Of the form registry+URL#NAME@VERSION, path+file:///FOLDER#NAME@VERSION or path+file:///FOLDER/NAME#VERSION.
        let package = text(unit, "pkg_id").rsplit(['/', '#']).next().unwrap().to_owned();
        let what = format!("{} {} {}", unit["target"]["name"], unit["target"]["kind"], unit["mode"]);
        (package, what, unit["profile"]["opt_level"].to_string(), unit["features"].to_string())
    };
    list(&graph, "units").iter().map(unit).collect()
}

/// Both commands of the README share one build of the engine, and whoever sees the demo first waits for nothing that only
/// tests need.
#[test]
fn the_demo_builds_what_it_needs_and_all_of_that_serves_the_tests() {
    let demo = units("--package charm --package charm-demo-servers --bin charm --example demo");
    let tests = units("--workspace --exclude xtask --all-targets");
    let again = demo.difference(&tests).map(|(package, what, level, on)| format!("{package} {what} {level} {on}"));
    none(
        again,
        "built once for the demo and once more for the tests: turn the same features on in host/cli/Cargo.toml",
    );
    let is_of = |name: &str| demo.iter().any(|(package, ..)| package.split('@').next() == Some(name));
    assert!(is_of("wasmtime") && is_of("axum"), "the packages are found");
    let needless = ["adya", "proptest", "regex", "tempfile", "trybuild", "wasm-smith", "wast", "wat"];
    none(needless.into_iter().filter(|name| is_of(name)).map(str::to_owned), "only tests need");
    // What macros are made of runs once, when they run.
    let slow = demo.iter().filter(|(package, _, level, _)| {
        ["syn", "wit-parser", "serde_derive"].contains(&package.split('@').next().unwrap()) && level != "\"0\""
    });
    none(slow.map(|(package, _, level, _)| format!("{package}: {level}")), "optimised and used once");
}

fn cargo(arguments: &[&str], folder: &str) -> String {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .current_dir(root().join(folder))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What cargo says of a workspace. It asks for no platform but those built for: the packages of others may never have
/// been downloaded.
fn metadata(folder: &str, targets: &[&str]) -> Json {
    let version = cargo(&["-vV"], "");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let mut arguments = vec!["metadata", "--locked", "--all-features", "--format-version=1"];
    for target in [host].iter().chain(targets) {
        arguments.extend(["--filter-platform", target]);
    }
    serde_json::from_str(&cargo(&arguments, folder)).unwrap()
}

/// What cargo says of every workspace, with its folder.
fn workspaces() -> &'static [(&'static str, Json)] {
    static WORKSPACES_SAID: OnceLock<Vec<(&str, Json)>> = OnceLock::new();
    WORKSPACES_SAID.get_or_init(|| WORKSPACES.map(|(folder, targets)| (folder, metadata(folder, targets))).into())
}

fn list<'a>(value: &'a Json, name: &str) -> &'a [Json] {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name}"))
}

/// Every package of every workspace, with the workspace's folder.
fn packages() -> impl Iterator<Item = (&'static str, &'static Json)> {
    workspaces().iter().flat_map(|(folder, said)| list(said, "packages").iter().map(move |package| (*folder, package)))
}

fn text<'a>(value: &'a Json, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Says whether an SPDX expression can be met with these licences. `MIT/Apache-2.0` is how `OR` was once written.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens = spaced.split_whitespace().peekable();
    let met = either(&mut tokens, allowed);
    met && tokens.next().is_none()
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(tokens: &mut Tokens<'_>, allowed: &[&str]) -> bool {
    let mut met = both(tokens, allowed);
    while tokens.next_if_eq(&"OR").is_some() {
        met |= both(tokens, allowed);
    }
    met
}

fn both(tokens: &mut Tokens<'_>, allowed: &[&str]) -> bool {
    let mut met = one(tokens, allowed);
    while tokens.next_if_eq(&"AND").is_some() {
        met &= one(tokens, allowed);
    }
    met
}

fn one(tokens: &mut Tokens<'_>, allowed: &[&str]) -> bool {
    if tokens.next_if_eq(&"(").is_some() {
        let met = either(tokens, allowed);
        return tokens.next() == Some(")") && met;
    }
    let mut licence = tokens.next().unwrap_or_default().to_owned();
    if tokens.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", tokens.next().unwrap_or_default());
    }
    allowed.contains(&licence.as_str())
}

#[test]
fn licence_expressions_are_read_as_meant() {
    let allowed = ["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"];
    for good in ["MIT", "GPL-3.0 OR MIT", "(GPL-3.0 OR MIT) AND ISC", "MIT/GPL-3.0", "Apache-2.0 WITH LLVM-exception"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "ISC WITH LLVM-exception", "MIT ISC"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let deny = deny();
    let allowed = strings(&deny["licenses"]["allow"]);
    let refused = packages().filter(|(_, package)| !is_allowed(text(package, "license"), &allowed));
    let named = |(_, package): (_, &Json)| format!("{}: {}", text(package, "name"), package["license"]);
    none(refused.map(named), "licences that deny.toml does not allow");
    assert!(packages().count() > 200, "the packages are found: {}", packages().count());
}

/// For every platform: the lock files name them all.
#[test]
fn every_package_is_ours_or_of_the_registry() {
    let mut found = Vec::new();
    for (folder, said) in workspaces() {
        let lock: toml::Table =
            std::fs::read_to_string(root().join(folder).join("Cargo.lock")).unwrap().parse().unwrap();
        let known = list(said, "packages");
        for package in lock["package"].as_array().unwrap() {
            let name = package["name"].as_str().unwrap();
            let is_ours = || {
                let of_name = known.iter().find(|known| text(known, "name") == name && known["source"].is_null());
                of_name.is_some_and(|ours| Path::new(text(ours, "manifest_path")).starts_with(root()))
            };
            match package.get("source").and_then(toml::Value::as_str) {
                Some(REGISTRY) => assert!(package.get("checksum").is_some(), "{name} without a checksum"),
                None if is_ours() => {}
                source => found.push(format!("{folder}/Cargo.lock: {name}: {source:?}")),
            }
        }
    }
    none(found, "packages of another source");
}

#[test]
fn no_dependency_takes_any_version() {
    let mut found = Vec::new();
    for (_, package) in packages().filter(|(_, package)| package["source"].is_null()) {
        let wild = |one: &&Json| text(one, "req") == "*" && one["path"].is_null();
        let wild = list(package, "dependencies").iter().filter(wild);
        found.extend(wild.map(|one| format!("{}: {}", text(package, "name"), text(one, "name"))));
    }
    none(found, "say the version");
}

/// I3: with `legacy_compatibility` even strict verification accepts malleable signatures, and any dependency can switch
/// it on for all.
#[test]
fn no_dependency_switches_a_banned_feature_on() {
    let deny = deny();
    let mut found = Vec::new();
    for ban in deny["bans"]["features"].as_array().unwrap() {
        let (name, banned) = (ban["crate"].as_str().unwrap(), strings(&ban["deny"]));
        let mut seen = 0;
        for (_, said) in workspaces() {
            let ids: Vec<&str> = list(said, "packages")
                .iter()
                .filter(|package| text(package, "name") == name)
                .map(|package| text(package, "id"))
                .collect();
            let nodes = list(&said["resolve"], "nodes").iter().filter(|node| ids.contains(&text(node, "id")));
            for node in nodes {
                seen += 1;
                let on = list(node, "features").iter().filter(|on| banned.contains(&on.as_str().unwrap_or_default()));
                found.extend(on.map(|feature| format!("{name}: {feature}")));
            }
        }
        assert!(seen > 0, "no crate is named {name} any more");
    }
    none(found, "features that deny.toml bans");
    let names = |ban: &toml::Value| ban["crate"].as_str().unwrap().to_owned();
    let banned: Vec<String> = deny["bans"]["features"].as_array().unwrap().iter().map(names).collect();
    assert_eq!(banned, ["ed25519-dalek", "curve25519-dalek"], "the lenient signatures are banned");
}
