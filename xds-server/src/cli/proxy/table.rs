//! The fleet as text: columns that fit, and below them what was rejected.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::output::{columns, printable};

/// In the order in which a change is sent.
const TYPES: [&str; 7] = ["CDS", "EDS", "SDS", "RTDS", "ECDS", "LDS", "RDS"];
/// Counted in the last line, the worst first.
const STATES: [(&str, &str); 4] = [
    ("REJECTED", "rejected"),
    ("STALE", "stale"),
    ("NOT_SENT", "not sent"),
    ("SYNCED", "synced"),
];

/// One line for each proxy.
pub(super) fn overview(proxies: &[Value]) -> String {
    if proxies.is_empty() {
        return "no proxy is connected\n".into();
    }
    let used: Vec<&str> = TYPES
        .into_iter()
        .filter(|name| proxies.iter().any(|proxy| worst(proxy, name).is_some()))
        .collect();
    let mut header = vec!["NODE", "CLUSTER", "VERSION", "ZONE"];
    header.extend(&used);
    let mut rows = vec![header.into_iter().map(str::to_string).collect()];
    for proxy in proxies {
        let place = &proxy["locality"];
        let mut row = vec![
            text(&proxy["id"]),
            text(&proxy["cluster"]),
            text(&proxy["version"]),
            text(&place["zone"]),
        ];
        row.extend(
            used.iter()
                .map(|name| text(worst(proxy, name).unwrap_or(&Value::Null))),
        );
        rows.push(row);
    }
    let mut shown = columns(&rows);
    shown += &rejections(proxies, false);
    shown.push('\n');
    shown += &sum(proxies);
    shown
}

/// Everything that is known of each.
pub(super) fn details(proxies: &[Value]) -> String {
    let mut shown = String::new();
    for proxy in proxies {
        let place = &proxy["locality"];
        let fields = [
            ("node", text(&proxy["id"])),
            ("cluster", text(&proxy["cluster"])),
            (
                "version",
                format!("{} {}", text(&proxy["user_agent"]), text(&proxy["version"])),
            ),
            ("region", text(&place["region"])),
            ("zone", text(&place["zone"])),
            ("state", text(&proxy["state"])),
        ];
        for (name, value) in fields {
            // Writing to a String cannot fail.
            let _ = writeln!(shown, "{name:<9} {value}");
        }
        for stream in list(&proxy["streams"]) {
            shown += &stream_details(stream);
        }
        shown += &rejections(std::slice::from_ref(proxy), true);
    }
    shown
}

fn stream_details(stream: &Value) -> String {
    let mut shown = format!(
        "\n{} {} from {}, connected {}: {} responses ({} bytes), {} ACKs, {} NACKs\n",
        text(&stream["service"]),
        text(&stream["variant"]),
        text(&stream["peer"]),
        text(&stream["connected_at"]),
        text(&stream["responses"]),
        text(&stream["bytes_sent"]),
        text(&stream["acks"]),
        text(&stream["nacks"]),
    );
    let header = [
        "TYPE",
        "STATE",
        "SUBSCRIBED",
        "RESOURCES",
        "SENT",
        "ACKED",
        "ACKED AT",
    ];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    for kind in list(&stream["types"]) {
        let names = kind["names"].as_u64().unwrap_or_default();
        let subscribed = match (kind["wildcard"] == true, names) {
            (true, 0) => "all".to_string(),
            (true, names) => format!("all, {names} by name"),
            (false, names) => format!("{names} by name"),
        };
        rows.push(vec![
            text(&kind["type"]),
            text(&kind["state"]),
            subscribed,
            text(&kind["resources"]),
            text(&kind["sent"]),
            text(&kind["acked"]),
            text(&kind["acked_at"]),
        ]);
    }
    shown += &columns(&rows);
    shown
}

/// What was rejected and why, the proxy's words indented below; then what is not sent because of it. What is mended is
/// history, for whoever looks at one proxy.
fn rejections(proxies: &[Value], with_mended: bool) -> String {
    let mut shown = String::new();
    for proxy in proxies {
        for kind in list(&proxy["streams"]).flat_map(|stream| list(&stream["types"])) {
            let (nack, since) = match &kind["nack"] {
                Value::Null if with_mended => (&kind["last_nack"], ", mended since"),
                nack => (nack, ""),
            };
            if nack.is_null() {
                continue;
            }
            let _ = writeln!(
                shown,
                "\n{} rejected {} version {} at {}{since}:",
                text(&proxy["id"]),
                text(&kind["type"]),
                text(&nack["version"]),
                text(&nack["at"]),
            );
            for line in nack["message"].as_str().unwrap_or_default().lines() {
                let _ = writeln!(shown, "    {}", printable(line));
            }
        }
        shown += &held_back(proxy);
    }
    shown
}

