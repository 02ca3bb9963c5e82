//! Which modules, crates and calls each source file uses, against the tables in `rules.rs`.

use super::{
    Finding, rules,
    source::{Source, Token},
};

/// One path of the code, such as `crate::mesh::Mesh` or `env::var`.
struct Use<'s> {
    segments: Vec<&'s str>,
    first: &'s Token,
}

pub fn check(source: &Source) -> Vec<Finding> {
    let uses = uses(source);
    let mut findings = modules(source, &uses);
    findings.extend(calls(source, &uses));
    findings
}

fn modules(source: &Source, uses: &[Use<'_>]) -> Vec<Finding> {
    let Some(rule) = rules::MODULES
        .iter()
        .find(|rule| lies_in(&source.path, rule.module))
    else {
        return Vec::new();
    };
    let own = rule.module.rsplit('/').next().unwrap_or_default();
    let here = module_path(&source.path);
    let mut findings = Vec::new();
    for found in uses.iter().filter(|found| !found.first.in_test) {
        let message = match local(&here, &found.segments) {
            Some(module) => rule
                .may_use
                .filter(|allowed| module != own && !allowed.contains(&module))
                .map(|allowed| {
                    format!(
                        "`{own}` must not use `crate::{module}` ({})",
                        permitted(allowed)
                    )
                }),
            None => rule
                .never
                .iter()
                .find(|never| starts_with(&found.segments, never))
                .map(|never| format!("`{own}` must not use `{never}`: {}", rule.why)),
        };
        findings
            .extend(message.map(|message| Finding::error(&source.path, found.first.line, message)));
    }
    findings
}

fn permitted(allowed: &[&str]) -> String {
    if allowed.is_empty() {
        return "it uses no other module of its crate".to_owned();
    }
    format!(
        "only {}; arrows between modules run one way",
        allowed.join(", ")
    )
}

fn lies_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// `xds-server/src/mesh/read.rs` -> `["mesh", "read"]`
fn module_path(path: &str) -> Vec<&str> {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
    let mut segments: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    if matches!(segments.last(), Some(&("mod" | "lib" | "main"))) {
        segments.pop();
    }
    segments
}

/// The top-level module of our own crate to which the path leads; `None` for other crates, types and local names.
fn local<'s>(here: &[&'s str], segments: &[&'s str]) -> Option<&'s str> {
    let (&first, rest) = segments.split_first()?;
    let absolute: Vec<&str> = match first {
        "crate" => rest.to_vec(),
        "self" => [here, rest].concat(),
        "super" => {
            let ups = segments
                .iter()
                .take_while(|segment| **segment == "super")
                .count();
            [&here[..here.len().saturating_sub(ups)], &segments[ups..]].concat()
        }
        _ => return None,
    };
    absolute
        .first()
        .copied()
        .filter(|module| module.starts_with(|first: char| first.is_ascii_lowercase()))
}

fn starts_with(segments: &[&str], prefix: &str) -> bool {
    let mut segments = segments.iter();
    prefix
        .split("::")
        .all(|part| segments.next() == Some(&part))
}

fn calls(source: &Source, uses: &[Use<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in rules::CALLS
        .iter()
        .filter(|rule| !allowed(&source.path, rule))
    {
        let mut report = |token: &Token, call: &str| {
            if rule.in_tests || !token.in_test {
                findings.push(Finding::error(
                    &source.path,
                    token.line,
                    format!("`{call}` here: {}", rule.why),
                ));
            }
        };
        for call in rule.calls {
            let parts: Vec<&str> = call.split("::").collect();
            if let [name] = parts[..] {
                // A bare name may be a method, which is no path.
                source
                    .tokens
                    .iter()
                    .filter(|token| token.text == name)
                    .for_each(|token| report(token, call));
            } else {
                let found = uses.iter().filter(|found| {
                    found
                        .segments
                        .windows(parts.len())
                        .any(|window| window == parts)
                });
                found.for_each(|found| report(found.first, call));
            }
        }
    }
    findings
}

fn allowed(path: &str, rule: &rules::CallRule) -> bool {
    rule.allowed_in
        .iter()
        .any(|place| path == *place || (place.ends_with('/') && path.starts_with(place)))
}

fn uses(source: &Source) -> Vec<Use<'_>> {
    let mut found = Vec::new();
    let mut index = 0;
    while let Some(token) = source.tokens.get(index) {
        if token.text == "use" {
            let end = tree(source, index + 1, &[], &mut found);
            index = end.max(index + 1);
        } else if begins_path(source, index) {
            let (segments, next) = segments(source, index);
            if segments.len() > 1 {
                found.push(Use {
                    segments,
                    first: token,
                });
            }
            index = next;
        } else {
            index += 1;
        }
    }
    found
}

/// A word that neither continues a path nor names a field or method.
fn begins_path(source: &Source, index: usize) -> bool {
    let Some(token) = source.tokens.get(index) else {
        return false;
    };
    let before = |back: usize| index.checked_sub(back).map_or("", |at| source.text(at));
    let continues = before(1) == "::"
        && (before(2) == ">" || before(2).starts_with(|c: char| c.is_alphanumeric() || c == '_'));
    token.is_word() && before(1) != "." && !continues
}

/// The words joined by `::` from `index` on, and the index after them.
fn segments(source: &Source, mut index: usize) -> (Vec<&str>, usize) {
    let mut segments = Vec::new();
    while let Some(token) = source.tokens.get(index).filter(|token| token.is_word()) {
        segments.push(token.text.as_str());
        index += 1;
        if source.text(index) != "::" {
            break;
        }
        index += 1;
    }
    (segments, index)
}

/// Reads one tree of a `use` declaration: `a::b`, `a::{b, c::d}`, `a::*`, `a as b`. Returns the index after it.
fn tree<'s>(
    source: &'s Source,
    index: usize,
    prefix: &[&'s str],
    found: &mut Vec<Use<'s>>,
) -> usize {
    let index = if source.text(index) == "::" {
        index + 1
    } else {
        index
    };
    let Some(first) = source.tokens.get(index) else {
        return index;
    };
    let (own, mut next) = segments(source, index);
    let path = [prefix, &own[..]].concat();
    match source.text(next) {
        "{" => {
            let end = source.closing(next);
            next += 1;
            while next < end {
                next = tree(source, next, &path, found).max(next + 1);
                while matches!(source.text(next), "," | "}") && next < end {
                    next += 1;
                }
            }
            return end + 1;
        }
        "*" => next += 1,
        "as" => next += 2,
        _ => {}
    }
    if source.text(next) == "as" {
        next += 2;
    }
    found.push(Use {
        segments: path,
        first,
    });
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path, text))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn paths(text: &str) -> Vec<String> {
        let source = Source::new("a/src/b.rs", text);
        uses(&source)
            .iter()
            .map(|found| found.segments.join("::"))
            .collect()
    }

    #[test]
    fn paths_are_found_in_declarations_and_code() {
        assert_eq!(
            paths("use a::{b, c::{self, d as e}, f::*};"),
            ["a::b", "a::c::self", "a::c::d", "a::f"]
        );
        assert_eq!(
            paths("let x = env::var(\"Y\")?.z::<u8>(); ::tokio::spawn(q)"),
            ["env::var", "tokio::spawn"]
        );
        assert_eq!(
            paths("pub use self::x as y; fn f() { crate::mesh::Mesh::new() }"),
            ["self::x", "crate::mesh::Mesh::new"]
        );
    }

    #[test]
    fn an_arrow_that_runs_upward_is_found() {
        let text = "use crate::{\n    resource,\n    publish::Publisher,\n};\nfn f() { super::super::grpc::go() }";
        let found = messages("xds-server/src/compile/route.rs", text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with(
                "xds-server/src/compile/route.rs:3: `compile` must not use `crate::publish`"
            ),
            "{found:?}"
        );
        assert!(
            found[1].starts_with(
                "xds-server/src/compile/route.rs:5: `compile` must not use `crate::grpc`"
            ),
            "{found:?}"
        );
    }

    #[test]
    fn a_runtime_in_a_pure_module_is_found() {
        for (path, text) in [
            (
                "xds-server/src/mesh/read.rs",
                "fn f() { tokio::spawn(g()) }",
            ),
            ("xds-server/src/discovery.rs", "use tonic::Status;"),
            ("policy/src/canary.rs", "use std::{fmt, fs};"),
            (
                "policy/src/breaker/cell.rs",
                "let t = std::time::Instant::now();",
            ),
        ] {
            let found = messages(path, text);
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(found[0].contains("pure"), "{found:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_not_reported() {
        for (path, text) in [
            (
                "xds-server/src/compile/mod.rs",
                "use crate::{mesh::Mesh, resource, compile::node}; use super::Type; mod route;",
            ),
            (
                "xds-server/src/compile/mod.rs",
                "#[cfg(test)] mod tests { use crate::source; use tokio::test; }",
            ),
            (
                "xds-server/src/compile/node.rs",
                "use super::route; use self::x::y; fn f() { self.grpc::<u8>(); }",
            ),
            ("xds-server/src/compiler.rs", "use crate::grpc;"),
            ("xds-server/src/app.rs", "use tokio::net; use crate::grpc;"),
            ("policy/src/lib.rs", "use crate::units; // tokio::spawn"),
            ("xds-server/src/clock.rs", "SystemTime::now()"),
            ("filter/src/host.rs", "self.get_current_time()"),
            ("tests/src/mesh.rs", "std::env::var(\"ENVOY_BIN\")"),
            (
                "xds-server/src/main.rs",
                "#[arg(env = \"XDS\")] struct A; let d = env::temp_dir(); env!(\"X\");",
            ),
        ] {
            assert_eq!(messages(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn the_wall_clock_and_the_environment_elsewhere_are_found() {
        for (path, text) in [
            (
                "xds-server/src/app.rs",
                "let t = std::time::SystemTime::now();",
            ),
            (
                "xds-server/src/app.rs",
                "#[cfg(test)] mod tests { fn f() { jiff::Timestamp::now(); } }",
            ),
            ("filter/src/http.rs", "let t = self.get_current_time();"),
            ("tests/it/main.rs", "jiff::Zoned::now()"),
            (
                "xtask/src/main.rs",
                "use std::time::SystemTime; SystemTime::now()",
            ),
            ("xds-server/src/app.rs", "use std::env::var;"),
            ("filter/src/lib.rs", "std::env::vars_os()"),
        ] {
            assert_eq!(messages(path, text).len(), 1, "{path}: {text}");
        }
    }
}
