//! The table as a document for people.

use std::fmt::Write as _;

use super::{Field, Kind, Object, all_objects};

/// `docs/mesh-reference.md`.
pub fn mesh_reference() -> String {
    let mut text = String::from(
        "# Mesh file: reference\n\n\
         Every field of the mesh file. The README shows what belongs together and why; `mumbai-mesh schema` prints\n\
         the same as JSON Schema, with which editors complete and check, and `mumbai-mesh analyze` says what is wrong.\n\n\
         Names in capital letters stand for names of yours, `[]` for each element of a list. Durations are whole numbers,\n\
         each with its unit, the longest first: `250ms`, `5s`, `1m30s`, `1h`.\n\n\
         This page is printed by `mumbai-mesh schema --reference`.\n",
    );
    for (object, paths) in all_objects() {
        section(&mut text, object, &paths);
    }
    text
}

/// Writing to a String cannot fail.
fn section(text: &mut String, object: &Object, paths: &[String]) {
    let _ = write!(text, "\n## {}\n\n", object.name);
    let paths: Vec<String> = paths
        .iter()
        .filter(|path| !path.is_empty())
        .map(|path| format!("`{path}`"))
        .collect();
    if !paths.is_empty() {
        let _ = write!(text, "{}\n\n", paths.join(", "));
    }
    let _ = write!(text, "{}\n\n", object.says);
    text.push_str("| field | value | when left out | meaning |\n|---|---|---|---|\n");
    for field in object.fields {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            field.name,
            cell(&field.kind.words()),
            cell(&default_words(field)),
            cell(field.says)
        );
    }
}

fn default_words(field: &Field) -> String {
    match (field.required, field.default) {
        (true, _) => "**must be given**".into(),
        (false, Some(default)) => format!("`{default}`"),
        (false, None) => String::new(),
    }
}

/// A text as a cell of a table.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

impl Kind {
    /// What a value may be, in words.
    pub(super) fn words(&self) -> String {
        let listed = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        };
        match self {
            Self::Text(text) => text.what.into(),
            Self::Word(words) => listed(words),
            Self::Switch => listed(&["true", "false"]),
            Self::OnOff => listed(&["on", "off"]),
            Self::Whole(least, most) => format!("{least} to {most}"),
            Self::OneOf(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                numbers.join(", ")
            }
            Self::Number(least, most) => format!("{least} to {most}, at most 2 decimals"),
            Self::Duration(least, Some(most)) => format!("duration, {least} to {most}"),
            Self::Duration(least, None) => format!("duration, {least} or longer"),
            Self::Object(object) => {
                let anchor = object.name.to_lowercase().replace(' ', "-");
                format!("[{}](#{anchor})", object.name)
            }
            Self::List(element) => format!("list of: {}", element.words()),
            Self::Map(key, value) => format!("map from {} to: {}", key.what, value.words()),
            Self::Either(kinds) => {
                let kinds: Vec<String> = kinds.iter().map(Self::words).collect();
                kinds.join("; or ")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::reference::{json_schema, mesh_reference, rule_reference};

    #[test]
    fn the_documents_are_what_the_tables_say() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let schema = format!("{:#}\n", json_schema());
        let documents = [
            ("docs/mesh.schema.json", schema, "schema"),
            (
                "docs/mesh-reference.md",
                mesh_reference(),
                "schema --reference",
            ),
            ("docs/analyze.md", rule_reference(), "analyze --rules"),
        ];
        for (path, rendered, command) in documents {
            let written = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            assert!(
                written == rendered,
                "{path} is out of date: cargo run -p mumbai-mesh -- {command} > {path}"
            );
        }
    }
}
