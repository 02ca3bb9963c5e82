//! The rules of `analyze` as a document for people.

use std::fmt::Write as _;

use super::document::cell;
use crate::analyze::RULES;

/// `docs/analyze.md`.
pub fn rule_reference() -> String {
    let mut text = String::from(
        "# What `mumbai-mesh analyze` finds\n\n\
         `mumbai-mesh analyze FILE` reads a mesh file, or a folder of them, without asking a server. What makes the file\n\
         unusable has the code `invalid`, and the exit code is 65 then. All below is legal, and most likely not meant:\n\
         with an error or a warning the exit code is 79, with infos alone it is 0. Codes never change, so that scripts\n\
         may rely on them (`-o json`); `--at` looks at another time than now.\n\n\
         This page is printed by `mumbai-mesh analyze --rules`.\n\n\
         | code | severity | what is found | what to do |\n|---|---|---|---|\n",
    );
    for rule in RULES {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            rule.code,
            rule.severity.as_str(),
            cell(rule.finds),
            cell(rule.fix)
        );
    }
    text
}
