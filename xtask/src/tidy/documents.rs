//! Paths that a document promises: in `backticks`, and as the target of a link.

use std::collections::BTreeSet;

use super::Finding;

/// Without a slash, only these ends make a word a file name.
const EXTENSIONS: [&str; 10] = [
    "rs", "toml", "md", "yaml", "yml", "json", "sh", "lock", "proto", "py",
];
/// First parts of names with slashes that are no paths: time zones and media types.
const NOT_FOLDERS: [&str; 14] = [
    "Africa",
    "America",
    "Antarctica",
    "Asia",
    "Atlantic",
    "Australia",
    "Etc",
    "Europe",
    "Indian",
    "Pacific",
    "application",
    "text",
    "image",
    "target",
];

/// Reports each promised path that is not among `files` (relative to the root, as the documents are), file or folder.
pub fn check(path: &str, text: &str, files: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let spans = line
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|span| is_path(span));
            let missing = spans
                .chain(links(line))
                .filter(|promised| !exists(promised, files));
            findings.extend(
                missing.map(|name| {
                    Finding::error(path, index + 1, format!("`{name}` does not exist"))
                }),
            );
        }
    }
    findings
}

/// Targets of `[text](target)` that lie in this repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

fn is_path(span: &str) -> bool {
    let plain = span
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let mut parts = span.trim_end_matches('/').split('/');
    let first = parts.next().unwrap_or_default();
    // `/services` is a URL's path, `DIR/envoy.yaml` and `10.0.0.0/8` are examples, `2/3` is a number.
    let placeholder =
        |part: &str| !part.chars().any(|c| c.is_ascii_lowercase()) && !part.starts_with('.');
    if !plain
        || first.is_empty()
        || NOT_FOLDERS.contains(&first)
        || (span.contains('/') && placeholder(first))
    {
        return false;
    }
    span.contains('/')
        || span
            .rsplit_once('.')
            .is_some_and(|(name, end)| !name.is_empty() && EXTENSIONS.contains(&end))
}

/// A bare file name may be anywhere; a path starts at the root.
fn exists(promised: &str, files: &BTreeSet<String>) -> bool {
    let promised = promised.trim_start_matches("./");
    if !promised.contains('/') {
        return files.iter().any(|file| {
            file.rsplit('/').next() == Some(promised) || file.split('/').next() == Some(promised)
        });
    }
    let folder = format!("{}/", promised.trim_end_matches('/'));
    files.contains(promised)
        || files
            .range(folder.clone()..)
            .next()
            .is_some_and(|file| file.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<(usize, String)> {
        let files = [
            "README.md",
            "policy/src/units.rs",
            "envoy/examples/one/envoy.yaml",
            ".ci/run",
        ];
        let files = files.map(str::to_owned).into_iter().collect();
        check("README.md", text, &files)
            .into_iter()
            .map(|finding| (finding.line, finding.message))
            .collect()
    }

    #[test]
    fn promised_paths_that_do_not_exist_are_found() {
        let text = "See `policy/src/units.rs`,\n`policy/src/gone.rs` and `gone.toml`, `envoy/gone/`, [this](docs/gone.md#part).";
        let found = missing(text);
        let names: Vec<_> = found
            .iter()
            .map(|(line, message)| (*line, message.split('`').nth(1).unwrap()))
            .collect();
        assert_eq!(
            names,
            [
                (2, "policy/src/gone.rs"),
                (2, "gone.toml"),
                (2, "envoy/gone/"),
                (2, "docs/gone.md")
            ]
        );
    }

    #[test]
    fn what_exists_or_is_no_path_is_left_alone() {
        let text = "`policy/`, `policy`, `envoy/examples/`, `.ci/run`, `units.rs`, [here](./README.md), [web](https://a.b/c.md)\n\
                    `target/mumbai_mesh.wasm` `https://x/y.md` `envoy/*/envoy.yaml` `cargo xtask test` `/api/metrics` `Asia/Kolkata`\n\
                    `application/json` `DIR/envoy.yaml` `10.0.0.0/8` `x-mumbai-reason` `envoy -c a/b.yaml` `{a}/b.yaml` `order-service`\n\
                    ```\n`gone/in/example.rs`\n```\n";
        assert_eq!(missing(text), []);
    }
}
