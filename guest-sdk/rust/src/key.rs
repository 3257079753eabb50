//! Keys of members of a family, as texts (C8).

use std::fmt::Write;

use crate::Did;

/// What the members of a [`Cells`](crate::Cells) are named by: a text for each key, and for each text one key or none.
///
/// The host lists members in the order of the bytes of these texts. For numbers that is their order: an unsigned one has as many
/// digits as its type's largest, a negative one is `-` and its distance from the smallest. Texts stand as they are, but for `/`,
/// `%` and control characters, which are written `%2F` as in a URL; so their order is that of the bytes but for those. A
/// name has at most 128 bytes, that of the family and `:` included.
///
/// # Examples
/// ```
/// use charm_sdk::{Key, prelude::*};
/// assert_eq!((7u8.text(), (-1i8).text(), true.text()), ("007".into(), "-127".into(), "true".into()));
/// assert_eq!("1/2 of 10%".text(), "1%2F2 of 10%25");
/// assert_eq!((u8::read("007"), u8::read("7"), String::read("a%2f")), (Some(7), None, None));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no member of a family",
    label = "a key is a `String`, a `Did`, a `bool` or an integer"
)]
pub trait Key {
    /// Adds its text.
    fn write(&self, to: &mut String);

    /// Returns the key that has this text, none when no key has it.
    fn read(text: &str) -> Option<Self>
    where
        Self: Sized;

    /// Returns its text.
    fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

/// Returns a key if this is how it is written.
fn exact<K: Key>(key: K, text: &str) -> Option<K> {
    (key.text() == text).then_some(key)
}

/// Writing to a `String` cannot fail.
fn add(to: &mut String, words: std::fmt::Arguments<'_>) {
    let _ = to.write_fmt(words);
}

impl Key for str {
    fn write(&self, to: &mut String) {
        for letter in self.chars() {
            if letter.is_control() || matches!(letter, '/' | '%') {
                let mut bytes = [0; 4];
                letter.encode_utf8(&mut bytes).bytes().for_each(|byte| add(to, format_args!("%{byte:02X}")));
            } else {
                to.push(letter);
            }
        }
    }
}

impl Key for String {
    fn write(&self, to: &mut String) {
        self.as_str().write(to);
    }

    fn read(text: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut parts = text.split('%');
        bytes.extend(parts.next()?.bytes());
        for part in parts {
            bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
            bytes.extend(part[2..].bytes());
        }
        exact(Self::from_utf8(bytes).ok()?, text)
    }
}

impl Key for Did {
    fn write(&self, to: &mut String) {
        to.push_str(self.as_str());
    }

    fn read(text: &str) -> Option<Self> {
        const BASE58: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
        let key = text.strip_prefix("did:key:z6Mk")?;
        (key.len() == 44 && key.chars().all(|digit| BASE58.contains(digit))).then(|| text.into())
    }
}

impl Key for bool {
    fn write(&self, to: &mut String) {
        to.push_str(if *self { "true" } else { "false" });
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

macro_rules! unsigned {
    ($($number:ty)*) => {$(
        impl Key for $number {
            fn write(&self, to: &mut String) {
                add(to, format_args!("{self:0width$}", width = <$number>::MAX.ilog10() as usize + 1));
            }

            fn read(text: &str) -> Option<Self> {
                exact(text.parse().ok()?, text)
            }
        }
    )*};
}

macro_rules! signed {
    ($($number:ty)*) => {$(
        impl Key for $number {
            fn write(&self, to: &mut String) {
                let width = <$number>::MAX.ilog10() as usize + 1;
                let sign = if *self < 0 { "-" } else { "" };
                // What a negative one is more than the smallest grows as it does.
                let digits = if *self < 0 { *self - <$number>::MIN } else { *self };
                add(to, format_args!("{sign}{digits:0width$}"));
            }

            fn read(text: &str) -> Option<Self> {
                let digits = text.trim_start_matches('-');
                let number: $number = digits.parse().ok()?;
                exact(if digits == text { number } else { number.checked_add(<$number>::MIN)? }, text)
            }
        }
    )*};
}

unsigned!(u8 u16 u32 u64);
signed!(i8 i16 i32 i64);

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered<K: Key + Ord + Clone + std::fmt::Debug>(mut keys: Vec<K>) {
        keys.sort();
        let texts: Vec<String> = keys.iter().map(Key::text).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        let read: Vec<Option<K>> = texts.iter().map(|text| K::read(text)).collect();
        assert_eq!(read, keys.into_iter().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn the_texts_of_numbers_are_ordered_as_they_are() {
        ordered::<u8>((0..=u8::MAX).collect());
        ordered::<i8>((i8::MIN..=i8::MAX).collect());
        ordered::<u64>(vec![0, 1, 9, 10, 1 << 40, u64::MAX - 1, u64::MAX]);
        ordered::<i64>(vec![i64::MIN, i64::MIN + 1, -10, -9, -1, 0, 1, 9, 10, i64::MAX]);
        ordered::<i32>(vec![i32::MIN, -1, 0, i32::MAX]);
        ordered(vec![false, true]);
    }

    #[test]
    fn only_the_text_of_a_key_is_read_as_it() {
        for text in ["7", "07", "0007", "+07", "-07", "256", " 07", "007 ", "", "0x7"] {
            assert_eq!(u8::read(text), None, "{text:?}");
        }
        for text in ["-128", "128", "--01", "-1", "-0127", "+001", "-", ""] {
            assert_eq!(i8::read(text), None, "{text:?}");
        }
        assert_eq!((i8::read("-000"), i8::read("-127"), i8::read("000")), (Some(i8::MIN), Some(-1), Some(0)));
        for text in ["a/b", "a%2f", "%41", "%", "%2", "%zz", "%+1", "\u{7}", "%C2%", "%FF", "%C3%A4"] {
            assert_eq!(String::read(text), None, "{text:?}");
        }
        for text in ["True", "1", ""] {
            assert_eq!(bool::read(text), None);
        }
        for text in ["did:key:z6Mk", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2do0", "me", ""] {
            assert_eq!(Did::read(text), None);
        }
        let did = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
        assert_eq!(Did::read(did).map(|did| did.text()).as_deref(), Some(did));
    }

    #[test]
    fn every_text_is_a_key_that_no_other_is_written_as() {
        let texts = ["", "a", "a/b", "a%2Fb", "%", "%25", "ä\u{85}", "tab\t", "a:b", "\u{10ffff}", "1 + 1"];
        let written: std::collections::BTreeSet<String> = texts.iter().map(|text| text.text()).collect();
        assert_eq!(written.len(), texts.len());
        assert!(written.iter().all(|text| !text.contains('/') && !text.contains(char::is_control)));
        texts.iter().for_each(|text| assert_eq!(String::read(&text.text()).as_deref(), Some(*text)));
    }
}
