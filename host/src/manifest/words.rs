//! What is wrong with the text of a manifest, in words of TOML and of the manifest: keys and kinds, never a value, which may
//! be a secret.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::text::{clip, nearest};

/// Longest key that is shown.
const KEY_BYTES_MAX: usize = 64;
/// Most of the keys that a table has.
const KEYS_BYTES_MAX: usize = 160;

/// Says where and why a text is not a manifest.
pub fn explain(text: &str, error: &toml::de::Error) -> String {
    let (start, end) = error.span().map_or((0, 0), |span| (span.start.min(text.len()), span.end.min(text.len())));
    let (before, at) = (text.get(..start).unwrap_or_default(), text.get(start..end).unwrap_or_default());
    format!("{}: {}", place(before), why(error.message(), key_of(before), at))
}

/// Finds a list or a date in the place of a table: a reader by types takes its parts for keys and values. Says where.
pub fn no_table(text: &str) -> Option<String> {
    fn of<'a>(table: &'a DeTable<'_>, key: &str) -> Option<&'a DeValue<'a>> {
        table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value.get_ref())
    }
    let root = DeTable::parse(text).ok()?;
    let wrong = |key: &str, value: &Spanned<DeValue<'_>>| {
        let found = match value.get_ref() {
            DeValue::Array(_) => "a list",
            DeValue::Datetime(_) => "a date",
            _ => return None,
        };
        let place = place(text.get(..value.span().start).unwrap_or_default());
        Some(format!("{place}: {}: a table is wanted, not {found}", clip(key, KEY_BYTES_MAX)))
    };
    let within = |table: &DeTable<'_>, key: &str| table.get_key_value(key).and_then(|(_, value)| wrong(key, value));
    if let Some(wrong) = within(root.get_ref(), "limits") {
        return Some(wrong);
    }
    let holders = ["charm", "outside"].into_iter().filter_map(|kind| of(root.get_ref(), kind)?.as_table());
    for (name, holder) in holders.flat_map(DeTable::iter) {
        if let Some(wrong) = wrong(name.get_ref(), holder) {
            return Some(wrong);
        }
        if let Some(wrong) = holder.get_ref().as_table().and_then(|table| within(table, "wishes")) {
            return Some(wrong);
        }
        for key in ["grant", "http"] {
            let list = holder.get_ref().as_table().and_then(|table| of(table, key)).and_then(DeValue::as_array);
            if let Some(wrong) = list.into_iter().flatten().find_map(|item| wrong(key, item)) {
                return Some(wrong);
            }
        }
    }
    None
}

fn place(before: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    format!("line {line}, column {column}")
}

fn why(message: &str, key: Option<&str>, at: &str) -> String {
    let about = |wrong: String| match key {
        Some(key) => format!("{}: {wrong}", clip(key, KEY_BYTES_MAX)),
        None => wrong,
    };
    if let Some((found, expected)) = mismatch(message) {
        // A date comes as a string or as a table.
        let is_date = ["a string", "a table"].contains(&found) && at.starts_with(|c: char| c.is_ascii_digit());
        return about(format!("{} is wanted, not {}", expected, if is_date { "a date" } else { found }));
    }
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    if message.starts_with("unknown field ") {
        let names = quoted(message);
        let (unknown, known) = names.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let meant = nearest(unknown, known.iter().copied()).map(|key| format!("; did you mean {key}?"));
        let (unknown, meant) = (clip(unknown, KEY_BYTES_MAX), meant.unwrap_or_default());
        return format!("unknown key {unknown}; keys here: {}{meant}", clip(&known.join(", "), KEYS_BYTES_MAX));
    }
    if message.starts_with("missing field ") {
        return format!("the key {} is missing", quoted(message).concat());
    }
    if message == "duplicate key" {
        return format!("{message} {}", clip(at.lines().next().unwrap_or_default(), KEY_BYTES_MAX));
    }
    message.to_owned()
}

/// Reads `invalid type: string "…", expected a sequence` as what was found and what is wanted.
fn mismatch(message: &str) -> Option<(&str, &str)> {
    let kind = ["invalid type: ", "invalid value: ", "invalid length "].iter();
    let rest = kind.filter_map(|start| message.strip_prefix(start)).next()?;
    // What was found may hold any text: what is wanted stands last.
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let found = match found.split(['"', '`']).next().unwrap_or_default().trim() {
        "string" | "character" => "a string",
        "integer" => "a whole number",
        "floating point" => "a number",
        "boolean" => "true or false",
        "map" => "a table",
        _ => "a list",
    };
    let expected = match expected.split(" with ").next().unwrap_or_default() {
        "u32" | "u64" | "usize" if found == "a whole number" => {
            return Some(("one below 0 or so large", "a whole number"));
        }
        "u32" | "u64" | "usize" => "a whole number",
        "a sequence" => "a list, like [..],",
        "a map" => "a table",
        "a boolean" => "true or false",
        "a string" | "path string" => "a string",
        _ => expected.rsplit_once(" with ").filter(|(_, end)| end.contains(" element")).map_or(expected, |(is, _)| is),
    };
    Some((found, expected))
}

/// Returns the key whose value, or the first of a list that is its value, begins where this text ends.
fn key_of(before: &str) -> Option<&str> {
    let before = before.trim_end_matches(['[', ' ', '\t', '\n']).strip_suffix('=')?;
    let start = before.rfind(['\n', '{', ',']).map_or(0, |at| at + 1);
    let key = before[start..].trim();
    (!key.is_empty()).then_some(key)
}
