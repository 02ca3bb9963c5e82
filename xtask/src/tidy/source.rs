//! A Rust source file as the checks see it: names and punctuation without comments and literals.
//!
//! Not a parser: it knows just enough to find paths, function bodies and code that only tests compile, and leaves what it
//! does not know alone.

use std::iter::Peekable;

/// One word or punctuation character of the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// From 1.
    pub line: usize,
    /// Part of an item under `#[cfg(test)]`, or of a file that only tests compile.
    pub in_test: bool,
}

impl Token {
    pub fn is_word(&self) -> bool {
        self.text
            .starts_with(|first: char| first.is_alphanumeric() || first == '_')
    }
}

pub struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    pub lines: usize,
    pub tokens: Vec<Token>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let mut tokens = tokens(text);
        let whole_file =
            path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/");
        if whole_file {
            tokens.iter_mut().for_each(|token| token.in_test = true);
        } else {
            mark_tests(&mut tokens);
        }
        Self {
            path: path.to_owned(),
            lines: text.lines().count(),
            tokens,
        }
    }

    /// The text of the token at `index`, or "" beyond the end.
    pub fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    /// Index of the bracket that closes the one at `open`, or of the last token.
    pub fn closing(&self, open: usize) -> usize {
        closing(&self.tokens, open)
    }
}

fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// Marks each item under a `#[cfg(… test …)]` that does not say `not`.
fn mark_tests(tokens: &mut [Token]) {
    let mut index = 0;
    while index < tokens.len() {
        let begins = tokens[index].text == "#"
            && tokens.get(index + 1).is_some_and(|token| token.text == "[");
        if !begins {
            index += 1;
            continue;
        }
        let attribute_end = closing(tokens, index + 1);
        let words: Vec<&str> = tokens[index..=attribute_end]
            .iter()
            .map(|token| token.text.as_str())
            .collect();
        let only_tests =
            words.get(2) == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not");
        let end = if only_tests {
            item_end(tokens, attribute_end + 1)
        } else {
            attribute_end
        };
        if only_tests {
            tokens[index..=end]
                .iter_mut()
                .for_each(|token| token.in_test = true);
        }
        index = end + 1;
    }
}

/// The `;` or closing brace with which the item that starts at `index` ends.
fn item_end(tokens: &[Token], mut index: usize) -> usize {
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            ";" => return index,
            "{" => return closing(tokens, index),
            "(" | "[" => index = closing(tokens, index) + 1,
            _ => index += 1,
        }
    }
    tokens.len().saturating_sub(1)
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = Cursor {
        chars: text.chars().peekable(),
        line: 1,
    };
    while let Some(first) = rest.peek() {
        let line = rest.line;
        let mut push = |text: String| {
            found.push(Token {
                text,
                line,
                in_test: false,
            });
        };
        if first.is_alphanumeric() || first == '_' {
            let word = rest.word();
            if rest.literal_follows(&word) {
                continue;
            }
            push(word);
            continue;
        }
        rest.next();
        match first {
            '/' if rest.peek() == Some('/') => rest.skip_line(),
            '/' if rest.peek() == Some('*') => rest.skip_block_comment(),
            '"' => rest.skip_string(),
            '\'' => rest.skip_character_or_lifetime(),
            ':' if rest.peek() == Some(':') => {
                rest.next();
                push("::".to_owned());
            }
            _ if first.is_whitespace() => {}
            _ => push(first.to_string()),
        }
    }
    found
}

struct Cursor<'t> {
    chars: Peekable<std::str::Chars<'t>>,
    line: usize,
}

impl Cursor<'_> {
    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.chars.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(letter) = self
            .peek()
            .filter(|letter| letter.is_alphanumeric() || *letter == '_')
        {
            word.push(letter);
            self.next();
        }
        word
    }

    /// Skips the literal to which `word` is the prefix (`b"…"`, `r#"…"#`, `c"…"`, `b'x'`); the `r#` of a raw identifier too.
    fn literal_follows(&mut self, word: &str) -> bool {
        let raw = matches!(word, "r" | "br" | "cr");
        match self.peek() {
            Some('"') if raw => self.skip_raw_string(0),
            Some('"') if matches!(word, "b" | "c") => {
                self.next();
                self.skip_string();
            }
            Some('\'') if word == "b" => {
                self.next();
                self.skip_character_or_lifetime();
            }
            Some('#') if raw => {
                let mut hashes = 0;
                while self.peek() == Some('#') {
                    self.next();
                    hashes += 1;
                }
                if self.peek() == Some('"') {
                    self.skip_raw_string(hashes);
                }
            }
            _ => return false,
        }
        true
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|letter| letter != '\n') {
            self.next();
        }
    }

    fn skip_block_comment(&mut self) {
        self.next();
        let mut depth = 1;
        while let Some(letter) = self.next().filter(|_| depth > 0) {
            match (letter, self.peek()) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => continue,
            }
            self.next();
            if depth == 0 {
                return;
            }
        }
    }

    /// The opening quote is behind us.
    fn skip_string(&mut self) {
        while let Some(letter) = self.next() {
            match letter {
                '"' => return,
                '\\' => {
                    self.next();
                }
                _ => {}
            }
        }
    }

    /// The opening quote is ahead.
    fn skip_raw_string(&mut self, hashes: usize) {
        self.next();
        while let Some(letter) = self.next() {
            if letter == '"' {
                let mut seen = 0;
                while seen < hashes && self.peek() == Some('#') {
                    self.next();
                    seen += 1;
                }
                if seen == hashes {
                    return;
                }
            }
        }
    }

    /// `'x'` and `'\n'` are literals, `'static` is a lifetime. The opening quote is behind us.
    fn skip_character_or_lifetime(&mut self) {
        match self.next() {
            Some('\\') => {
                self.next();
                while self.next().is_some_and(|letter| letter != '\'') {}
            }
            Some(letter) if self.peek() == Some('\'') => {
                debug_assert!(letter != '\\');
                self.next();
            }
            _ => {
                self.word();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Source::new("a.rs", text)
            .tokens
            .into_iter()
            .map(|token| token.text)
            .collect()
    }

    #[test]
    fn comments_and_literals_hold_no_code() {
        assert_eq!(words("a // x::y\n/* b /* c */ d */ e"), ["a", "e"]);
        assert_eq!(
            words(r##"f("x::y \" z", r#"a " b"#, b"q", 'c', '\'', '\u{1F}')"##),
            ["f", "(", ",", ",", ",", ",", ",", ")"]
        );
    }

    #[test]
    fn lifetimes_are_not_characters() {
        assert_eq!(
            words("fn f<'a>(x: &'a str) -> 'b'"),
            [
                "fn", "f", "<", ">", "(", "x", ":", "&", "str", ")", "-", ">"
            ]
        );
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let source = Source::new("a.rs", "\"one\ntwo\"\n/*\n*/ x");
        assert_eq!(source.tokens[0].line, 4);
    }

    #[test]
    fn items_under_cfg_test_are_marked() {
        let source = Source::new(
            "a.rs",
            "a; #[cfg(test)] #[x] mod tests { b; } c; #[cfg(not(test))] fn d() {}",
        );
        let tested: Vec<_> = source
            .tokens
            .iter()
            .filter(|token| token.in_test)
            .map(|token| token.text.as_str())
            .collect();
        assert!(
            tested.contains(&"b") && !tested.contains(&"c") && !tested.contains(&"d"),
            "{tested:?}"
        );
        assert!(Source::new("a/tests.rs", "b").tokens[0].in_test);
    }
}
