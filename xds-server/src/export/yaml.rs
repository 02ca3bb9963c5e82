//! Manifests as text.

use serde_json::Value;

/// First line of each file of ours: who finds it may replace or remove the file.
const FIRST: &str = "# Written by `mumbai-mesh export`: change the mesh file, and run it again.";

/// One file: comments, then one document or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its name in the folder; in one below, where `kubectl apply -f` of the folder does not take it along.
    pub name: &'static str,
    /// What a reader should know, line by line.
    pub comment: Vec<String>,
    /// What it says.
    pub documents: Vec<Value>,
    /// Whether it is for `kubectl apply`; else for another program, and no part of what goes there.
    pub is_applied: bool,
    /// Whether only its owner may read it.
    pub is_secret: bool,
}

/// A tree that YAML has no words for.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be written as YAML: {error}")]
pub struct UnwritableError {
    name: &'static str,
    error: serde_saphyr::ser::Error,
}

impl Manifest {
    /// For `kubectl apply`.
    pub(super) fn new(name: &'static str, documents: Vec<Value>) -> Self {
        Self {
            name,
            comment: Vec::new(),
            documents,
            is_applied: true,
            is_secret: false,
        }
    }

    /// With this comment at its head.
    pub(super) fn saying(mut self, lines: &[&str]) -> Self {
        self.comment = lines.iter().map(ToString::to_string).collect();
        self
    }

    /// The file as it is written.
    ///
    /// # Errors
    /// None for trees of ours.
    pub fn text(&self) -> Result<String, UnwritableError> {
        let comment = self.comment.iter().map(|line| format!("# {line}\n"));
        let mut text = format!("{FIRST}\n{}", comment.collect::<String>());
        let name = self.name;
        for (number, document) in self.documents.iter().enumerate() {
            if number > 0 {
                text += "---\n";
            }
            text += &yaml(document).map_err(|error| UnwritableError { name, error })?;
        }
        Ok(text)
    }
}

/// Texts that readers of YAML 1.1 (Kubernetes among them) would take for numbers, booleans or dates are
/// quoted; long ones stay in one line, so that who searches finds them.
pub(super) fn yaml(tree: &Value) -> Result<String, serde_saphyr::ser::Error> {
    let options = serde_saphyr::ser_options! {
        folded_wrap_chars: 1_000_000_000,
    };
    serde_saphyr::to_string_with_options(tree, options)
}

/// Whether a file was written by an export.
pub fn is_ours(text: &[u8]) -> bool {
    text.starts_with(FIRST.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_stay_texts() {
        let texts = [
            "80",
            "0x1f",
            "1e3",
            "1_000",
            "12:30",
            "true",
            "on",
            "no",
            "y",
            "null",
            "~",
            "",
            "2026-11-08",
            "- a",
            "a: b",
            "#",
            " a",
            "a ",
            "a\nb\n",
            "a\n\n",
            "\n a",
            "दीपावली",
            "%",
            "@x",
            "`",
            "*",
            "&",
            "!",
            "|",
            ">",
            "\"",
            "'",
            "{}",
            "[]",
            "a\tb",
            "\u{7f}",
            ".5",
            "0o7",
            "=",
            "<<",
            "{\"a\":\"b: c # d\"}",
            "a very long text that goes on and on, with  two spaces, beyond a hundred columns, and more",
        ];
        let tree = json!({"list": &texts[..], "keys": texts.iter().map(|text| ((*text).to_string(), json!(text)))
            .collect::<serde_json::Map<_, _>>()});
        let text = yaml(&tree).unwrap();
        assert_eq!(
            serde_saphyr::from_str::<Value>(&text).unwrap(),
            tree,
            "{text}"
        );
        for ambiguous in ["80", "on", "no", "y", "12:30", "2026-11-08", "1_000"] {
            assert!(
                text.contains(&format!("- \"{ambiguous}\"\n"))
                    || text.contains(&format!("- '{ambiguous}'\n")),
                "{ambiguous}: {text}"
            );
        }
    }

    #[test]
    fn a_file_begins_with_who_wrote_it() {
        let manifest =
            Manifest::new("a.yaml", vec![json!({"a": 1}), json!({"b": "1"})]).saying(&["why"]);
        let text = manifest.text().unwrap();
        assert!(is_ours(text.as_bytes()) && !is_ours(b"# Mine"));
        assert!(
            text.ends_with("# why\na: 1\n---\nb: \"1\"\n")
                || text.ends_with("# why\na: 1\n---\nb: '1'\n"),
            "{text}"
        );
    }
}
