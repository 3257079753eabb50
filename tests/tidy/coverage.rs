//! What must be named by some test.

use super::*;

/// The rules of `docs/model.md` that this host implements.
const RULES: [&str; 39] = [
    "I1", "I2", "I3", "I4", "C1", "C2", "C3", "C4", "C6", "T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "S1", "S2",
    "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13", "A1", "A3", "A4", "A5", "D6", "D7", "H1",
    "H2", "U1",
];

/// Every file with tests, but this scan and the guests.
fn tests() -> impl Iterator<Item = &'static File> {
    files().iter().filter(|file| {
        let is_guest = file.path.starts_with("tests/guests/") || file.path.starts_with("tests/tidy/");
        file.is_rust() && !is_guest && (file.path.starts_with("tests/") || file.path.contains("/tests"))
    })
}

fn is_named(word: &str) -> bool {
    tests().any(|file| words(&file.text).iter().any(|used| used == word))
}

#[test]
fn every_implemented_rule_is_cited_by_a_test() {
    let missing = RULES.iter().filter(|rule| !is_named(rule));
    none(missing.map(|rule| (*rule).to_owned()), "rules without a test that cites them");
}

/// A citation of a rule that the model does not have proves nothing.
#[test]
fn no_test_cites_a_rule_that_does_not_exist() {
    let model = words(&file("docs/model.md").text);
    let mut found = Vec::new();
    for file in tests() {
        for line in file.text.lines().filter(|line| line.trim_start().starts_with("//")) {
            let cited = words(line).into_iter().filter(|word| is_rule(word) && !model.contains(word));
            found.extend(cited.map(|rule| format!("{}: {rule}", file.path)));
        }
    }
    none(found, "rules that docs/model.md does not have");
}

fn is_rule(word: &str) -> bool {
    let (chapter, number) = word.split_at_checked(1).unwrap_or_default();
    "ICTSADHU".contains(chapter) && (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}

/// Limits that no test hits are wishes (A5).
#[test]
fn every_bound_is_named_by_a_test() {
    let text = &file("host/src/limits.rs").text;
    let field = |line: &str| {
        let line = line.trim_start().strip_prefix("pub ")?.trim_start_matches("const ");
        let name = line.split(':').next()?;
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        (is_name && line.contains(':')).then(|| name.to_owned())
    };
    let bounds: Vec<String> = text.lines().filter_map(field).collect();
    assert!(bounds.len() > 30, "the bounds are found: {bounds:?}");
    none(bounds.into_iter().filter(|bound| !is_named(bound)), "bounds without a test");
}

/// Each way to fail is driven with a planted secret, and measured (T7). What a guest sees of a refusal or of an exchange
/// has a name of its own.
#[test]
fn every_variant_of_every_error_is_driven_by_the_chapter_errors() {
    let chapter: String = below("tests/conformance/errors/").map(|file| file.text.as_str()).collect();
    // Whole words only: `SendError::Id` is not `SendError::IdReused`.
    let names = |name: &str| {
        chapter.match_indices(name).any(|(at, _)| !chapter[at + name.len()..].starts_with(char::is_alphanumeric))
    };
    let (mut types, mut missing) = (0, Vec::new());
    for file in host() {
        // The error type that the line is in.
        let (mut derives, mut inside) = (false, None);
        for line in file.text.lines() {
            let mut words = line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
            let declared = line.strip_prefix("pub enum ").or(line.strip_prefix("pub struct ")).map(words_of);
            if line.starts_with("#[derive(") {
                derives = line.contains("thiserror::Error");
            } else if let Some(name) = declared {
                inside = (derives || name == "TransportError").then(|| name.clone());
                types += usize::from(inside.is_some());
                derives = false;
                if line.starts_with("pub struct ") {
                    missing.extend(inside.take().filter(|name| !names(name)));
                }
            } else if line == "}" {
                inside = None;
            } else if let (Some(error), Some(variant)) = (&inside, words.next())
                && line.starts_with("    ")
                && line[4..].starts_with(|c: char| c.is_ascii_uppercase())
            {
                let named = match error.as_str() {
                    "Refusal" => format!("\"{}\"", kebab(variant)),
                    _ => format!("{error}::{variant}"),
                };
                let seen_by_guests = error != "HttpError" || names(&format!("\"http-{}\"", kebab(variant)));
                if !names(&named) || !seen_by_guests {
                    missing.push(format!("{error}::{variant}"));
                }
            }
        }
    }
    assert!(types >= 15, "the errors are found: {types}");
    none(missing, "errors that tests/conformance/errors/ does not drive");
}

fn words_of(declaration: &str) -> String {
    words(declaration).first().cloned().unwrap_or_default()
}

fn kebab(variant: &str) -> String {
    let dash = |(index, c): (usize, char)| {
        let start = if index > 0 && c.is_ascii_uppercase() { "-" } else { "" };
        format!("{start}{}", c.to_ascii_lowercase())
    };
    variant.chars().enumerate().map(dash).collect()
}

/// A guest that nothing runs is dead weight.
#[test]
fn every_test_guest_is_run_by_a_test() {
    let mut guests: Vec<&str> = below("tests/guests/")
        .filter_map(|file| file.path.strip_prefix("tests/guests/")?.strip_suffix("/Cargo.toml"))
        .collect();
    guests.extend(below("tests/guests-wat/").filter_map(|file| file.path.rsplit('/').next()));
    assert!(guests.len() >= 3, "the guests are found: {guests:?}");
    let users = || files().iter().filter(|file| file.is_rust() && !file.path.starts_with("tests/guests/"));
    let is_used = |guest: &str| {
        let (quoted, path) = (format!("\"{guest}\""), format!("/{guest}\""));
        users().any(|file| file.text.contains(&quoted) || file.text.contains(&path))
    };
    none(guests.into_iter().filter(|guest| !is_used(guest)).map(str::to_owned), "guests that no test names");
}

/// A file of tests that is not in the manifest is never compiled.
#[test]
fn every_chapter_is_in_the_manifest() {
    let manifest: toml::Table = file("tests/Cargo.toml").text.parse().unwrap();
    let listed: Vec<&str> =
        manifest["test"].as_array().unwrap().iter().map(|test| test["path"].as_str().unwrap()).collect();
    let mut missing = Vec::new();
    for file in below("tests/conformance/").filter(|file| file.is_rust()) {
        let has_tests = file.text.contains("#[test]") || file.text.contains("#[tokio::test");
        let path = file.path.trim_start_matches("tests/");
        let folder = format!("{}/main.rs", path.rsplit_once('/').map_or("", |(folder, _)| folder));
        if has_tests && !listed.contains(&path) && !listed.contains(&folder.as_str()) {
            missing.push(path.to_owned());
        }
    }
    none(missing, "test files that tests/Cargo.toml does not list");
}

/// The name of a test is the sentence that it proves.
#[test]
fn no_test_waits_by_sleeping_long() {
    let mut found = Vec::new();
    for file in tests().filter(|file| file.path.starts_with("tests/conformance/")) {
        let code = file.code();
        if ["sleep(Duration::from_secs", "sleep(std::time::Duration::from_secs"].iter().any(|call| code.contains(call))
        {
            found.push(file.path.clone());
        }
    }
    none(found, "wait for what must happen, not for time to pass");
}
