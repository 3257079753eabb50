//! Text from guests, outsiders and files on its way to people: the one place that cleans and cuts it, for terminals,
//! logs, errors and receipts. Imports nothing but a bound.

use std::{borrow::Cow, path::Path};

use crate::limits::MESSAGE_BYTES_MAX;

/// Tells the characters that steer a terminal, end a line, turn the direction of the text around them, or are not seen
/// at all: with them a text looks like another than it is. They are shown as escapes wherever text of others is shown.
///
/// These are Unicode's control characters, its line and paragraph separators, its marks of direction, and all that it
/// calls default ignorable: joiners, variation selectors, fillers, tags, the soft hyphen. An emoji of several parts then
/// comes in parts, which is the smaller evil.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Writes what is not printable as an escape, like `\n` or `\u{202e}`.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    cleaned(text, usize::MAX)
}

/// As [`clean`], but looks at no more than this many characters.
fn cleaned(text: &str, chars_max: usize) -> Cow<'_, str> {
    if !text.chars().take(chars_max).any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::new();
    for c in text.chars().take(chars_max) {
        if is_unprintable(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// Cleans `text` and cuts it to at most `bytes_max` bytes at a character boundary.
pub(crate) fn clip(text: &str, bytes_max: usize) -> Cow<'_, str> {
    // One character more than could remain: the text is cut then, whatever follows.
    let clean = cleaned(text, bytes_max.saturating_add(1));
    if clean.len() <= bytes_max {
        return clean;
    }
    let mut end = bytes_max.saturating_sub('…'.len_utf8());
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…", &clean[..end]))
}

/// Returns which of these names someone may have meant who wrote `word`: the one that takes fewest letters to be added,
/// dropped, changed or swapped with the next, if those are few for its length.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer one is no name, and the work grows with the square.
    const CHARS_MAX: usize = 64;
    let word: Vec<char> = word.chars().take(CHARS_MAX + 1).collect();
    let few = |name: &str| (name.chars().count().max(word.len()) / 3).max(1);
    let distances = names.into_iter().filter(|name| name.len() <= CHARS_MAX && (1..=CHARS_MAX).contains(&word.len()));
    let distances = distances.map(|name| (distance(&word, &name.chars().collect::<Vec<_>>()), name));
    let near = distances.filter(|(distance, name)| *distance <= few(name)).min_by_key(|(distance, _)| *distance);
    near.map(|(_, name)| name)
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let changed = rows[i][j] + usize::from(from != to);
            let swapped = i > 0 && j > 0 && a[i - 1] == *to && b[j - 1] == *from;
            let swapped = if swapped { rows[i - 1][j - 1] + 1 } else { usize::MAX };
            row.push((rows[i][j + 1] + 1).min(row[j] + 1).min(changed).min(swapped));
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Returns a file's name for an error, cleaned; of a long one its end, which says most.
pub(crate) fn shown(file: &Path) -> String {
    const FILE_BYTES_MAX: usize = 512;
    let text = file.display().to_string();
    let mut start = text.len().saturating_sub(FILE_BYTES_MAX / 2);
    let text = if text.len() <= FILE_BYTES_MAX {
        text
    } else {
        while !text.is_char_boundary(start) {
            start += 1;
        }
        format!("…{}", &text[start..])
    };
    clip(&text, FILE_BYTES_MAX).into_owned()
}

/// Cuts the text of a receipt: to `MESSAGE_BYTES_MAX`, and so that the receipt stays below 2 KiB as JSON too, where
/// a quote and a backslash take two bytes (T7).
pub(crate) fn clip_message(text: &str) -> Cow<'_, str> {
    const JSON_BYTES_MAX: usize = 1_792;
    let text = clip(text, MESSAGE_BYTES_MAX);
    let json = |c: char| c.len_utf8() + usize::from(matches!(c, '"' | '\\'));
    if text.chars().map(json).sum::<usize>() <= JSON_BYTES_MAX {
        return text;
    }
    let cut = '…'.len_utf8();
    let (mut bytes, mut json_bytes) = (MESSAGE_BYTES_MAX - cut, JSON_BYTES_MAX - cut);
    let fits = |c: &char| {
        let left = bytes.checked_sub(c.len_utf8()).zip(json_bytes.checked_sub(json(*c)));
        left.map(|left| (bytes, json_bytes) = left).is_some()
    };
    let kept: String = text.chars().take_while(fits).collect();
    Cow::Owned(kept + "…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_shown_as_an_escape() {
        assert_eq!(clean("plain é 水 🦀 \"quoted\""), "plain é 水 🦀 \"quoted\"");
        assert_eq!(
            clean("a\nb\u{1b}[2J\u{85}\u{202e}\u{200b}\u{e0041}"),
            "a\\nb\\u{1b}[2J\\u{85}\\u{202e}\\u{200b}\\u{e0041}"
        );
        let hidden =
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{2066}\u{2069}\u{2028}\u{2029}\u{200d}\u{2060}\u{feff}\u{ad}\u{fe0f}";
        assert!(hidden.chars().all(is_unprintable));
    }

    #[test]
    fn the_nearest_name_is_what_was_meant_and_a_far_one_is_none() {
        let names = ["token", "refresh-token", "connect", "a"];
        for (word, meant) in [
            ("tokn", Some("token")),
            ("tokens", Some("token")),
            ("Token", Some("token")),
            ("otken", Some("token")),
            ("refresh_token", Some("refresh-token")),
            ("b", Some("a")),
            ("conect", Some("connect")),
            ("results", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), meant, "{word}");
        }
        assert_eq!(nearest("token", []), None);
        assert_eq!(nearest(&"t".repeat(1 << 20), names), None);
    }

    #[test]
    fn a_cut_text_fits_and_ends_with_an_ellipsis() {
        for text in ["x".repeat(100), "水".repeat(100), "\u{202e}".repeat(100), "\n".repeat(100)] {
            for bytes_max in [0, 1, 3, 4, 10, 50] {
                let cut = clip(&text, bytes_max);
                assert!(cut.len() <= bytes_max.max('…'.len_utf8()) && cut.ends_with('…'), "{cut}");
            }
        }
        assert_eq!(clip("short", 5), "short");
    }
}
