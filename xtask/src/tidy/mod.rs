//! `cargo xtask tidy`: what compilers and linters cannot know of this project.
//!
//! The tables of what is allowed where are in `rules.rs`; each other file here is one kind of check, a pure function from
//! sources to findings.

mod documents;
mod manifests;
mod rules;
mod sizes;
mod source;
mod uses;

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::{progress::Progress, workspace::Workspace};
use source::Source;

/// Folders that hold nothing of ours.
const NOT_OURS: [&str; 3] = ["target", ".git", "node_modules"];
/// Documents that promise paths to their reader.
const DOCUMENTS: [&str; 2] = ["ARCHITECTURE.md", "README.md"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Error,
    Warning,
}

/// Printed as `path:line: message`, which editors and CI turn into a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// From 1.
    line: usize,
    severity: Severity,
    message: String,
}

impl Finding {
    fn error(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            severity: Severity::Error,
            message: message.into(),
        }
    }

    fn warning(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, line, message)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.severity == Severity::Warning {
            "warning: "
        } else {
            ""
        };
        write!(f, "{}:{}: {mark}{}", self.path, self.line, self.message)
    }
}

/// Prints the findings to stdout; exit code 1 if any is an error, 0 for warnings alone.
pub fn run(workspace: &Workspace, progress: &Progress) -> Result<ExitCode> {
    let files = files(&workspace.root)?;
    let findings = check(&workspace.root, &files)?;
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    progress.step(format!(
        "tidy: {} files, {errors} errors, {} warnings",
        files.len(),
        findings.len() - errors
    ));
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(root: &Path, files: &BTreeSet<String>) -> Result<Vec<Finding>> {
    let read = |path: &str| {
        fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
    };
    let mut findings = Vec::new();
    for path in files {
        if path.ends_with(".rs") {
            let source = Source::new(path, &read(path)?);
            findings.extend(uses::check(&source));
            findings.extend(sizes::check(&source));
        } else if path.ends_with("Cargo.toml") {
            findings.extend(manifests::check(path, &read(path)?));
        } else if DOCUMENTS.contains(&path.as_str()) {
            findings.extend(documents::check(path, &read(path)?, files));
        }
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// Paths relative to the root, with `/`.
fn files(root: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.path();
            if kind.is_dir() {
                if !NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                    folders.push(path);
                }
            } else {
                found.insert(path.strip_prefix(root)?.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_as_links() {
        assert_eq!(
            Finding::error("a/b.rs", 7, "no").to_string(),
            "a/b.rs:7: no"
        );
        assert_eq!(
            Finding::warning("a/b.rs", 7, "long").to_string(),
            "a/b.rs:7: warning: long"
        );
    }

    #[test]
    fn every_file_and_module_that_the_tables_name_belongs_to_a_crate_of_this_workspace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for path in rules::CALLS.iter().flat_map(|rule| rule.allowed_in) {
            let folder = path.split('/').next().unwrap();
            assert!(root.join(folder).join("Cargo.toml").is_file(), "{path}");
        }
    }
}