fn held_back(proxy: &Value) -> String {
    let mut shown = String::new();
    for kind in list(&proxy["streams"]).flat_map(|stream| list(&stream["types"])) {
        for held in list(&kind["held_back"]) {
            let _ = writeln!(
                shown,
                "\n{} is not sent {} {} until it accepts {} {}",
                text(&proxy["id"]),
                text(&kind["type"]),
                text(&held["name"]),
                text(&held["because_type"]),
                text(&held["because"]),
            );
        }
    }
    shown
}

/// `3 proxies: 1 rejected, 2 synced`.
fn sum(proxies: &[Value]) -> String {
    let counts = STATES.into_iter().filter_map(|(state, word)| {
        let count = proxies
            .iter()
            .filter(|proxy| proxy["state"] == state)
            .count();
        (count > 0).then(|| format!("{count} {word}"))
    });
    let counts: Vec<String> = counts.collect();
    let (number, noun) = match proxies.len() {
        1 => (1, "proxy"),
        number => (number, "proxies"),
    };
    format!("{number} {noun}: {}\n", counts.join(", "))
}

/// The worst that a proxy's streams say of a type; none when none of them asked for it.
fn worst<'p>(proxy: &'p Value, name: &str) -> Option<&'p Value> {
    let types = list(&proxy["streams"]).flat_map(|stream| list(&stream["types"]));
    let states = types
        .filter(|kind| kind["type"] == name)
        .map(|kind| &kind["state"]);
    let rank = |state: &&Value| STATES.iter().position(|(name, _)| *state == name);
    states.min_by_key(rank)
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn proxy(id: &str, state: &str, types: &Value) -> Value {
        json!({
            "id": id, "cluster": "edge", "user_agent": "envoy", "version": "1.40.0", "state": state,
            "locality": {"region": "mumbai", "zone": "mumbai-west", "sub_zone": ""},
            "streams": [{
                "service": "ADS", "variant": "delta", "peer": "127.0.0.1:4711",
                "connected_at": "2026-11-08T18:30:00+05:30", "bytes_sent": 4096, "responses": 3,
                "acks": 2, "nacks": 1, "types": types,
            }],
        })
    }

    fn kind(name: &str, state: &str) -> Value {
        json!({
            "type": name, "state": state, "sent": "v2", "acked": "v1", "wildcard": name == "CDS",
            "names": if name == "CDS" { 0 } else { 2 }, "resources": 2,
            "acked_at": "2026-11-08T18:30:01+05:30", "nack": null,
        })
    }

    fn rejected(name: &str, message: &str) -> Value {
        let mut kind = kind(name, "REJECTED");
        let at = "2026-11-08T18:30:02+05:30";
        kind["nack"] = json!({"version": "v2", "message": message, "at": at});
        kind
    }

    #[test]
    fn the_overview_has_a_line_for_each_proxy_and_the_rejections_words_below() {
        let proxies = [
            proxy("edge-1", "SYNCED", &json!([kind("CDS", "SYNCED")])),
            proxy(
                "edge-22",
                "REJECTED",
                &json!([
                    kind("CDS", "STALE"),
                    rejected("LDS", "no such filter\n\u{1b}[2Jcleared")
                ]),
            ),
        ];
        let expected = "\
NODE     CLUSTER  VERSION  ZONE         CDS     LDS
edge-1   edge     1.40.0   mumbai-west  SYNCED  -
edge-22  edge     1.40.0   mumbai-west  STALE   REJECTED

edge-22 rejected LDS version v2 at 2026-11-08T18:30:02+05:30:
    no such filter
    \u{fffd}[2Jcleared

2 proxies: 1 rejected, 1 synced
";
        assert_eq!(overview(&proxies), expected);
        assert_eq!(overview(&[]), "no proxy is connected\n");
    }

    #[test]
    fn the_details_have_a_line_for_each_type() {
        let proxies = [proxy(
            "edge-1",
            "STALE",
            &json!([kind("CDS", "SYNCED"), kind("EDS", "STALE")]),
        )];
        let expected = "\
node      edge-1
cluster   edge
version   envoy 1.40.0
region    mumbai
zone      mumbai-west
state     STALE

ADS delta from 127.0.0.1:4711, connected 2026-11-08T18:30:00+05:30: 3 responses (4096 bytes), 2 ACKs, 1 NACKs
TYPE  STATE   SUBSCRIBED  RESOURCES  SENT  ACKED  ACKED AT
CDS   SYNCED  all         2          v2    v1     2026-11-08T18:30:01+05:30
EDS   STALE   2 by name   2          v2    v1     2026-11-08T18:30:01+05:30
";
        assert_eq!(details(&proxies), expected);
    }

    #[test]
    fn of_several_streams_the_worst_is_shown() {
        let mut two = proxy("edge-1", "REJECTED", &json!([kind("CDS", "SYNCED")]));
        let other = proxy("edge-1", "REJECTED", &json!([rejected("CDS", "no")]));
        let stream = other["streams"][0].clone();
        two["streams"].as_array_mut().unwrap().push(stream);
        assert!(overview(&[two]).contains("mumbai-west  REJECTED\n"));
    }
}
