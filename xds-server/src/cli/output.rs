//! Forms of an answer.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use clap::ValueEnum;
use serde_json::Value;

use crate::mesh::plain;

/// For people, or for programs.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
    Yaml,
}

/// Prints an answer; `table` makes it readable for people.
pub(super) fn show(
    answer: &Value,
    output: Output,
    table: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    match output {
        Output::Json => print(&format!("{answer:#}\n"))?,
        Output::Yaml => print(&serde_saphyr::to_string(answer)?)?,
        Output::Table => print(&table(answer))?,
    }
    Ok(())
}

/// Prints to stdout. Who reads it may have enough before its end (`| head`), which is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes());
    match printed.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Proxies say what they like of themselves; a terminal must not obey it.
pub(super) fn printable(text: &str) -> String {
    let visible: String = text
        .chars()
        .map(|character| match character.is_control() {
            true => '\u{fffd}',
            false => character,
        })
        .collect();
    plain(&visible).into_owned()
}

/// Each column as wide as its widest cell.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut shown = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        shown += line.trim_end();
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nobody_and_no_line_is_turned() {
        assert_eq!(printable("a\u{1b}[2J\n"), "a\u{fffd}[2J\u{fffd}");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable("x متجر"), "x \u{2068}متجر\u{2069}");
    }
}
