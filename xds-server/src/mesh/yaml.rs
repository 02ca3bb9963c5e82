//! One YAML text as a tree, read within bounds, with the places of what is wrong in it.

use policy::reader::Problem;
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{outline::Outline, place::Position};

/// Values of one file, aliases not counted. 5,000 services with 10 endpoints each have a million.
const VALUES_MAX: usize = 3_000_000;
/// Values that all aliases together stand for.
const ALIASED_VALUES_MAX: usize = 500_000;
/// Maps and lists in each other; a mesh file has eight.
const DEPTH_MAX: usize = 64;

/// What a text says.
pub(super) struct Parsed {
    /// Its tree, unless it is no YAML. With keys that come twice, of each the first.
    pub tree: Option<Value>,
    /// What is wrong.
    pub problems: Vec<(Position, Problem)>,
}

pub(super) fn parse(text: &str) -> Parsed {
    match tree(text, DuplicateKeyPolicy::Error) {
        // What a file is for the moment in which it is truncated and written anew must not take a mesh
        // away.
        Ok(Value::Null) => refused(
            Position::BEGIN,
            "the file says nothing",
            Some("write {} for an empty mesh"),
        ),
        Ok(Value::Object(fields)) => Parsed {
            tree: Some(Value::Object(fields)),
            problems: Vec::new(),
        },
        Ok(_) => refused(
            Position::BEGIN,
            "must be a map of fields such as services and gateways",
            Some("write {} for an empty mesh"),
        ),
        Err(error) => duplicates(text, &error).unwrap_or_else(|| unreadable(&error)),
    }
}

fn tree(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: VALUES_MAX,
            max_events: 2 * VALUES_MAX,
            max_depth: DEPTH_MAX,
            max_recorded_anchor_events: ALIASED_VALUES_MAX,
            max_documents: 1,
            // A thousand services may share one breaker by an alias.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIASED_VALUES_MAX,
        },
        duplicate_keys: duplicate_keys,
        emit_comments: false,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// All keys that come twice, where that is why `text` was refused.
fn duplicates(text: &str, error: &serde_saphyr::Error) -> Option<Parsed> {
    let serde_saphyr::Error::DuplicateMappingKey { .. } = error.without_snippet() else {
        return None;
    };
    let outline = Outline::of(text);
    let problem = |path: &str, first: Position| Problem {
        path: path.into(),
        message: format!(
            "is here a second time; it is in line {} already",
            first.line
        ),
        hint: Some("keep one of them".into()),
    };
    let problems: Vec<_> = outline
        .duplicates()
        .iter()
        .map(|twice| (twice.again, problem(&twice.path, twice.first)))
        .collect();
    // What is left is read all the same, to tell all that is wrong with it.
    let tree = tree(text, DuplicateKeyPolicy::FirstWins).ok()?;
    (!problems.is_empty() && tree.is_object()).then_some(Parsed {
        tree: Some(tree),
        problems,
    })
}

fn unreadable(error: &serde_saphyr::Error) -> Parsed {
    let location = error.location();
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).max(1);
    let at = location.map_or(Position::BEGIN, |location| Position {
        line: count(location.line()),
        column: count(location.column()),
    });
    let (message, hint) = words(error);
    refused(at, &message, hint)
}

/// What is wrong, without the place, and what to do about it.
fn words(error: &serde_saphyr::Error) -> (String, Option<&'static str>) {
    use serde_saphyr::{Error, budget::BudgetBreach};
    match error.without_snippet() {
        Error::AliasError { error, .. } => words(error),
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Depth { .. } => (
                format!("more than {DEPTH_MAX} maps and lists in each other"),
                Some("a mesh file has eight at most"),
            ),
            BudgetBreach::Documents { .. } => (
                "a second YAML document begins here".into(),
                Some(
                    "make it a file of its own, and name that with include, or put both in a folder",
                ),
            ),
            BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => (
                format!("more than {VALUES_MAX} values"),
                Some("divide it into several files"),
            ),
            _ => (
                format!("its aliases stand for more than {ALIASED_VALUES_MAX} values"),
                Some("write out what you mean"),
            ),
        },
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => (
            format!("its aliases stand for more than {ALIASED_VALUES_MAX} values"),
            Some("write out what you mean"),
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => (
            "not readable as YAML: an alias stands for itself".into(),
            None,
        ),
        // Only keys are asked to be texts: what stands behind them may be anything.
        Error::NullIntoString { .. } => (
            "a key is null, and must be a text".into(),
            Some("write the name that is meant, in quotes if it is ~ or null itself"),
        ),
        other => {
            let said = other.to_string();
            let said = said.split(" at line ").next().unwrap_or_default();
            (format!("not readable as YAML: {said}"), None)
        }
    }
}

