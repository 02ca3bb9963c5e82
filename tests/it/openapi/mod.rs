//! The description of the API, held against the API: every route is in it, and what real calls answer, good ones and
//! refusals, is what it says.

mod calls;
mod judge;

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context, Result, ensure};
use harness::{artifacts, http::Client};
use serde_json::{Value, json};

pub use self::judge::Judge;
use crate::{command, mesh::Mesh};

const PATH: &str = "/api/v1/openapi.json";

fn said() -> Result<Value> {
    let (code, text, errors) = command::run(&["openapi"], &[])?;
    ensure!(code == Some(0), "{code:?} {errors}");
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn the_document_is_openapi_as_a_validator_of_others_reads_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("openapi.json");
    let valid = |document: &Value| -> Result<bool> {
        std::fs::write(&file, document.to_string())?;
        let mut command = Command::new(artifacts::openapi_validate()?);
        let output = command.args(["--schema", "3.1"]).arg(&file).output()?;
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(output.status.success())
    };
    let mut document = said()?;
    ensure!(valid(&document)?, "it is none");
    // The validator finds what is none.
    document["paths"]["/healthz"]["get"]["responses"] = Value::Null;
    ensure!(!valid(&document)?);
    Ok(())
}

#[test]
fn every_route_is_described_with_its_role_and_nothing_else_is() -> Result<()> {
    let document = said()?;
    let judge = Judge::new(document);
    let mut described = BTreeSet::new();
    for (method, path, operation) in judge.operations()? {
        let text = |field: &str| operation[field].as_str().unwrap_or_default().to_string();
        ensure!(!text("summary").is_empty(), "{method} {path}");
        let named = operation["parameters"].as_array().into_iter().flatten();
        let named = named.filter(|parameter| parameter["in"] == "path").count();
        ensure!(
            named == path.matches('{').count(),
            "{method} {path}: names in the path"
        );
        described.insert((method, path, text("x-role")));
    }
    let (_, told, _) = command::run(&["token", "roles", "-o", "json"], &[])?;
    let told: Value = serde_json::from_str(&told)?;
    let routes = told["routes"].as_array().context("no routes")?;
    let text = |route: &Value, field: &str| route[field].as_str().unwrap_or_default().to_string();
    let routes = routes.iter().map(|route| {
        (
            text(route, "method"),
            text(route, "path"),
            text(route, "needs"),
        )
    });
    let routes: BTreeSet<_> = routes.collect();
    ensure!(
        described == routes,
        "{:#?}",
        described.symmetric_difference(&routes)
    );
    Ok(())
}

#[test]
fn what_real_calls_answer_is_what_is_described() -> Result<()> {
    let mesh = Mesh::start_applied(None, |_| {})?;
    let served = mesh.server.api_get(PATH)?;
    ensure!(served == said()?, "the server serves another document");
    ensure!(served == mesh.server.api_get("/api/openapi.json")?);
    let mut judge = Judge::new(served);
    let mut client = Client::new(mesh.server.api);
    calls::all(&mut judge, &mut client)?;
    // Each route was called, and its good answer seen; that of what waits for a freeze is seen where one holds.
    let elsewhere = "POST /api/v1/files:apply";
    let unseen: Vec<String> = judge
        .operations()?
        .into_iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .filter(|name| {
            let statuses = judge.seen.get(name);
            name != elsewhere
                && !statuses.is_some_and(|seen| seen.iter().any(|status| *status < 300))
        })
        .collect();
    ensure!(unseen.is_empty(), "no good answer of {unseen:#?}");
    let seen: BTreeSet<u16> = judge.seen.values().flatten().copied().collect();
    for status in [200, 201, 204, 400, 403, 404, 409, 412, 413, 415] {
        ensure!(
            seen.contains(&status),
            "{status} was never answered: {seen:?}"
        );
    }
    Ok(())
}

