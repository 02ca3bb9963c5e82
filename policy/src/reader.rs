//! Reads a JSON tree field by field and collects *all* problems, each with its path: whoever wrote
//! the file sees everything at once. Used for the filter's configuration and for the mesh file.
//!
//! Marked `#[cold]`: what runs once for a configuration should take little of a filter's size, not of
//! its time.

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    fmt::{self, Display},
    ops::RangeInclusive,
};

use serde_json::{Map, Value};

/// One thing that is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From the root, e.g. `services.order-service.canary.weight` or `windows[2].start`. Empty for
    /// the whole.
    pub path: String,
    /// What is wrong, with the legal range.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a field that is written with nothing behind it, where that does not mean that it is absent.
pub const NO_VALUE: &str = "has no value";
/// What to do about it.
pub const NO_VALUE_HINT: &str =
    "is the file cut off? Write a value, {} or [] for an empty one, or leave it out";

/// How many problems are told; a file with more has one cause, not a hundred.
const PROBLEMS_MAX: usize = 100;
/// How much of a text is repeated in a problem.
const SHOWN_MAX: usize = 80;

/// The problems of one tree, in the order in which they were found. At most 100, then one that says
/// that there are more.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that was found.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }

    fn push(&self, problem: Problem) {
        let mut problems = self.0.borrow_mut();
        match problems.len() {
            0..PROBLEMS_MAX => problems.push(problem),
            PROBLEMS_MAX => problems.push(Problem {
                path: String::new(),
                message: "… and more".into(),
                hint: None,
            }),
            _ => {}
        }
    }
}

/// One value of the tree and its path. Every method that finds the value wrong reports it and gives
/// `None`.
#[derive(Debug, Clone)]
pub struct Reader<'v> {
    value: &'v Value,
    path: String,
    problems: &'v Problems,
}

impl<'v> Reader<'v> {
    /// The whole tree.
    pub fn root(value: &'v Value, problems: &'v Problems) -> Self {
        Self {
            value,
            path: String::new(),
            problems,
        }
    }

    /// The path from the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value itself, for shapes that have several forms.
    pub fn value(&self) -> &'v Value {
        self.value
    }

    /// Reports a problem of this value.
    pub fn problem(&self, message: impl Into<String>, hint: Option<String>) {
        self.problem_at(&self.path, message, hint);
    }

    /// Reports a problem of another place of the same tree.
    #[cold]
    pub fn problem_at(&self, path: &str, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(Problem {
            path: path.to_string(),
            message: message.into(),
            hint,
        });
    }

    /// How many problems of the tree were found so far: what could not be read is no reason for further
    /// ones.
    pub fn found(&self) -> usize {
        self.problems.0.borrow().len()
    }

    /// The fields of an object.
    #[cold]
    pub fn object(&self) -> Option<ObjectReader<'v>> {
        match self.value {
            Value::Object(fields) => Some(ObjectReader {
                reader: self.clone(),
                fields,
                known: Vec::new(),
                refused: Vec::new(),
            }),
            _ => self.expected("an object"),
        }
    }

    /// A text.
    #[cold]
    pub fn string(&self) -> Option<&'v str> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Number(number) => {
                self.problem(
                    format!("must be a text, not the number {number}"),
                    Some("put it in quotes: without them YAML takes it for a number".into()),
                );
                None
            }
            Value::Bool(is) => {
                self.problem(
                    format!("must be a text, not {is}"),
                    Some("put it in quotes: without them YAML takes y, yes, on, n, no and off for true and false".into()),
                );
                None
            }
            _ => self.expected("a text"),
        }
    }

    /// A text that `parse` understands.
    pub fn parsed<T, E: Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        parse(self.string()?)
            .map_err(|error| self.problem(error.to_string(), None))
            .ok()
    }

    /// A whole number within `range`. `5.0` is one: some tools turn every number into a double.
    #[cold]
    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let Value::Number(number) = self.value else {
            return self.expected("a whole number");
        };
        let whole = number.as_i64().or_else(|| number.as_f64().and_then(whole));
        let legal = whole.filter(|whole| range.contains(whole));
        if legal.is_none() {
            let (start, end) = (range.start(), range.end());
            self.problem(
                format!("must be a whole number from {start} to {end}, not {number}"),
                None,
            );
        }
        legal
    }

    /// A number within `range`.
    #[cold]
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let Value::Number(number) = self.value else {
            return self.expected("a number");
        };
        let legal = number.as_f64().filter(|value| range.contains(value));
        if legal.is_none() {
            let (start, end) = (range.start(), range.end());
            self.problem(
                format!("must be a number from {start} to {end}, not {number}"),
                None,
            );
        }
        legal
    }

    /// `true` or `false`.
    #[cold]
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(*value),
            _ => self.expected("true or false"),
        }
    }

    /// The elements of a list; none when it is no list.
    #[cold]
    pub fn array(&self) -> Vec<Reader<'v>> {
        let Value::Array(elements) = self.value else {
            return self.expected("a list").unwrap_or_default();
        };
        let element = |(index, value): (usize, &'v Value)| Self {
            value,
            path: format!("{}[{index}]", self.path),
            problems: self.problems,
        };
        elements.iter().enumerate().map(element).collect()
    }

    /// The entries of a map whose keys the author chooses; none when it is no map.
    #[cold]
    pub fn entries(&self) -> Vec<(String, Reader<'v>)> {
        let Value::Object(fields) = self.value else {
            return self.expected("a map of names").unwrap_or_default();
        };
        fields
            .iter()
            .map(|(key, value)| (key.clone(), self.child(key, value)))
            .collect()
    }

    /// As [`entries`](Self::entries), ordered by key: where the author's order means nothing.
    #[cold]
    pub fn sorted_entries(&self) -> Vec<(String, Reader<'v>)> {
        let mut entries = self.entries();
        entries.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        entries
    }

    #[cold]
    fn child(&self, key: &str, value: &'v Value) -> Self {
        Self {
            value,
            path: self.child_path(key),
            problems: self.problems,
        }
    }

    #[cold]
    fn child_path(&self, key: &str) -> String {
        joined(&self.path, key)
    }

    /// Reports that something else stands here.
    #[cold]
    fn expected<T>(&self, what: &str) -> Option<T> {
        match self.value {
            Value::Null => self.problem(NO_VALUE, Some(NO_VALUE_HINT.into())),
            other => self.problem(format!("must be {what}, not {}", description(other)), None),
        }
        None
    }
}

