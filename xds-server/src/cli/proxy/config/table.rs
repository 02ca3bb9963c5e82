//! A proxy's configuration as text: a table for each type, and below it what was rejected.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    super::table::{list, text},
    routes::routes,
};
use crate::{
    cli::output::{columns, printable},
    dump::managers,
};

pub(super) type Row = Vec<String>;
type Rows = fn(&Value) -> Vec<Row>;

pub(super) fn config(answer: &Value) -> String {
    let mut shown = String::new();
    for proxy in list(&answer["proxies"]) {
        let _ = writeln!(
            shown,
            "{} of {}: {} {}, zone {}",
            text(&proxy["id"]),
            text(&proxy["cluster"]),
            text(&proxy["user_agent"]),
            text(&proxy["version"]),
            text(&proxy["locality"]["zone"]),
        );
        for kind in list(&proxy["types"]) {
            // Of an Envoy that was asked itself, endpoints are shown as it uses them.
            if kind["type"] != "EDS" || proxy["hosts"].is_null() {
                shown += &of_type(kind);
            }
        }
        if !proxy["hosts"].is_null() {
            shown.push('\n');
            shown += &hosts(&proxy["hosts"]);
        }
        if !proxy["bootstrap"].is_null() {
            shown += &bootstrap(&proxy["bootstrap"]);
        }
    }
    shown
}

/// The columns of a type, and how its rows are made.
fn form(kind: &str) -> (&'static [&'static str], Rows) {
    match kind {
        "CDS" => (
            &["CLUSTER", "DISCOVERY", "TLS", "HEALTH CHECK", "OUTLIERS"],
            cluster,
        ),
        "EDS" => (
            &[
                "CLUSTER",
                "ENDPOINT",
                "ZONE",
                "PRIORITY",
                "WEIGHT",
                "ZONE'S WEIGHT",
            ],
            endpoints,
        ),
        "LDS" => (
            &["LISTENER", "ADDRESS", "DIRECTION", "TLS", "ROUTES"],
            listener,
        ),
        "RDS" => (&["ROUTES", "HOSTS", "MATCH", "TO"], routes),
        "SDS" => (&["SECRET", "HOLDS"], secret),
        "ECDS" => (&["FILTER", "CODE", "SERVICES", "CLASSES", "ZONE"], filter),
        _ => (&["NAME"], |config| vec![vec![text(&config["name"])]]),
    }
}

fn of_type(kind: &Value) -> String {
    let (header, rows) = form(kind["type"].as_str().unwrap_or_default());
    let mut header: Row = header.iter().map(ToString::to_string).collect();
    header.extend(["VERSION", "STATE"].map(str::to_string));
    let mut table = vec![header];
    for config in list(&kind["configs"]) {
        let end = [text(&config["version"]), text(&config["state"])];
        let made = match config["resource"].is_null() {
            true => Vec::new(),
            false => rows(config),
        };
        if made.is_empty() {
            let mut row = vec!["-".to_string(); table[0].len() - end.len()];
            row[0] = text(&config["name"]);
            row.extend(end);
            table.push(row);
        } else {
            table.extend(made.into_iter().map(|mut row| {
                row.extend(end.clone());
                row
            }));
        }
    }
    let mut shown = String::from("\n");
    if table.len() > 1 {
        shown += &columns(&table);
    }
    shown + &words(kind)
}

/// What cannot stand in a column.
fn words(kind: &Value) -> String {
    let mut shown = String::new();
    let api = text(&kind["type"]);
    let mut rejected = |name: &str, version: String, why: &Value| {
        let _ = writeln!(shown, "{name} rejected version {version}:");
        for line in why.as_str().unwrap_or_default().lines() {
            let _ = writeln!(shown, "    {}", printable(line));
        }
    };
    let nack = &kind["nack"];
    if !nack.is_null() {
        rejected(&api, text(&nack["version"]), &nack["message"]);
    }
    for config in list(&kind["configs"]).filter(|config| !config["error"].is_null()) {
        let name = format!("{api} {}", text(&config["name"]));
        rejected(&name, text(&config["version"]), &config["error"]);
    }
    for config in list(&kind["configs"]) {
        let keeps = match config["keeps_older"].as_bool() {
            Some(true) => "goes on with the version before",
            Some(false) => "has no version of it",
            None => continue,
        };
        let _ = writeln!(shown, "{api} {}: the proxy {keeps}", text(&config["name"]));
    }
    for held in list(&kind["held_back"]) {
        let _ = writeln!(
            shown,
            "{api} {} is not sent until {} {} is accepted",
            text(&held["name"]),
            text(&held["because_type"]),
            text(&held["because"]),
        );
    }
    if let Some(kept @ 1..) = kind["kept"].as_u64() {
        let _ = writeln!(
            shown,
            "{api}: {kept} more that the proxy has from an earlier connection; --admin shows them"
        );
    }
    shown
}

