//! Sizes, words and settings of the whole repository.

use super::*;

/// Most lines of a source file.
const LINES_MAX: usize = 600;
/// Most entries of the root folder.
const ROOT_ENTRIES_MAX: usize = 22;
/// Most lines of an example charm and of its README.
const EXAMPLE_LINES_MAX: (usize, usize) = (120, 25);

fn lines(file: &File) -> usize {
    file.text.lines().count()
}

#[test]
fn source_files_are_short() {
    let long = files().iter().filter(|file| file.is_rust() && lines(file) > LINES_MAX);
    none(long.map(|file| format!("{}: {} lines", file.path, lines(file))), "split what is longer than 600 lines");
}

#[test]
fn example_charms_fit_on_a_screen_or_two() {
    let (source, readme) = EXAMPLE_LINES_MAX;
    let max = |file: &File| match file.path.rsplit('/').next() {
        Some("lib.rs") => source,
        Some("README.md") => readme,
        _ => usize::MAX,
    };
    let long = below("example-charms/").filter(|file| lines(file) > max(file));
    none(long.map(|file| format!("{}: {} lines", file.path, lines(file))), "an example is read in one go");
    assert!(below("example-charms/").any(|file| file.path.ends_with("/src/lib.rs")), "the examples are found");
}

#[test]
fn the_root_folder_is_small() {
    let mut entries: Vec<&str> = files().iter().filter_map(|file| file.path.split('/').next()).collect();
    entries.sort_unstable();
    entries.dedup();
    assert!(entries.len() <= ROOT_ENTRIES_MAX, "{} entries: {entries:?}", entries.len());
}

/// Files that hold words which the scans look for.
fn is_scanned(file: &&File) -> bool {
    !file.path.starts_with("tests/tidy/") && !file.path.ends_with("Cargo.lock")
}

#[test]
fn nothing_is_left_to_be_done_in_a_comment() {
    let marks = ["TODO", "FIXME", "XXX", "HACK", "dbg!("];
    let mut found = Vec::new();
    for file in files().iter().filter(is_scanned) {
        for (number, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none(found, "finish it, or write it down where it will be read");
}

#[test]
fn no_machine_and_no_registry_is_named() {
    // In two parts, so that this file does not name them.
    let names =
        [("/ho", "me/"), ("/ro", "ot/"), ("/wo", "rk/"), (".crates", ".io"), (".npmjs", ".org"), ("pypi", ".org")];
    let names = names.map(|(start, end)| format!("{start}{end}"));
    let mut found = Vec::new();
    for file in files().iter().filter(is_scanned) {
        let named = names.iter().filter(|name| file.text.contains(*name));
        found.extend(named.map(|name| format!("{}: {name}", file.path)));
    }
    none(found, "the repository works on any machine");
}

/// A copy of the folder, with what is built in it, is a repository of its own: cargo takes for fresh there what was built
/// here, so what is compiled in must not say where.
#[test]
fn nothing_compiled_in_points_at_the_folder_it_was_compiled_in() {
    let mut found = Vec::new();
    for file in files().iter().filter(is_scanned).filter(|file| file.is_rust()) {
        let text = file.text.replace(char::is_whitespace, "");
        for rest in text.split("env!(\"").skip(1) {
            let name = rest.split('"').next().unwrap_or_default();
            if !name.starts_with("CARGO_PKG_") {
                found.push(format!("{}: env!({name})", file.path));
            }
        }
    }
    none(found, "ask at run time: charm_demo_servers::root, std::env::var, std::env::current_exe");
}

fn members() -> Vec<String> {
    let manifest: toml::Table = file("Cargo.toml").text.parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for member in members() {
        let manifest: toml::Table = file(&format!("{member}/Cargo.toml")).text.parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{member}");
        assert_eq!(manifest["package"]["license"]["workspace"].as_bool(), Some(true), "{member}");
    }
}

/// Versions and their reasons stand in one place.
#[test]
fn every_dependency_comes_from_the_workspace() {
    let mut found = Vec::new();
    for member in members() {
        let manifest: toml::Table = file(&format!("{member}/Cargo.toml")).text.parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            let own = dependencies.iter().filter(|(_, spec)| spec.get("workspace").is_none());
            found.extend(own.map(|(name, _)| format!("{member}: {name}")));
        }
    }
    none(found, "say the version in the root Cargo.toml, with a reason");
}

/// A lint is silenced with a reason, or not at all.
#[test]
fn no_lint_is_silenced_without_a_reason() {
    let mut found = Vec::new();
    for file in files().iter().filter(is_scanned).filter(|file| file.is_rust()) {
        let code = file.code().replace(char::is_whitespace, "");
        for attribute in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for rest in code.split(attribute).skip(1) {
                let silenced = rest.split(")]").next().unwrap_or_default();
                if !silenced.contains("reason=") {
                    found.push(format!("{}: {attribute}{silenced})]", file.path));
                }
            }
        }
    }
    none(found, "say why");
}
