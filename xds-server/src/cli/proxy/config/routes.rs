//! Routes as text: what a request must be, and where it goes.

use serde_json::Value;

use super::{
    super::table::{list, text},
    table::{Row, number},
};

pub(super) fn routes(config: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for host in list(&config["resource"]["virtual_hosts"]) {
        let domains: Vec<String> = list(&host["domains"]).map(text).collect();
        for route in list(&host["routes"]) {
            rows.push(vec![
                text(&config["name"]),
                domains.join(", "),
                matched(&route["match"]),
                target(route),
            ]);
        }
    }
    rows
}

/// `/orders/* x-mumbai-version=v2`.
fn matched(route: &Value) -> String {
    let path = match route {
        Value::Object(fields) => match fields
            .iter()
            .find(|(name, _)| PATHS.contains(&name.as_str()))
        {
            Some((name, value)) if name == "prefix" => format!("{}*", text(value)),
            Some((name, value)) if name == "path_separated_prefix" => format!("{}/*", text(value)),
            Some((_, Value::Object(regex))) => {
                let regex = regex.get("regex").map(text);
                format!("~{}", regex.unwrap_or_default())
            }
            Some((_, value)) => text(value),
            None => "-".into(),
        },
        _ => "-".into(),
    };
    let headers = list(&route["headers"]).map(|header| {
        let name = text(&header["name"]);
        match header["string_match"]
            .as_object()
            .and_then(|rule| rule.iter().next())
        {
            Some((kind, value)) if kind == "exact" => format!("{name}={}", text(value)),
            Some((_, value)) if !value["regex"].is_null() => {
                format!("{name}~{}", text(&value["regex"]))
            }
            Some((kind, value)) => format!("{name} {kind} {}", text(value)),
            None => format!("{name}…"),
        }
    });
    let grpc = (!route["grpc"].is_null()).then(|| "gRPC".to_string());
    let words: Vec<String> = [path].into_iter().chain(headers).chain(grpc).collect();
    words.join(" ")
}

const PATHS: [&str; 4] = ["prefix", "path", "path_separated_prefix", "safe_regex"];

fn target(route: &Value) -> String {
    let forward = &route["route"];
    if !forward["cluster"].is_null() {
        return text(&forward["cluster"]);
    }
    let weighted: Vec<String> = list(&forward["weighted_clusters"]["clusters"])
        .map(|one| format!("{} ({})", text(&one["name"]), number(&one["weight"], 0)))
        .collect();
    if !weighted.is_empty() {
        return weighted.join(", ");
    }
    if !route["direct_response"].is_null() {
        return format!("answer {}", number(&route["direct_response"]["status"], 0));
    }
    let redirect = &route["redirect"];
    if redirect.is_null() {
        return "-".into();
    }
    let code = redirect["response_code"]
        .as_str()
        .unwrap_or("MOVED_PERMANENTLY");
    format!("redirect {code}")
}
