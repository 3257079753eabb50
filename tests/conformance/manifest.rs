//! docs/manifest.md is what the parser takes, key by key; and how a manifest grows: an older host refuses what it does not know by
//! its name, and every manifest of 0.2.0 is taken and means the same (D7, A5).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use charm_demo_servers::root;
use charm_host::{CharmSpec, GrantSpec, HttpSpec, Limits, Manifest, OutsideSpec};
use serde_json::Value;

/// Where each table of the page begins in a manifest: its heading, and a text in which `{}` is a line of it.
const TABLES: [(&str, &str); 6] = [
    ("The top", "{}\n"),
    ("`[charm.NAME]`", "[charm.a]\ncomponent = \"a.wasm\"\n{}\n"),
    ("`grant`", "[charm.a]\ncomponent = \"a.wasm\"\n[[charm.a.grant]]\ncharm = \"b\"\n{}\n"),
    (
        "`http`",
        "[charm.a]\ncomponent = \"a.wasm\"\n[[charm.a.http]]\norigin = \"https://a.example\"\nmethods = []\n{}\n",
    ),
    ("`[outside.\"DID\"]`", "[outside.somebody]\n{}\n"),
    ("`[limits]`", "[limits]\n{}\n"),
];

fn page() -> String {
    fs::read_to_string(root().unwrap().join("docs/manifest.md")).unwrap()
}

/// Returns the cells of the rows below a heading, without the heads of its tables.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let lines =
        section.unwrap_or_else(|| panic!("no section {heading}")).lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect()).collect()
}

/// Loads a text, and returns the error without the file's name.
fn load(text: &str) -> Result<Manifest, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("charms.toml");
    fs::write(&file, text).unwrap();
    Manifest::load(&file).map_err(|error| error.to_string().split_once("charms.toml: ").unwrap().1.to_owned())
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Both ways: what the parser says it knows in a table are the keys that the page has for it.
#[test]
fn the_page_has_every_key_of_the_parser_and_no_other() {
    let page = page();
    for (heading, text) in TABLES {
        let on_page: BTreeSet<&str> = rows(&page, heading).iter().map(|row| row[0]).collect();
        // Of the many limits the parser's own error has all.
        let error = match heading {
            "`[limits]`" => toml::from_str::<Limits>("qqq = 1").unwrap_err().message().to_owned(),
            _ => load(&text.replace("{}", "qqq = 1")).unwrap_err(),
        };
        let known: BTreeSet<&str> = match error.split_once("keys here: ") {
            Some((_, keys)) => keys.split(", ").collect(),
            None => error.split('`').skip(3).step_by(2).collect(),
        };
        assert_eq!(on_page, known, "{heading}: {error}");
    }
}

/// A5: unit, default and range of each limit are those of the host.
#[test]
fn the_page_has_the_default_and_the_range_of_every_limit() {
    let (page, defaults) = (page(), serde_json::to_value(Limits::default()).unwrap());
    let rows = rows(&page, "`[limits]`");
    assert_eq!(rows.len(), defaults.as_object().unwrap().len());
    for row in rows {
        let [key, unit, default, least, most, _] = row[..] else { panic!("{row:?}") };
        let number = |text: &str| text.replace('_', "").parse::<u64>().unwrap();
        assert_eq!(Some(number(default)), defaults[key].as_u64(), "{key}");
        let with = |value: u64| {
            let mut limits = defaults.clone();
            limits[key] = value.into();
            serde_json::from_value::<Limits>(limits).unwrap().check()
        };
        with(number(least)).unwrap();
        with(number(most)).unwrap();
        let error = with(u64::MAX).unwrap_err();
        assert_eq!((error.name, error.min, error.max), (key, number(least), number(most)));
        for (part, word) in [("-bytes", "bytes"), ("-ms", "milliseconds"), ("fuel", "fuel")] {
            assert_eq!(key.contains(part), unit.starts_with(word), "{key}: {unit}");
        }
    }
    assert_eq!(load("[limits]\nturns-max = 0").unwrap_err(), "limit turns-max is 0: give 1 to 4096");
}

