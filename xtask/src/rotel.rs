//! `cargo xtask rotel`: a stock rotel of the pinned version, an OTLP collector to which Envoys send spans in tests.

use crate::tool::Tool;

/// The Python package `rotel` holds the collector's own binary; this version needs glibc 2.17 and nothing else, later
/// ones a certain Python.
pub const ROTEL: Tool = Tool {
    name: "rotel",
    program: "rotel-agent",
    variable: "ROTEL_BIN",
    version: "0.0.1-alpha1",
    version_flag: "--version",
    read_version,
    package: ("rotel", "0.0.1a8"),
    files: &[(
        "x86_64",
        "1f46581987ab0e4571b8deaeb271d656d6ae07398ae01169249a0ce73b65eae7",
    )],
    member: "rotel/rotel-agent",
};

/// From `rotel 0.0.1-alpha1`.
fn read_version(said: &str) -> Option<String> {
    said.trim().strip_prefix("rotel ").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_rotel_prints() {
        assert_eq!(
            read_version("rotel 0.0.1-alpha1\n").as_deref(),
            Some("0.0.1-alpha1")
        );
        assert_eq!(read_version("no such flag"), None);
    }
}
