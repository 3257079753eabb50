//! Merges the texts of shapes: what `flatten`, a tag and other names make of two maps.

/// One alternative: the fields of a map, and what its other keys hold where it says so.
#[derive(Clone)]
struct Map<'text> {
    fields: Vec<&'text str>,
    rest: Option<&'text str>,
}

/// Every map of `own` with every map of `others`.
pub(super) fn merged(own: &str, others: &str, flat: bool) -> String {
    let (own, others) = (maps(own, false), maps(others, flat));
    let mut texts = Vec::new();
    for own in &own {
        for other in &others {
            let fields = own.fields.iter().chain(&other.fields).copied();
            let mut all: Vec<String> = fields.map(str::to_owned).collect();
            all.extend(own.rest.or(other.rest).map(|rest| format!("*: {rest}")));
            texts.push(format!("{{{}}}", all.join(", ")));
        }
    }
    texts.join(" | ")
}

fn maps(text: &str, flat: bool) -> Vec<Map<'_>> {
    let mut maps = Vec::new();
    for alternative in split(text, '|') {
        add(alternative, flat, &mut maps);
    }
    maps
}

/// Adds what one alternative is as a map.
fn add<'text>(text: &'text str, flat: bool, maps: &mut Vec<Map<'text>>) {
    let none = Map { fields: Vec::new(), rest: None };
    if let Some(inner) = text.strip_suffix('?') {
        add(inner, flat, maps);
        return maps.push(none);
    }
    if let Some(inner) = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        return maps.extend(self::maps(inner, flat));
    }
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(inner) => {
            let (mut fields, mut rest) = (Vec::new(), None);
            for field in split(inner, ',').into_iter().filter(|field| !field.is_empty()) {
                match field.strip_prefix("*:") {
                    Some(others) => rest = Some(others.trim()),
                    None => fields.push(field),
                }
            }
            // What is flattened lets pass what is not its own.
            maps.push(Map { fields, rest: rest.filter(|rest| !(flat && *rest == "never")) });
        }
        None if text == "any" || flat && text == "null" => maps.push(none),
        None if text == "null" => maps.push(Map { fields: Vec::new(), rest: Some("never") }),
        None => panic!(
            "the shape {text} is no map: only structs, maps and enums that carry fields can be flattened or tagged"
        ),
    }
}

/// The parts between the separators that stand in no bracket and no string, without white space around them.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            letter if letter == separator && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}