/// D7: what a later version may add, an earlier one refuses: the key, its line, and what it may have meant.
#[test]
fn an_unknown_key_is_refused_in_every_table_by_its_name_and_place() {
    let (page, mut met) = (page(), 0);
    for (heading, text) in TABLES {
        for row in rows(&page, heading) {
            let (key, wrong) = (row[0], format!("{}x", row[0]));
            let text = text.replace("{}", &format!("{wrong} = 1"));
            let error = load(&text).unwrap_err();
            let place = format!("line {}, column 1: unknown key {wrong}; keys here: ", text.lines().count());
            assert!(
                error.starts_with(&place) && error.ends_with(&format!("; did you mean {key}?")),
                "{heading}: {error}"
            );
            met += 1;
        }
        let error = load(&text.replace("{}", "not-yet-invented = {}")).unwrap_err();
        assert!(error.contains("unknown key not-yet-invented; keys here: "), "{heading}: {error}");
        assert!(!error.contains("did you mean"), "{heading}: {error}");
    }
    assert!(met > 70, "{met}");
    // In the short spelling of a table too.
    let error =
        load("[charm.a]\ncomponent = \"a.wasm\"\ngrant = [\n  { charm = \"b\", write = [\"c\"] },\n]").unwrap_err();
    assert!(error.starts_with("line 4, column 18: unknown key write; keys here: charm, read, send"), "{error}");
    let error = load("limits = { fuel = 1 }").unwrap_err();
    assert!(error.starts_with("line 1, column 12: unknown key fuel; "), "{error}");
}