/// An object whose fields are taken one by one; [`finish`](Self::finish) reports those that nobody
/// knows. A field that is `null` counts as absent.
#[derive(Debug)]
pub struct ObjectReader<'v> {
    reader: Reader<'v>,
    fields: &'v Map<String, Value>,
    known: Vec<String>,
    refused: Vec<String>,
}

impl<'v> ObjectReader<'v> {
    /// A field that must be there.
    #[cold]
    pub fn required(&mut self, field: &str) -> Option<Reader<'v>> {
        let found = self.optional(field);
        if found.is_none() {
            self.missing(field, None);
        }
        found
    }

    /// Reports that a field must be given, where it is not there; or that it has no value, where it is.
    #[cold]
    pub fn missing(&self, field: &str, hint: Option<String>) {
        if self.fields.contains_key(field) {
            let hint = hint.unwrap_or_else(|| "it must be given: write its value".into());
            self.problem(field, NO_VALUE, Some(hint));
        } else {
            self.problem(field, "must be given", hint);
        }
    }

    /// A field that may be left out.
    #[cold]
    pub fn optional(&mut self, field: &str) -> Option<Reader<'v>> {
        if !self.known.iter().any(|known| known == field) {
            self.known.push(field.to_string());
        }
        let value = self.fields.get(field).filter(|value| !value.is_null())?;
        Some(self.reader.child(field, value))
    }

    /// Refuses fields that will mean something one day, `null` or not: better than to ignore them in
    /// silence.
    #[cold]
    pub fn not_supported(&mut self, fields: &[&str]) {
        for field in fields {
            if self.fields.contains_key(*field) {
                self.problem(field, "not supported yet", Some("leave it out".into()));
            }
            self.refused.push((*field).to_string());
        }
    }

    /// Reports a problem of a field, whether it is there or not.
    pub fn problem(&self, field: &str, message: impl Into<String>, hint: Option<String>) {
        let path = self.reader.child_path(field);
        self.reader.problem_at(&path, message, hint);
    }

    /// Reports every field that was neither taken nor refused.
    #[cold]
    pub fn finish(self) {
        let expected = |field: &&String| self.known.contains(field) || self.refused.contains(field);
        for field in self.fields.keys().filter(|field| !expected(field)) {
            let message = format!("unknown field {:?}", shown(field));
            self.problem(field, message, Some(self.suggestion(field)));
        }
    }

    fn suggestion(&self, wrong: &str) -> String {
        let closest = self
            .known
            .iter()
            .map(|known| {
                (
                    strsim::jaro_winkler(&wrong.to_ascii_lowercase(), known),
                    known,
                )
            })
            .max_by(|left, right| left.0.total_cmp(&right.0))
            .filter(|(likeness, _)| *likeness > 0.8);
        match closest {
            Some((_, known)) => format!("did you mean {known:?}?"),
            None => format!("known fields: {}", self.known.join(", ")),
        }
    }
}

/// The whole number that a double stands for. Doubles tell whole numbers apart up to 2^53.
fn whole(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() != 0.0 || number.abs() > EXACT_MAX {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    let whole = number as i64;
    Some(whole)
}

fn description(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {:?}", shown(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// The path of a field: that of its object, a dot, its key as far as it is [shown](shown()).
pub fn joined(path: &str, key: &str) -> String {
    let key = shown(key);
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// A text as it is repeated in problems and paths, which stay readable however long it is.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_string(),
    }
}
