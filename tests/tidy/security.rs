//! `docs/security.md` tells the truth: what it names is there, and what is there is named.

use super::*;

/// One row of the table.
struct Row {
    number: usize,
    attack: &'static str,
    defence: &'static str,
    /// Chapter and function.
    tests: Vec<(&'static str, &'static str)>,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for line in file("docs/security.md").text.lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        let Some(number) = cells[0].strip_prefix("| ").and_then(|number| number.parse().ok()) else { continue };
        assert_eq!(cells.len(), 4, "number, attack, defence, tests: {line}");
        let named = cells[3].split('`').skip(1).step_by(2);
        let tests = named.map(|test| test.split_once(' ').unwrap_or_else(|| panic!("chapter and function: {test}")));
        rows.push(Row { number, attack: cells[1], defence: cells[2], tests: tests.collect() });
    }
    rows
}

/// The files of a chapter.
fn chapter(name: &str) -> Vec<&'static File> {
    let path = match name {
        "cli" => "host/cli/tests/".to_owned(),
        "host" => "host/src/".to_owned(),
        "sdk" => "guest-sdk/".to_owned(),
        _ => format!("tests/conformance/{name}"),
    };
    let is_of = |file: &&File| {
        let rest = file.path.strip_prefix(&path);
        file.is_rust() && rest.is_some_and(|rest| path.ends_with('/') || rest == ".rs" || rest.starts_with('/'))
    };
    files().iter().filter(is_of).collect()
}

/// The functions of a file that are tests.
fn tests_in(file: &File) -> Vec<String> {
    let (mut found, mut is_test) = (Vec::new(), false);
    for line in file.text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            found.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    found
}

#[test]
fn the_rows_of_the_security_table_are_numbered_and_none_is_empty() {
    let rows = rows();
    assert!(rows.len() >= 54, "the table is found: {} rows", rows.len());
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row.number, index + 1, "{}", row.attack);
    }
    let is_empty = |row: &&Row| row.tests.is_empty() && !row.defence.contains("not there yet: ");
    let text = |row: &Row| format!("{} {}", row.number, row.attack);
    none(rows.iter().filter(is_empty).map(text), "name a test, or what is not there yet");
}

#[test]
fn every_test_that_the_security_table_names_is_there() {
    let mut missing = Vec::new();
    for row in rows() {
        let gone = |(name, test): &&(&str, &str)| {
            !chapter(name).iter().any(|file| tests_in(file).iter().any(|found| found == test))
        };
        missing.extend(row.tests.iter().filter(gone).map(|(name, test)| format!("{}: {name} {test}", row.number)));
    }
    none(missing, "docs/security.md names tests that are not there");
}

#[test]
fn every_attack_is_in_the_security_table() {
    let rows = rows();
    let named =
        |test: &String| rows.iter().flat_map(|row| &row.tests).any(|(name, named)| *name == "attacks" && named == test);
    let attacks: Vec<String> = chapter("attacks").into_iter().flat_map(tests_in).collect();
    assert!(attacks.len() > 10, "the attacks are found: {attacks:?}");
    none(
        attacks.into_iter().filter(|test| !named(test)),
        "give each attack of tests/conformance/attacks/ a row in docs/security.md",
    );
}
