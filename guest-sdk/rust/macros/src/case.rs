//! serde's rules for `rename_all`, letter by letter: what serde writes is what the shape has to name.

/// A style of names.
#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

use Style::*;

impl Style {
    /// The style of that name. None for one that serde does not know.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "lowercase" => Lower,
            "UPPERCASE" => Upper,
            "PascalCase" => Pascal,
            "camelCase" => Camel,
            "snake_case" => Snake,
            "SCREAMING_SNAKE_CASE" => ScreamingSnake,
            "kebab-case" => Kebab,
            "SCREAMING-KEBAB-CASE" => ScreamingKebab,
            _ => return None,
        })
    }

    /// The name of a variant: its words begin at capitals.
    pub fn variant(self, name: &str) -> String {
        match self {
            Pascal => name.to_owned(),
            Lower => name.to_ascii_lowercase(),
            Upper => name.to_ascii_uppercase(),
            Camel => first_lower(name),
            Snake => {
                let mut snake = String::new();
                for (at, letter) in name.char_indices() {
                    if at > 0 && letter.is_uppercase() {
                        snake.push('_');
                    }
                    snake.push(letter.to_ascii_lowercase());
                }
                snake
            }
            ScreamingSnake => Snake.variant(name).to_ascii_uppercase(),
            Kebab => Snake.variant(name).replace('_', "-"),
            ScreamingKebab => ScreamingSnake.variant(name).replace('_', "-"),
        }
    }

    /// The name of a field: its words are parted by underscores.
    pub fn field(self, name: &str) -> String {
        match self {
            Lower | Snake => name.to_owned(),
            Upper | ScreamingSnake => name.to_ascii_uppercase(),
            Pascal => {
                let mut pascal = String::new();
                let mut capital = true;
                for letter in name.chars() {
                    if letter == '_' {
                        capital = true;
                    } else if std::mem::take(&mut capital) {
                        pascal.push(letter.to_ascii_uppercase());
                    } else {
                        pascal.push(letter);
                    }
                }
                pascal
            }
            Camel => first_lower(&Pascal.field(name)),
            Kebab => name.replace('_', "-"),
            ScreamingKebab => ScreamingSnake.field(name).replace('_', "-"),
        }
    }
}

fn first_lower(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}
