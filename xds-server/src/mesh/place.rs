//! Where in which file something stands, and problems that say so.

use std::{
    borrow::Cow,
    fmt::{self, Display, Write as _},
};

use policy::reader::Problem;
use schemars::JsonSchema;
use serde::Serialize;

/// A place in a text, as editors count: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column within the line.
    pub column: usize,
}

impl Position {
    /// Where a text begins.
    pub const BEGIN: Self = Self { line: 1, column: 1 };
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Place {
    pub(super) fn new(file: &str, at: Position) -> Self {
        Self {
            file: file.to_string(),
            line: at.line,
            column: at.column,
        }
    }

    /// Where a byte of a text that is no UTF-8 stands: `before` is the part that is.
    pub fn after(file: &str, before: &str) -> Self {
        let line_begin = before.rfind('\n').map_or(0, |at| at + 1);
        let at = Position {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_begin..].chars().count() + 1,
        };
        Self::new(file, at)
    }
}

/// `mesh.yaml:12:7`, which editors and terminals make a link of.
impl Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line, column) = (plain(&self.file), self.line, self.column);
        write!(formatter, "{file}:{line}:{column}")
    }
}

/// A problem of mesh files. It has no place when no file says anything there: what is wrong with the
/// environment, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshProblem {
    /// Where it is.
    pub place: Option<Place>,
    /// What it is.
    pub problem: Problem,
}

impl From<Problem> for MeshProblem {
    fn from(problem: Problem) -> Self {
        Self {
            place: None,
            problem,
        }
    }
}

impl Display for MeshProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(formatter, "{place}: ")?;
        }
        formatter.write_str(&plain(&self.problem.to_string()))
    }
}

/// Begins what has a direction of its own (FIRST STRONG ISOLATE).
const ISOLATE: char = '\u{2068}';
/// Ends it (POP DIRECTIONAL ISOLATE).
const ISOLATE_END: char = '\u{2069}';

/// A text of strangers as it may stand in a line on a terminal: what would move the cursor, hide itself
/// or turn the line's direction is escaped. Words from right to left stay readable, and turn nothing but
/// themselves: isolates enclose them.
pub fn plain(text: &str) -> Cow<'_, str> {
    let is_safe = |character| !is_disturbing(character) && !is_right_to_left(character);
    if text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        // Writing to a String cannot fail.
        if let Some((words, behind)) = right_to_left(rest) {
            let _ = write!(safe, "{ISOLATE}{words}{ISOLATE_END}");
            rest = behind;
            continue;
        }
        if is_disturbing(character) {
            let _ = write!(safe, "{}", character.escape_unicode());
        } else {
            safe.push(character);
        }
        rest = &rest[character.len_utf8()..];
    }
    Cow::Owned(safe)
}

/// The words from right to left with which a text begins, and what follows them. They may be enclosed already: what
/// a server made plain is made so again by who shows it.
fn right_to_left(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix(ISOLATE).unwrap_or(text);
    if !inner.starts_with(is_right_to_left) {
        return None;
    }
    let end = inner.find(|character| character != ' ' && !is_right_to_left(character));
    let words = inner[..end.unwrap_or(inner.len())].trim_end_matches(' ');
    let behind = &inner[words.len()..];
    match inner.len() == text.len() {
        true => Some((words, behind)),
        false => Some((words, behind.strip_prefix(ISOLATE_END)?)),
    }
}

fn is_right_to_left(character: char) -> bool {
    let of_such_scripts = matches!(character,
        '\u{0590}'..='\u{08FF}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFF}'
        | '\u{10800}'..='\u{10FFF}' | '\u{1E800}'..='\u{1EFFF}');
    of_such_scripts && !is_disturbing(character)
}

fn is_disturbing(character: char) -> bool {
    // Marks, joiners, embeddings, isolates, line and paragraph separators, tags. Hindi needs the two
    // joiners, and a name that holds them is no less readable.
    let invisible = matches!(character,
        '\u{00AD}' | '\u{061C}' | '\u{200B}' | '\u{200E}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}');
    character.is_control() || invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_or_hides_a_line_is_escaped_and_hindi_is_not() {
        assert_eq!(plain("दीवाली में"), "दीवाली में");
        assert_eq!(plain("a\u{202E}b"), "a\\u{202e}b");
        assert_eq!(plain("\u{1b}[2Ja\r\nb"), "\\u{1b}[2Ja\\u{d}\\u{a}b");
        assert_eq!(
            plain("a\u{61C}\u{FEFF}\u{2067}b"),
            "a\\u{61c}\\u{feff}\\u{2067}b"
        );
    }

    #[test]
    fn words_from_right_to_left_are_readable_and_turn_nothing_else() {
        assert_eq!(plain("متجر"), "\u{2068}متجر\u{2069}");
        assert_eq!(
            plain("festival عيد الفطر (x2.0), متجر:3"),
            "festival \u{2068}عيد الفطر\u{2069} (x2.0), \u{2068}متجر\u{2069}:3"
        );
        let once = plain("a متجر:1").into_owned();
        assert_eq!(plain(&once), once);
        // Nobody ends what was begun.
        assert_eq!(
            plain("متجر\u{2069}\u{202E}a"),
            "\u{2068}متجر\u{2069}\\u{2069}\\u{202e}a"
        );
        assert_eq!(
            plain("\u{2068}متجر a\u{2069}"),
            "\\u{2068}\u{2068}متجر\u{2069} a\\u{2069}"
        );
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let place = |before: &str| Place::after("mesh.yaml", before).to_string();
        assert_eq!(place(""), "mesh.yaml:1:1");
        assert_eq!(place("a: 1\nदी: "), "mesh.yaml:2:5");
    }
}