fn refused(at: Position, message: &str, hint: Option<&str>) -> Parsed {
    let problem = Problem {
        path: String::new(),
        message: message.into(),
        hint: hint.map(Into::into),
    };
    Parsed {
        tree: None,
        problems: vec![(at, problem)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let problems = parse(text).problems;
        let line =
            |(at, problem): (Position, Problem)| format!("{}:{} {problem}", at.line, at.column);
        problems.into_iter().map(line).collect()
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        for (text, expected) in [
            ("a: [1\nb: {", "2:2 not readable as YAML: illegal placement"),
            ("a:\n\t- b", "2:2 not readable as YAML: tabs disallowed"),
            (
                "a: 1\r\nb: [\r\n",
                "2:4 not readable as YAML: unclosed bracket",
            ),
            (
                "a: *x",
                "1:4 not readable as YAML: alias references unknown",
            ),
            (
                "a: &a {b: *a}",
                "1:11 not readable as YAML: an alias stands for itself",
            ),
            ("a: .nan", "1:4 not readable as YAML: non-finite float"),
            ("? [x]\n: y", "1:3 not readable as YAML: expected string"),
            (
                "services: {~: {}}",
                "1:12 a key is null, and must be a text",
            ),
            ("{}\n---\n{}", "2:1 a second YAML document begins here"),
            ("", "1:1 the file says nothing"),
            ("- a", "1:1 must be a map of fields"),
        ] {
            let told = told(text);
            assert!(
                told.len() == 1 && told[0].starts_with(expected),
                "{text:?}: {told:?}"
            );
            assert!(!told[0].contains("at line"), "{told:?}");
        }
    }

    #[test]
    fn every_key_that_comes_twice_is_told_and_the_rest_is_read() {
        let parsed = parse("a: 1\nb: {c: 2, c: 3}\na: 4\n");
        assert_eq!(
            parsed.tree,
            Some(serde_json::json!({"a": 1, "b": {"c": 2}}))
        );
        assert_eq!(
            told("a: 1\nb: {c: 2, c: 3}\na: 4\n"),
            [
                "2:11 b.c: is here a second time; it is in line 2 already (keep one of them)",
                "3:1 a: is here a second time; it is in line 1 already (keep one of them)",
            ]
        );
    }

    #[test]
    fn bombs_are_refused_before_they_grow() {
        let mut aliases = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let base = level - 1;
            let nine = vec![format!("*a{base}"); 9].join(",");
            aliases += &format!("a{level}: &a{level} [{nine}]\n");
        }
        let shared = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb:\n".to_string() + &"- *a\n".repeat(50_000);
        let flow = "a: ".to_string() + &"[".repeat(100_000);
        let block: String = (0..2_000).map(|depth| " ".repeat(depth) + "a:\n").collect();
        for (text, expected) in [
            (aliases, "its aliases stand for more than 500000 values"),
            (shared, "its aliases stand for more than 500000 values"),
            (flow, "recursion limit exceeded"),
            (block, "65:65 more than 64 maps and lists in each other"),
        ] {
            let told = told(&text);
            assert!(told.len() == 1 && told[0].contains(expected), "{told:?}");
        }
    }

    #[test]
    fn a_thousand_services_may_share_one_breaker() {
        let shared = "a: &a {x: 1, y: 2, z: 3}\nb:\n".to_string() + &"- *a\n".repeat(5_000);
        assert_eq!(told(&shared), [""; 0]);
    }
}
