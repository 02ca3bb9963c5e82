//! Which route of a live Envoy a request takes: the parts of Envoy's route configuration that this server
//! makes, and the plain ones beside them. What is not evaluated here is said, never guessed.

use policy::traffic_class::{self, Headers as _};
use serde_json::Value;

use super::imagined::{GivenHeaders, route_name};

/// The route that a request takes.
pub(super) struct Taken<'v> {
    /// Its virtual host.
    pub(super) host: &'v str,
    /// The route.
    pub(super) route: &'v Value,
}

/// The first route that matches; `skipped` is told what could not be evaluated, once each.
pub(super) fn route<'v>(
    configuration: &'v Value,
    headers: &GivenHeaders,
    skipped: &mut Vec<String>,
) -> Option<Taken<'v>> {
    let host = virtual_host(configuration, &headers.text(AUTHORITY))?;
    let name = host["name"].as_str().unwrap_or_default();
    let mut routes = list(&host["routes"]);
    let route = routes.find(|route| match matches(&route["match"], headers) {
        Ok(matches) => matches,
        Err(what) => {
            let of = route["name"].as_str().unwrap_or("without a name");
            let words = format!(
                "the route {of:?} of {name} matches by {what}, which is not evaluated here: what is said \
                 holds if the request does not match it"
            );
            if !skipped.contains(&words) {
                skipped.push(words);
            }
            false
        }
    })?;
    Some(Taken { host: name, route })
}

pub(super) const AUTHORITY: &str = ":authority";

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Exact before `*.suffix` before `prefix.*` before `*`; of several the longest.
fn virtual_host<'v>(configuration: &'v Value, authority: &str) -> Option<&'v Value> {
    let mut host = authority.to_ascii_lowercase();
    if configuration["ignore_port_in_host_matching"] == true
        && let Some((name, port)) = host.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        host = name.to_string();
    }
    let rank = |domain: &str| {
        let domain = domain.to_ascii_lowercase();
        let longer = |rest: &str| host.len() > rest.len();
        if domain == "*" {
            Some((0, 0))
        } else if domain == host {
            Some((3, domain.len()))
        } else if let Some(suffix) = domain.strip_prefix('*') {
            (longer(suffix) && host.ends_with(suffix)).then_some((2, domain.len()))
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (longer(prefix) && host.starts_with(prefix)).then_some((1, domain.len()))
        } else {
            None
        }
    };
    let ranked = list(&configuration["virtual_hosts"]).filter_map(|host| {
        let domains = list(&host["domains"]).filter_map(Value::as_str);
        Some((domains.filter_map(rank).max()?, host))
    });
    let best = ranked.max_by_key(|(rank, _)| *rank)?;
    Some(best.1)
}

/// Whether all conditions hold.
///
/// # Errors
/// What is not evaluated, by Envoy's name for it.
fn matches(rule: &Value, headers: &GivenHeaders) -> Result<bool, String> {
    let fields = rule.as_object().ok_or("nothing")?;
    let path = headers.text(traffic_class::PATH);
    let plain = path.split(['?', '#']).next().unwrap_or_default();
    let mut all = true;
    let mut unknown = None;
    for (field, value) in fields {
        let text = value.as_str().unwrap_or_default();
        all &= match field.as_str() {
            "prefix" => path.starts_with(text),
            "path" => plain == text,
            "path_separated_prefix" => plain
                .strip_prefix(text)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            "grpc" => is_grpc(&headers.text("content-type")),
            "safe_regex" => match alternatives(value) {
                Some(mut words) => words.any(|word| word == plain),
                None => {
                    unknown = Some("safe_regex".to_string());
                    true
                }
            },
            "headers" => {
                let mut matching = true;
                for rule in list(value) {
                    match header(rule, headers) {
                        Ok(matches) => matching &= matches,
                        Err(what) => unknown = Some(what),
                    }
                }
                matching
            }
            "case_sensitive" if value == true => true,
            _ => {
                unknown = Some(field.clone());
                true
            }
        };
    }
    // What is known not to match needs no more.
    match unknown {
        Some(what) if all => Err(what),
        _ => Ok(all),
    }
}

