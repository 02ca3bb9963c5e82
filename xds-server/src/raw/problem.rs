//! What is wrong, said so that a person or a program finds it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::mesh::Position;

/// A call with more bad resources has one cause, not a thousand: what follows is not looked at.
pub const PROBLEMS_MAX: usize = 100;

/// What is wrong with a call or a file, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(rename = "ResourceProblem")]
pub struct Problem {
    /// Which of `set`; none when it is about the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// `@type`, as far as known.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Box<str>>,
    /// The resource's name, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    /// `load_assignment.endpoints[0].priority`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Box<str>>,
    /// What is wrong.
    pub message: Box<str>,
    /// In the text as it was sent, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// In characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl Problem {
    /// Of the whole.
    pub fn new(message: impl Into<Box<str>>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    /// At a place.
    #[must_use]
    pub fn at(self, position: Position) -> Self {
        Self {
            line: Some(position.line),
            column: Some(position.column),
            ..self
        }
    }

    /// In a field.
    #[must_use]
    pub fn field(self, field: impl Into<Box<str>>) -> Self {
        let field = Some(field.into()).filter(|field| !field.is_empty());
        Self { field, ..self }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(index) = self.index {
            write!(formatter, "set[{index}] ")?;
        }
        if let Some(kind) = &self.kind {
            write!(formatter, "{} ", kind.rsplit('.').next().unwrap_or(kind))?;
        }
        if let Some(name) = &self.name {
            write!(formatter, "{name:?} ")?;
        }
        if let Some(field) = &self.field {
            write!(formatter, "{field}: ")?;
        }
        formatter.write_str(&self.message)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(formatter, " (line {line}, column {column})")?;
        }
        Ok(())
    }
}