fn cluster(config: &Value) -> Vec<Row> {
    let cluster = &config["resource"];
    let discovery = match cluster["type"].as_str() {
        Some(kind) => kind.to_string(),
        None => "STATIC".into(),
    };
    vec![vec![
        text(&config["name"]),
        discovery,
        yes(!cluster["transport_socket"].is_null()),
        yes(list(&cluster["health_checks"]).next().is_some()),
        yes(!cluster["outlier_detection"].is_null()),
    ]]
}

fn endpoints(config: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for locality in list(&config["resource"]["endpoints"]) {
        for endpoint in list(&locality["lb_endpoints"]) {
            rows.push(vec![
                text(&config["name"]),
                address(&endpoint["endpoint"]["address"]),
                text(&locality["locality"]["zone"]),
                number(&locality["priority"], 0),
                number(&endpoint["load_balancing_weight"], 1),
                number(&locality["load_balancing_weight"], 1),
            ]);
        }
    }
    rows
}

fn hosts(hosts: &Value) -> String {
    let header = [
        "CLUSTER", "ENDPOINT", "ZONE", "PRIORITY", "WEIGHT", "HEALTH",
    ];
    let mut table = vec![header.map(str::to_string).to_vec()];
    table.extend(list(hosts).map(|host| {
        vec![
            text(&host["cluster"]),
            text(&host["address"]),
            text(&host["zone"]),
            number(&host["priority"], 0),
            number(&host["weight"], 1),
            text(&host["health"]),
        ]
    }));
    columns(&table)
}

fn listener(config: &Value) -> Vec<Row> {
    let listener = &config["resource"];
    let chains = || list(&listener["filter_chains"]);
    let mut routes: Vec<String> = managers(listener)
        .map(|manager| match &manager["rds"]["route_config_name"] {
            Value::Null => text(&manager["route_config"]["name"]),
            name => text(name),
        })
        .collect();
    routes.dedup();
    vec![vec![
        text(&config["name"]),
        address(&listener["address"]),
        text(&listener["traffic_direction"]),
        yes(chains().any(|chain| !chain["transport_socket"].is_null())),
        or_dash(routes.join(", ")),
    ]]
}

fn secret(config: &Value) -> Vec<Row> {
    const KINDS: [(&str, &str); 4] = [
        ("tls_certificate", "certificate and key"),
        ("validation_context", "trusted roots"),
        ("session_ticket_keys", "session ticket keys"),
        ("generic_secret", "generic secret"),
    ];
    let secret = &config["resource"];
    let holds = KINDS
        .into_iter()
        .find(|(field, _)| !secret[*field].is_null());
    let holds = holds.map_or("-", |(_, words)| words);
    vec![vec![text(&config["name"]), holds.into()]]
}

fn filter(config: &Value) -> Vec<Row> {
    let code = &config["resource"]["typed_config"]["config"]["vm_config"]["code"]["local"];
    let code = match (&code["filename"], &code["inline_bytes"]) {
        (Value::Null, Value::Null) => "-".into(),
        (Value::Null, inline) => format!(
            "inline {}",
            text(inline).chars().take(20).collect::<String>()
        ),
        (file, _) => text(file),
    };
    let policy = &config["policy"];
    let count = |field: &str| match policy[field].as_array() {
        Some(all) => all.len().to_string(),
        None if policy.is_null() => "-".into(),
        None => "0".into(),
    };
    vec![vec![
        text(&config["name"]),
        code,
        count("services"),
        count("traffic_classes"),
        text(&policy["zone"]),
    ]]
}

