//! Which nodes a question is about: `envoy.type.matcher.v3.NodeMatcher`, as far as it speaks of node ids.

use envoy_types::pb::envoy::r#type::matcher::v3::{
    NodeMatcher, StringMatcher, string_matcher::MatchPattern,
};

/// Of one question.
const MATCHERS_MAX: usize = 1_000;

/// One of the matchers that a question has; one of them must match.
#[derive(Debug)]
pub(super) struct Matcher {
    pattern: Pattern,
    ignore_case: bool,
}

#[derive(Debug)]
enum Pattern {
    Any,
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
}

impl Matcher {
    pub(super) fn matches(&self, id: &str) -> bool {
        let lower;
        let id = if self.ignore_case {
            lower = id.to_ascii_lowercase();
            &lower
        } else {
            id
        };
        match &self.pattern {
            Pattern::Any => true,
            Pattern::Exact(text) => id == text,
            Pattern::Prefix(text) => id.starts_with(text),
            Pattern::Suffix(text) => id.ends_with(text),
            Pattern::Contains(text) => id.contains(text),
        }
    }
}

/// Reads a question's matchers.
///
/// # Errors
/// What is not understood, rather than an answer to another question.
pub(super) fn read(matchers: &[NodeMatcher]) -> Result<Vec<Matcher>, String> {
    if matchers.len() > MATCHERS_MAX {
        return Err(format!("node_matchers: at most {MATCHERS_MAX}"));
    }
    let read = |(index, matcher): (usize, &NodeMatcher)| {
        one(matcher).map_err(|problem| format!("node_matchers[{index}].{problem}"))
    };
    matchers.iter().enumerate().map(read).collect()
}

fn one(matcher: &NodeMatcher) -> Result<Matcher, String> {
    if !matcher.node_metadatas.is_empty() {
        return Err("node_metadatas: not supported; match by node_id".into());
    }
    match &matcher.node_id {
        Some(node_id) => text(node_id),
        None => Ok(Matcher {
            pattern: Pattern::Any,
            ignore_case: false,
        }),
    }
}

fn text(matcher: &StringMatcher) -> Result<Matcher, String> {
    let ignore_case = matcher.ignore_case;
    let cased = |text: &String| match ignore_case {
        true => text.to_ascii_lowercase(),
        false => text.clone(),
    };
    let unsupported = |name: &str| {
        format!("node_id.{name}: not supported; use exact, prefix, suffix or contains")
    };
    let pattern = match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => Pattern::Exact(cased(text)),
        Some(MatchPattern::Prefix(text)) => Pattern::Prefix(cased(text)),
        Some(MatchPattern::Suffix(text)) => Pattern::Suffix(cased(text)),
        Some(MatchPattern::Contains(text)) => Pattern::Contains(cased(text)),
        Some(MatchPattern::SafeRegex(_)) => return Err(unsupported("safe_regex")),
        Some(MatchPattern::Custom(_)) => return Err(unsupported("custom")),
        None => return Err("node_id: empty; give exact, prefix, suffix or contains".into()),
    };
    Ok(Matcher {
        pattern,
        ignore_case,
    })
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StructMatcher};

    use super::*;

    fn by(pattern: Option<MatchPattern>, ignore_case: bool) -> NodeMatcher {
        NodeMatcher {
            node_id: Some(StringMatcher {
                ignore_case,
                match_pattern: pattern,
            }),
            node_metadatas: Vec::new(),
        }
    }

    fn matched<'i>(matcher: NodeMatcher, ids: &[&'i str]) -> Vec<&'i str> {
        let matchers = read(&[matcher]).unwrap();
        let ids = ids.iter().copied();
        ids.filter(|id| matchers[0].matches(id)).collect()
    }

    #[test]
    fn node_ids_are_matched_as_the_api_says() {
        let ids = ["edge-1", "Edge-1", "edge-10", "orders-edge-1"];
        let exact = MatchPattern::Exact("edge-1".into());
        assert_eq!(matched(by(Some(exact.clone()), false), &ids), ["edge-1"]);
        assert_eq!(matched(by(Some(exact), true), &ids), ["edge-1", "Edge-1"]);
        let prefix = MatchPattern::Prefix("edge".into());
        assert_eq!(
            matched(by(Some(prefix), false), &ids),
            ["edge-1", "edge-10"]
        );
        let suffix = MatchPattern::Suffix("EDGE-1".into());
        let suffixed = ["edge-1", "Edge-1", "orders-edge-1"];
        assert_eq!(matched(by(Some(suffix), true), &ids), suffixed);
        let contains = MatchPattern::Contains("s-e".into());
        assert_eq!(matched(by(Some(contains), false), &ids), ["orders-edge-1"]);
        assert_eq!(matched(NodeMatcher::default(), &ids), ids);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_name() {
        let regex = MatchPattern::SafeRegex(RegexMatcher::default());
        let metadata = NodeMatcher {
            node_metadatas: vec![StructMatcher::default()],
            ..NodeMatcher::default()
        };
        for (matcher, words) in [
            (by(Some(regex), false), "node_id.safe_regex: not supported"),
            (by(None, false), "node_id: empty"),
            (metadata, "node_metadatas: not supported"),
        ] {
            let problem = read(&[NodeMatcher::default(), matcher]).unwrap_err();
            assert!(
                problem.starts_with(&format!("node_matchers[1].{words}")),
                "{problem}"
            );
        }
        assert!(read(&vec![NodeMatcher::default(); MATCHERS_MAX + 1]).is_err());
    }
}
