//! Which crates depend on which.

use super::{
    Finding,
    rules::{self, Dependencies},
};

pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let Some(rule) = rules::CRATES.iter().find(|rule| rule.manifest == path) else {
        return Vec::new();
    };
    let allowed = |name: &str| match rule.dependencies {
        Dependencies::Only(names) => names.contains(&name),
        Dependencies::Never(names) => !names.contains(&name),
    };
    dependencies(text)
        .filter(|(_, name)| !allowed(name))
        .map(|(line, name)| {
            Finding::error(
                path,
                line,
                format!("must not depend on `{name}`: {}", rule.why),
            )
        })
        .collect()
}

/// Names in `[dependencies]` and `[target.….dependencies]`, and of `[dependencies.NAME]`, each with its line.
fn dependencies(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section == "dependencies"
                || (section.starts_with("target.") && section.ends_with(".dependencies"));
            return section
                .strip_prefix("dependencies.")
                .map(|name| (index + 1, name));
        }
        let name = line
            .split(['.', '=', ' '])
            .next()
            .unwrap_or_default()
            .trim_matches('"');
        (inside && !name.is_empty() && !name.starts_with('#')).then_some((index + 1, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"x\"\n[dependencies]\n# why\njiff.workspace = true\ntokio = { version = \"1\" }\n\
                            [target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n[dependencies.axum]\n[dev-dependencies]\nproptest = \"1\"\n";

    #[test]
    fn a_forbidden_dependency_is_found_with_its_line() {
        let found: Vec<_> = check("policy/Cargo.toml", MANIFEST)
            .iter()
            .map(|finding| (finding.line, finding.message.clone()))
            .collect();
        let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [6, 8, 9], "{found:?}");
        assert!(
            found[0].1.starts_with("must not depend on `tokio`"),
            "{found:?}"
        );
    }

    #[test]
    fn the_server_may_use_everything_but_the_filter() {
        assert!(check("xds-server/Cargo.toml", MANIFEST).is_empty());
        let found = check(
            "xds-server/Cargo.toml",
            "[dependencies]\nmumbai-mesh-filter.workspace = true\n",
        );
        assert_eq!(found.len(), 1);
    }
}