fn header(rule: &Value, headers: &GivenHeaders) -> Result<bool, String> {
    let name = rule["name"]
        .as_str()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let value = headers.get(route_name(&name));
    let value = value.map(|value| String::from_utf8_lossy(&value).into_owned());
    let is_inverted = rule["invert_match"] == true;
    if let Some(wanted) = rule["present_match"].as_bool() {
        return Ok((value.is_some() == wanted) != is_inverted);
    }
    let Some(matcher) = rule["string_match"].as_object() else {
        return match rule.as_object().is_some_and(|fields| fields.len() == 1) {
            // A name alone: it must be there.
            true => Ok(value.is_some()),
            false => Err(format!("a condition on the header {name}")),
        };
    };
    let value = match value {
        Some(value) => value,
        None if rule["treat_missing_header_as_empty"] == true => String::new(),
        // A header that is absent has no value that could match, inverted or not.
        None => return Ok(false),
    };
    let folded = matcher.get("ignore_case") == Some(&Value::Bool(true));
    let fold = |text: &str| match folded {
        true => text.to_ascii_lowercase(),
        false => text.to_string(),
    };
    let value = fold(&value);
    for (kind, wanted) in matcher {
        let text = fold(wanted.as_str().unwrap_or_default());
        let matches = match kind.as_str() {
            "exact" => value == text,
            "prefix" => value.starts_with(&text),
            "suffix" => value.ends_with(&text),
            "contains" => value.contains(&text),
            "safe_regex" => match alternatives(wanted) {
                Some(mut words) => words.any(|word| word == value),
                None => return Err(format!("a regular expression on the header {name}")),
            },
            "ignore_case" => continue,
            _ => return Err(format!("a condition on the header {name}")),
        };
        return Ok(matches != is_inverted);
    }
    Err(format!("a condition on the header {name}"))
}

/// The words of `GET|HEAD|PUT`: a regular expression that is no more than that.
fn alternatives(regex: &Value) -> Option<impl Iterator<Item = &str>> {
    let text = regex["regex"].as_str()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"|-_/".contains(&byte);
    text.bytes().all(is_plain).then(|| text.split('|'))
}

fn is_grpc(content_type: &str) -> bool {
    let rest = content_type.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::explain::Question;

    fn request(path: &str, headers: &[&str]) -> GivenHeaders {
        let question = Question {
            path: Some(path.into()),
            headers: headers.iter().map(ToString::to_string).collect(),
            ..Question::default()
        };
        GivenHeaders::read(&question).unwrap()
    }

    #[test]
    fn the_most_specific_host_counts() {
        let host = |name: &str, domains: &[&str]| json!({"name": name, "domains": domains});
        let configuration = json!({"ignore_port_in_host_matching": true, "virtual_hosts": [
            host("any", &["*"]), host("wide", &["*.in"]), host("narrow", &["*.x.in"]),
            host("exact", &["A.x.in"]), host("front", &["api.*"]),
        ]});
        for (asked, expected) in [
            ("a.x.in:80", "exact"),
            ("b.x.in", "narrow"),
            ("b.in", "wide"),
            ("api.com", "front"),
            ("y", "any"),
            ("", "any"),
        ] {
            let found = virtual_host(&configuration, asked).unwrap();
            assert_eq!(found["name"], expected, "{asked}");
        }
    }

    #[test]
    fn paths_methods_and_headers_are_matched_as_envoy_does() {
        let grpc = ["content-type:application/grpc+proto"];
        let exactly =
            |name: &str, value: &str| json!({"name": name, "string_match": {"exact": value}});
        for (rule, path, headers, expected) in [
            (json!({"prefix": "/a"}), "/ab?x", &[][..], true),
            (json!({"path": "/a"}), "/a?x", &[], true),
            (json!({"path": "/a"}), "/ab", &[], false),
            (json!({"path_separated_prefix": "/a"}), "/a/b", &[], true),
            (json!({"path_separated_prefix": "/a"}), "/ab", &[], false),
            (json!({"prefix": "/", "grpc": {}}), "/", &grpc, true),
            (json!({"prefix": "/", "grpc": {}}), "/", &[], false),
            (
                json!({"prefix": "/", "headers": [exactly("x-a", "1")]}),
                "/",
                &["x-a:1"],
                true,
            ),
            (
                json!({"prefix": "/", "headers": [exactly("x-a", "1")]}),
                "/",
                &[],
                false,
            ),
            (
                json!({"prefix": "/", "headers": [
                    {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|PUT"}}},
                ]}),
                "/",
                &[],
                true,
            ),
            (
                json!({"prefix": "/", "headers": [{"name": "x-a", "present_match": true, "invert_match": true}]}),
                "/",
                &[],
                true,
            ),
        ] {
            let found = matches(&rule, &request(path, headers));
            assert_eq!(found, Ok(expected), "{rule} {path} {headers:?}");
        }
    }

    #[test]
    fn what_is_not_evaluated_is_said_unless_the_rest_does_not_match() {
        let regex = json!({"safe_regex": {"regex": "/a.*"}});
        assert_eq!(
            matches(&regex, &request("/a", &[])),
            Err("safe_regex".into())
        );
        let query = json!({"prefix": "/b", "query_parameters": []});
        assert_eq!(matches(&query, &request("/a", &[])), Ok(false));
        assert_eq!(
            matches(&query, &request("/b", &[])),
            Err("query_parameters".into())
        );
        let configuration = json!({"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"name": "odd", "match": regex}, {"name": "all", "match": {"prefix": "/"}},
        ]}]});
        let mut skipped = Vec::new();
        let taken = route(&configuration, &request("/a", &[]), &mut skipped).unwrap();
        assert_eq!(taken.route["name"], "all");
        assert!(skipped[0].contains("\"odd\"") && skipped[0].contains("safe_regex"));
    }
}