/// Numbers that are none, and those that no key can have, in words of a manifest.
#[test]
fn a_number_of_another_kind_is_refused_by_its_key() {
    let charm = |line: &str| format!("[charm.a]\ncomponent = \"a.wasm\"\n{line}");
    for (text, words) in [
        (
            "[limits]\nfuel-max = \"5\"".to_owned(),
            "line 2, column 12: fuel-max: a whole number is wanted, not a string",
        ),
        (
            "[limits]\nturns-max = 1.5".to_owned(),
            "line 2, column 13: turns-max: a whole number is wanted, not a number",
        ),
        (
            "limits = 5".to_owned(),
            "line 1, column 10: limits: a table: [limits] with numbers below it is wanted, not a whole number",
        ),
        ("limits = [5]".to_owned(), "line 1, column 10: limits: a table is wanted, not a list"),
        ("[limits]\nfuel-max = -5".to_owned(), "fuel-max: a whole number is wanted, not one below 0 or so large"),
        (charm("history-bytes = -5"), "history-bytes: a whole number is wanted, not one below 0 or so large"),
        (charm("history-bytes = true"), "history-bytes: a whole number is wanted, not true or false"),
        (charm("receipts-days = 4294967296"), "receipts-days: a whole number is wanted, not one below 0 or so large"),
        (charm("wishes = \"b\""), "wishes: a table is wanted, not a string"),
    ] {
        let error = load(&text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

/// The example of the page has every key but most limits, and is taken.
#[test]
fn the_example_of_the_page_has_every_key() {
    let page = page();
    let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let manifest = load(text).unwrap();
    assert_eq!(manifest.limits, Limits { fuel_max: 2_000_000_000, turns_max: 32, ..Limits::default() });
    assert_eq!((manifest.charms.len(), manifest.outside.len()), (2, 1));
    let table: toml::Table = text.parse().unwrap();
    every_key(&page, &table, |heading| heading != "`[limits]`");
}

/// D7: the kept manifest has every key of 0.2.0, and means what it meant.
#[test]
fn a_manifest_of_0_2_0_is_taken_and_means_the_same() {
    let folder = PathBuf::from("data/0.2.0");
    let file = root().unwrap().join("tests").join(&folder).join("charms.toml");
    let (text, taken) = (fs::read_to_string(&file).unwrap(), Manifest::load(&file).unwrap());
    let table: toml::Table = text.parse().unwrap();
    let limits = table["limits"].as_table().unwrap();
    let (told, defaults) =
        (serde_json::to_value(&taken.limits).unwrap(), serde_json::to_value(Limits::default()).unwrap());
    for (key, value) in limits {
        assert_eq!(told[key].as_i64(), value.as_integer(), "{key}");
        assert_ne!(told[key], defaults[key], "{key} shows nothing");
    }
    assert_eq!(limits.len(), 57, "those of 0.2.0");
    let beside = |name: &str| file.with_file_name(name);
    let http = |origin: &str, methods: &[&str], private| HttpSpec {
        origin: origin.to_owned(),
        methods: strings(methods),
        private,
    };
    let grant = |charm: &str, read: &[&str], send: &[&str]| GrantSpec {
        charm: charm.to_owned(),
        read: strings(read),
        send: strings(send),
    };
    let auth = CharmSpec {
        component: beside("google-auth.wasm"),
        did: Some("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".to_owned()),
        sha256: Some("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned()),
        history_bytes: Some(16_777_216),
        receipts_days: Some(7),
        grant: Vec::new(),
        http: vec![http("https://oauth2.googleapis.com", &["POST", "GET"], true)],
        wishes: [].into(),
    };
    let search = CharmSpec {
        component: beside("gmail-search.wasm"),
        did: None,
        sha256: None,
        history_bytes: None,
        receipts_days: None,
        grant: vec![grant("google-auth", &["token"], &["*"])],
        http: vec![http("https://gmail.googleapis.com", &["GET"], false)],
        wishes: [("#google-auth".to_owned(), "google-auth".to_owned())].into(),
    };
    let outsider = OutsideSpec { grant: vec![grant("gmail-search", &["results"], &["search"])] };
    let meant = Manifest {
        store: beside("data/store"),
        keys: beside("data/keys"),
        cache: beside("data/cache"),
        ca: Some(beside("data/ca.pem")),
        limits: taken.limits.clone(),
        charms: [("google-auth".to_owned(), auth), ("gmail-search".to_owned(), search)].into(),
        outside: [("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".to_owned(), outsider)].into(),
    };
    assert_eq!(taken, meant);
}

/// Looks whether a manifest has every key of these tables of the page.
#[track_caller]
fn every_key(page: &str, table: &toml::Table, wanted: impl Fn(&str) -> bool) {
    let root = Value::from_iter([("root".to_owned(), serde_json::to_value(table).unwrap())]);
    let mut found = BTreeSet::new();
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        if let Value::Object(map) = value {
            found.extend(map.keys().cloned());
        }
        let inner: Vec<&Value> = match value {
            Value::Object(map) => map.values().collect(),
            Value::Array(list) => list.iter().collect(),
            _ => Vec::new(),
        };
        inner.into_iter().for_each(|value| walk(value, found));
    }
    walk(&root, &mut found);
    for (heading, _) in TABLES.iter().filter(|(heading, _)| wanted(heading)) {
        for row in rows(page, heading) {
            assert!(found.contains(row[0]), "{heading}: {} is not in the example", row[0]);
        }
    }
}

/// Whether a text holds the parts of a pattern in their order: words in capitals, numbers of it and `…` stand for anything.
fn holds(text: &str, pattern: &str) -> bool {
    let is_any =
        |word: &str| word == "…" || word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase()) || word == "N";
    let words = pattern.split(' ').map(|word| word.trim_end_matches([':', ';', '?', ',']));
    let parts: Vec<String> = words.fold(vec![String::new()], |mut parts, word| {
        match is_any(word) {
            true => parts.push(String::new()),
            false => *parts.last_mut().unwrap() += &format!(" {word}"),
        }
        parts
    });
    let text: String = text.replace([':', ';', '?', ','], "");
    let plain = |part: &String| part.trim().replace([':', ';', '?', ','], "");
    parts.iter().map(plain).try_fold(&*text, |rest, part| rest.split_once(&part).map(|(_, rest)| rest)).is_some()
}

/// Errors of the page are errors of the host: of texts, each is met; of charms and grants, each stands in the source.
#[test]
fn the_page_has_no_error_that_is_none() {
    let page = page();
    let long = "# ".to_owned() + &"x".repeat(charm_host::MANIFEST_BYTES_MAX);
    let wrong =
        ["[charms]", "[charm.a]", "store = []", "store = \"a\"\nstore = \"b\"", "[limits]\nturns-max = 0", &long];
    let mut errors: Vec<String> = wrong.iter().map(|text| load(text).unwrap_err()).collect();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("charms.toml"), b"\xff").unwrap();
    errors.push(Manifest::load(&folder.path().join("charms.toml")).unwrap_err().to_string());
    let mut source = String::new();
    let mut folders = vec![root().unwrap().join("host/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => source += &fs::read_to_string(entry).unwrap(),
            }
        }
    }
    let section = page.split("\n## What is refused\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let (manifest, install) = section.split_once("has the kind `install`").unwrap();
    let patterns = |part: &'_ str| -> Vec<String> {
        let cells = part.lines().filter(|line| line.starts_with("| `")).map(|line| line.split(" | ").next().unwrap());
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    for pattern in patterns(manifest) {
        assert!(errors.iter().any(|error| holds(error, &pattern)), "{pattern}: {errors:#?}");
    }
    for part in patterns(install) {
        assert!(source.contains(&part), "{part}");
    }
    assert!(!holds("unknown key a", "missing key KEY"));
}