/// The parts that are not shown as resources.
fn bootstrap(bootstrap: &Value) -> String {
    let mut shown = String::from("\nBOOTSTRAP\n");
    let node = &bootstrap["node"];
    let lines = [
        ("node", text(&node["id"])),
        ("cluster", text(&node["cluster"])),
        ("zone", text(&node["locality"]["zone"])),
        ("admin", address(&bootstrap["admin"]["address"])),
    ];
    for (name, value) in lines {
        let _ = writeln!(shown, "{name:<8} {value}");
    }
    shown + "-o yaml shows all of it\n"
}

fn address(address: &Value) -> String {
    let socket = &address["socket_address"];
    match socket["address"].as_str() {
        Some(host) => crate::text::address(&printable(host), number(&socket["port_value"], 0)),
        None => "-".into(),
    }
}

/// Envoy leaves out what is as ever.
pub(super) fn number(value: &Value, absent: u64) -> String {
    value.as_u64().unwrap_or(absent).to_string()
}

fn yes(is: bool) -> String {
    match is {
        true => "yes".into(),
        false => "-".into(),
    }
}

fn or_dash(text: String) -> String {
    match text.is_empty() {
        true => "-".into(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn proxy(types: &Value) -> Value {
        json!({"proxies": [{
            "id": "edge", "cluster": "edge", "user_agent": "envoy", "version": "1.40.0",
            "locality": {"zone": "mumbai-west"}, "types": types,
        }]})
    }

    #[test]
    fn each_type_is_a_table_and_rejections_stand_below() {
        let answer = proxy(&json!([
            {"type": "CDS", "kept": 2, "configs": [
                {"name": "pay", "version": "v1", "state": "SYNCED",
                 "resource": {"type": "EDS", "transport_socket": {}}},
                {"name": "stock", "version": "v3", "state": "REJECTED", "keeps_older": false, "resource": null},
            ], "nack": {"version": "v3", "message": "bad\n\u{1b}stock"}},
            {"type": "RDS", "configs": [{"name": "edge", "version": "v1", "state": "SYNCED", "resource": {
                "virtual_hosts": [{"domains": ["*"], "routes": [
                    {"match": {"path": "/health"}, "direct_response": {"status": 200}},
                    {"match": {"path_separated_prefix": "/orders", "headers": [
                        {"name": "x-mumbai-version", "string_match": {"exact": "v2"}},
                        {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|PUT"}}},
                    ]}, "route": {"cluster": "pay|v2"}},
                    {"match": {"prefix": "/"}, "redirect": {"response_code": "PERMANENT_REDIRECT"}},
                ]}],
            }}]},
        ]));
        let expected = "\
edge of edge: envoy 1.40.0, zone mumbai-west

CLUSTER  DISCOVERY  TLS  HEALTH CHECK  OUTLIERS  VERSION  STATE
pay      EDS        yes  -             -         v1       SYNCED
stock    -          -    -             -         v3       REJECTED
CDS rejected version v3:
    bad
    \u{fffd}stock
CDS stock: the proxy has no version of it
CDS: 2 more that the proxy has from an earlier connection; --admin shows them

ROUTES  HOSTS  MATCH                                          TO                           VERSION  STATE
edge    *      /health                                        answer 200                   v1       SYNCED
edge    *      /orders/* x-mumbai-version=v2 :method~GET|PUT  pay|v2                       v1       SYNCED
edge    *      /*                                             redirect PERMANENT_REDIRECT  v1       SYNCED
";
        assert_eq!(config(&answer), expected);
    }

    #[test]
    fn an_envoys_own_endpoints_are_shown_as_it_uses_them() {
        let mut answer =
            proxy(&json!([{"type": "EDS", "configs": [{"name": "pay", "state": "ACTIVE"}]}]));
        answer["proxies"][0]["hosts"] = json!([
            {"cluster": "pay", "address": "10.0.0.1:80", "zone": "mumbai-west", "weight": 100, "health": "healthy"},
            {"cluster": "pay", "address": "10.0.0.2:80", "zone": "", "priority": 1, "health": "ejected"},
        ]);
        let expected = "\
edge of edge: envoy 1.40.0, zone mumbai-west

CLUSTER  ENDPOINT     ZONE         PRIORITY  WEIGHT  HEALTH
pay      10.0.0.1:80  mumbai-west  0         100     healthy
pay      10.0.0.2:80  -            1         1       ejected
";
        assert_eq!(config(&answer), expected);
    }
}
