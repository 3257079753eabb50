//! docs/json.md, compared with what commands print: every key that is printed stands there with its type, and every key that
//! stands there is printed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use charm_demo_servers::root;
use serde_json::{Map, Value};

/// A key of a table.
struct Row {
    path: String,
    kind: String,
    is_always: bool,
}

/// What one command prints, or one change of `watch`.
struct Section {
    /// Whom the heading names.
    names: Vec<String>,
    /// The first words below it.
    shape: String,
    rows: Vec<Row>,
}

/// The page, and what of it was met.
pub struct Page {
    text: String,
    sections: Vec<Section>,
    met: BTreeSet<(usize, String)>,
}

/// The names of a section whose keys are those of every line that `watch` prints.
const WATCH: &str = "charm watch";

impl Page {
    /// Reads it.
    pub fn read() -> Page {
        let text = fs::read_to_string(root().unwrap().join("docs/json.md")).unwrap();
        let mut sections = Vec::new();
        for part in text.split("\n## ").skip(1) {
            let (heading, body) = part.split_once('\n').unwrap();
            if !body.contains("| key | type | meaning | missing |") {
                continue;
            }
            // "`charm watch`: `cell`" is one name, "`charm pause`, `charm resume`" are two.
            let names = heading.split(", ").map(|name| name.replace('`', "")).collect();
            let rows = body.lines().filter(|line| line.starts_with("| `")).map(|line| {
                let cells: Vec<&str> =
                    line.trim_end_matches('|').split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
                let [path, kind, meaning, missing] = cells[..] else { panic!("{heading}: {line}") };
                assert!(!meaning.is_empty(), "{heading}: {line}");
                Row { path: path.trim_matches('`').to_owned(), kind: kind.to_owned(), is_always: missing.is_empty() }
            });
            sections.push(Section { names, shape: body.lines().next().unwrap().to_owned(), rows: rows.collect() });
        }
        assert!(sections.len() > 20, "the tables are found");
        Page { text, sections, met: BTreeSet::new() }
    }

    fn section(&self, name: &str) -> usize {
        let found = self.sections.iter().position(|section| section.names.iter().any(|one| one == name));
        found.unwrap_or_else(|| panic!("docs/json.md has no table for {name}"))
    }

    /// Looks at what a command printed.
    #[track_caller]
    pub fn look(&mut self, name: &str, printed: &Value) {
        let section = self.section(name);
        let objects: Vec<&Value> = match printed {
            Value::Array(list) => list.iter().collect(),
            object => vec![object],
        };
        let shape = if printed.is_array() { "An array of" } else { "One object" };
        assert!(self.sections[section].shape.starts_with(shape), "{name}: {printed}");
        let mut wrong = Vec::new();
        for object in objects {
            let map = object.as_object().unwrap_or_else(|| panic!("{name}: {object}"));
            // A line of `watch` has the keys of its change too.
            let change = map.get("change").and_then(Value::as_str).filter(|_| name == WATCH);
            let change = change.filter(|change| !["listed", "anew"].contains(change));
            let sections: Vec<usize> = std::iter::once(section)
                .chain(change.map(|change| self.section(&format!("{WATCH}: {change}"))))
                .collect();
            self.object(&sections, "", map, &mut wrong);
        }
        assert!(wrong.is_empty(), "{name}: {wrong:#?}\n{printed}");
    }

    fn object(&mut self, sections: &[usize], prefix: &str, map: &Map<String, Value>, wrong: &mut Vec<String>) {
        for (key, value) in map {
            let path = format!("{prefix}{key}");
            let row = |section: &usize| self.sections[*section].rows.iter().find(|row| row.path == path);
            let Some((section, kind)) =
                sections.iter().find_map(|section| Some((*section, row(section)?.kind.clone())))
            else {
                wrong.push(format!("{path} is printed and not in the page"));
                continue;
            };
            if value.is_null() && kind.ends_with(" or null") {
                continue;
            }
            let kind = kind.trim_end_matches(" or null");
            let is_so = match kind {
                "value" => true,
                "integer" => value.is_u64() || value.is_i64(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "object" => value.is_object(),
                "word" => self.is_word(section, key, value),
                "list of objects" => value.as_array().is_some_and(|list| list.iter().all(Value::is_object)),
                "list of strings" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
                "list of words" => {
                    value.as_array().is_some_and(|list| list.iter().all(|word| self.is_word(section, key, word)))
                }
                kind => panic!("{path}: no type is named {kind}"),
            };
            if !is_so {
                wrong.push(format!("{path} is no {kind}: {value}"));
            }
            self.met.insert((section, path.clone()));
            let has_keys = |prefix: &str| self.sections[section].rows.iter().any(|row| row.path.starts_with(prefix));
            match value {
                Value::Object(inner) if kind == "object" && has_keys(&format!("{path}.")) => {
                    self.object(sections, &format!("{path}."), inner, wrong);
                }
                Value::Array(list) if kind == "list of objects" => {
                    for inner in list.iter().filter_map(Value::as_object) {
                        self.object(sections, &format!("{path}[]."), inner, wrong);
                    }
                }
                _ => {}
            }
        }
        let rows = sections.iter().flat_map(|section| &self.sections[*section].rows).filter(|row| row.is_always);
        for row in rows {
            if let Some(key) = row.path.strip_prefix(prefix).filter(|key| !key.contains('.'))
                && !map.contains_key(key)
            {
                wrong.push(format!("{} is always there, and is missing", row.path));
            }
        }
    }

    fn is_word(&self, section: usize, key: &str, value: &Value) -> bool {
        let is_listed = self.sections[section].names == ["charm ls CHARM"];
        let words =
            if key == "kind" && !is_listed { self.words("Errors", None) } else { self.words("Words", Some(key)) };
        assert!(!words.is_empty(), "no words for {key}");
        value.as_str().is_some_and(|word| words.contains(word))
    }

    /// Returns the words of the page in this section: those in the last column of the row of a key, or all in its first column.
    pub fn words(&self, heading: &str, key: Option<&str>) -> BTreeSet<String> {
        let section = self.text.split("\n## ").find(|part| part.lines().next() == Some(heading)).unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let rows = rows.map(|line| line.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>());
        let of_key = rows.filter(|row| key.is_none_or(|key| row[0].trim_matches('`') == key));
        let cells = of_key.map(|row| if key.is_some() { row[2] } else { row[0] });
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Looks whether every key of these sections, or of all but those of `elsewhere`, was met, but for exceptions with a reason.
    #[track_caller]
    pub fn is_met(&self, is_asked: impl Fn(&str) -> bool, exceptions: &[(&str, &str, &str)]) {
        let mut unmet = BTreeMap::new();
        for (number, section) in self.sections.iter().enumerate().filter(|(_, section)| is_asked(&section.names[0])) {
            for row in section.rows.iter().filter(|row| !self.met.contains(&(number, row.path.clone()))) {
                unmet.insert((section.names[0].as_str(), row.path.as_str()), ());
            }
        }
        for (section, path, why) in exceptions {
            assert!(unmet.remove(&(*section, *path)).is_some(), "{section}: {path} is met, and no exception: {why}");
        }
        assert!(unmet.is_empty(), "in docs/json.md, and never printed: {:#?}", unmet.keys());
    }
}