/// The list of a page, by its name.
fn list(page: &Value) -> Result<(&String, &Vec<Value>)> {
    let fields = page.as_object().context("no page")?;
    let lists = fields
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_array()?)));
    // What is wrong with files is no part of it.
    let mut lists = lists.filter(|(name, _)| *name != "problems");
    lists.next().with_context(|| format!("no list: {page:#}"))
}

#[test]
fn every_list_that_may_be_long_comes_page_by_page_and_leaves_nothing_out() -> Result<()> {
    let mesh = Mesh::start_applied(None, |_| {})?;
    let mut client = Client::new(mesh.server.api);
    for number in 0..3 {
        let instance = format!("/api/v1/instances/order-service/i-{number}");
        let body = format!(
            "{{\"host\": \"127.0.0.1\", \"port\": {}, \"ttl\": \"1h\"}}",
            7200 + number
        );
        ensure!(
            client
                .request("PUT", &instance, &[], body.as_bytes())?
                .status
                == 201
        );
        let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let set = json!({"set": [{"@type": cluster, "name": format!("c{number}"), "connect_timeout": "1s"}],
            "nodes": match number { 0 => json!({"cluster": "edge"}), _ => json!(null) }});
        let mut set = set;
        if set["nodes"].is_null() {
            set.as_object_mut().context("no call")?.remove("nodes");
        }
        let applied = client.post("/api/v1/resources:apply", set.to_string().as_bytes())?;
        ensure!(applied.status == 200, "{:#}", applied.json()?);
    }
    let said = br#"{"kind": "peak", "for": "1h", "reason": "a try"}"#;
    let begun = client.post("/api/v1/services/order-service/override", said)?;
    ensure!(begun.status == 200, "{:#}", begun.json()?);

    let judge = Judge::new(said_by(&mut client)?);
    let mut lists = BTreeSet::new();
    for (method, path, operation) in judge.operations()? {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        if method != "GET" || !parameters.into_iter().any(|known| known["name"] == "limit") {
            continue;
        }
        let whole = client.get(&path, &[])?.json()?;
        let (name, all) = list(&whole)?;
        ensure!(
            whole["left_off"] == 0 && whole["next"].is_null(),
            "{path}: {whole:#}"
        );
        let (mut found, mut after) = (Vec::new(), String::new());
        for left in (0..all.len()).rev() {
            let page = client.get(&format!("{path}?limit=1{after}"), &[])?.json()?;
            let (_, part) = list(&page)?;
            ensure!(
                part.len() == 1 && page["left_off"] == left,
                "{path}{after}: {page:#}"
            );
            found.extend(part.iter().cloned());
            let next = match &page["next"] {
                Value::String(next) => next.clone(),
                next => next.to_string(),
            };
            ensure!((next == "null") == (left == 0), "{path}{after}: {page:#}");
            after = format!("&after={next}");
        }
        // Times of looking at them differ.
        let ids = |all: &[Value]| -> Vec<String> {
            let fields = ["id", "service", "name", "revision", "serial", "node"];
            let of = |one: &Value| fields.map(|field| one[field].to_string()).concat();
            all.iter().map(of).collect()
        };
        ensure!(ids(&found) == ids(all), "{path}: {found:#?}\n{all:#?}");
        for wrong in ["limit=0", "limit=1000000", "limit=x"] {
            let refused = client.get(&format!("{path}?{wrong}"), &[])?;
            ensure!(refused.status == 400, "{path}?{wrong}: {}", refused.status);
            let detail = refused.json()?["detail"].to_string();
            ensure!(detail.contains("limit"), "{detail}");
        }
        lists.insert(name.clone());
    }
    let expected = [
        "canaries",
        "certificates",
        "instances",
        "loads",
        "overrides",
        "proxies",
        "resources",
        "revisions",
        "services",
    ];
    ensure!(lists.iter().eq(expected), "{lists:?}");
    Ok(())
}

fn said_by(client: &mut Client) -> Result<Value> {
    client.get(PATH, &[])?.json()
}
