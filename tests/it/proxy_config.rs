//! `mumbai-mesh proxy config`: what the server says that it sent, and what the Envoy says that it has.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use harness::{http::Client, wait::wait_for};
use serde_json::{Value, json};

use crate::{
    command,
    door1::BOUND,
    grpcurl::{ADS, Conversation},
    mesh::Mesh,
};

fn told(arguments: &[&str]) -> Result<Value> {
    let (code, out, errors) = run(&[arguments, &["-o", "json"]].concat())?;
    ensure!(code == Some(0), "{arguments:?}: {errors}");
    Ok(serde_json::from_str(&out)?)
}

fn run(arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    command::run(&["proxy", "config"], arguments)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Type and name of everything, with its state and its content.
fn configs(answer: &Value) -> BTreeMap<(String, String), (String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut all = BTreeMap::new();
    for kind in list(&answer["proxies"][0]["types"]) {
        for config in list(&kind["configs"]) {
            let key = (text(&kind["type"]), text(&config["name"]));
            all.insert(key, (text(&config["state"]), config["resource"].clone()));
        }
    }
    all
}

/// Whether an Envoy has all that it was sent. It fills in what was left out, and writes 10 for 10.0.
fn has(had: &Value, sent: &Value) -> bool {
    match (had, sent) {
        (Value::Number(had), Value::Number(sent)) => had.as_f64() == sent.as_f64(),
        (Value::Array(had), Value::Array(sent)) => {
            had.len() == sent.len() && had.iter().zip(sent).all(|(had, sent)| has(had, sent))
        }
        (Value::Object(had), Value::Object(sent)) => sent
            .iter()
            .all(|(name, sent)| has(had.get(name).unwrap_or(&Value::Null), sent)),
        (had, sent) => had == sent,
    }
}

#[test]
fn what_the_server_sent_is_what_the_envoy_has() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let server = format!("http://{}", mesh.server.api);
    let admin = mesh.gateway.admin_address();
    let sent = configs(&told(&["edge", "--server", &server])?);
    let had = configs(&told(&["--admin", &admin])?);
    for kind in ["CDS", "EDS", "ECDS", "LDS", "RDS"] {
        ensure!(
            sent.keys().any(|(known, _)| known == kind),
            "no {kind}: {sent:#?}"
        );
    }
    for (key, (state, content)) in &sent {
        ensure!(state == "SYNCED", "{key:?} is {state}");
        let (state, had) = had.get(key).with_context(|| format!("{key:?}: {had:#?}"))?;
        ensure!(state == "ACTIVE", "{key:?} is {state} there");
        ensure!(
            has(had, content),
            "{key:?}: {content:#} sent, {had:#} there"
        );
    }
    let static_ones = had.iter().filter(|(_, (state, _))| state == "STATIC");
    ensure!(
        static_ones.count() > 0,
        "the bootstrap's cluster is shown too"
    );
    Ok(())
}

#[test]
fn it_is_narrowed_by_kind_name_service_and_port_and_the_policy_is_readable() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let server = format!("http://{}", mesh.server.api);
    let names = |arguments: &[&str]| -> Result<Vec<String>> {
        let all = configs(&told(&[arguments, &["--server", &server]].concat())?);
        Ok(all
            .keys()
            .map(|(kind, name)| format!("{kind} {name}"))
            .collect())
    };
    ensure!(
        names(&["edge", "clusters"])? == ["CDS order-service", "CDS order-service|v2"],
        "{:?}",
        names(&["edge", "clusters"])?
    );
    ensure!(names(&["edge", "--name", "order-service|v2"])?.len() == 2);
    let of_service = names(&["edge", "all", "--service", "order-service"])?;
    ensure!(
        of_service
            == [
                "CDS order-service",
                "CDS order-service|v2",
                "EDS order-service",
                "EDS order-service|v2",
                "RDS edge"
            ],
        "{of_service:?}"
    );
    let port = mesh.file.canary.to_string();
    ensure!(names(&["edge", "--port", &port])? == ["EDS order-service|v2"]);
    let filter = told(&["edge", "filter", "--server", &server])?;
    let policy = &filter["proxies"][0]["types"][0]["configs"][0]["policy"];
    ensure!(
        policy["services"][0]["canary"]["weight"] == 10,
        "{filter:#}"
    );

    let admin = mesh.gateway.admin_address();
    let hosts = told(&["endpoints", "--admin", &admin, "--service", "order-service"])?;
    let hosts = list(&hosts["proxies"][0]["hosts"]);
    let hosts: Vec<&Value> = hosts.map(|host| &host["health"]).collect();
    ensure!(hosts == [&json!("healthy"), &json!("healthy")], "{hosts:?}");
    let (_, table, _) = run(&["--admin", &admin])?;
    for words in [
        "CLUSTER",
        "LISTENER",
        "/orders/*",
        "x-mumbai-version=v2",
        "healthy",
        "BOOTSTRAP",
    ] {
        ensure!(table.contains(words), "no {words}: {table}");
    }
    let (_, yaml, _) = run(&["edge", "--server", &server, "-o", "yaml"])?;
    ensure!(yaml.contains("state: SYNCED"), "{yaml}");
    Ok(())
}

#[test]
fn what_cannot_be_told_is_said_with_the_way_out() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let server = format!("http://{}", mesh.server.api);
    let admin = mesh.gateway.admin_address();
    let api = mesh.server.api.to_string();
    let xds = mesh.server.xds.to_string();
    let nobody = format!("127.0.0.1:{}", harness::ports::free_port());
    let cases: [(&[&str], i32, &str); 9] = [
        (
            &["egde", "--server", &server],
            1,
            "no proxy \"egde\" is connected; did you mean \"edge\"?",
        ),
        (
            &["zzz", "--server", &server],
            1,
            "`mumbai-mesh proxy status` lists those that are",
        ),
        (&["--server", &server], 64, "name a node"),
        (
            &["edge", "bootstrap", "--server", &server],
            64,
            "ask the Envoy itself with --admin",
        ),
        (&["--admin", &nobody], 1, "no Envoy can be reached at"),
        (
            &["--admin", &api],
            1,
            "is no admin interface of an Envoy: it answers 404",
        ),
        (
            &["--admin", &xds],
            1,
            "speaks HTTP/1.1 without TLS, and nothing else",
        ),
        (&["--admin", "9901"], 64, "must be HOST:PORT"),
        (
            &["everything", "--admin", &admin],
            64,
            "one of clusters, listeners",
        ),
    ];
    for (arguments, code, words) in cases {
        let (found, _, errors) = run(arguments)?;
        ensure!(found == Some(code), "{arguments:?}: {found:?} {errors}");
        ensure!(errors.contains(words), "{arguments:?}: {errors}");
    }
    let unknown = Client::new(mesh.server.api).get("/api/v1/proxies/edge/config?type=XDS", &[])?;
    ensure!(unknown.status == 400, "{}", unknown.status);
    Ok(())
}

#[test]
fn a_rejected_resource_is_shown_with_the_words_of_its_proxy() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    mesh.change(|file| file.weight = "20")?;
    let method = format!("{ADS}/DeltaAggregatedResources");
    let mut stream = Conversation::open(mesh.dir.path(), &mesh.server.xds.to_string(), &method)?;
    let clusters = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let node = json!({"id": "picky/1", "cluster": "edge"});
    stream.say(&json!({"node": node, "type_url": clusters, "resource_names_subscribe": ["*"]}))?;
    let offered = stream.hear()?;
    stream.say(&json!({
        "type_url": clusters, "response_nonce": offered["nonce"],
        "error_detail": {"code": 13, "message": "order-service|v2: no, thank you"},
    }))?;
    let server = format!("http://{}", mesh.server.api);
    let told = wait_for("the rejection", BOUND, || {
        let told = told(&["picky/1", "--server", &server]).map_err(|error| format!("{error:#}"))?;
        match told["proxies"][0]["types"][0]["state"] == "REJECTED" {
            true => Ok(told),
            false => Err(told.to_string()),
        }
    })?;
    let nack = &told["proxies"][0]["types"][0]["nack"]["message"];
    ensure!(nack == "order-service|v2: no, thank you", "{told:#}");
    let all = configs(&told);
    let (state, _) = &all[&("CDS".into(), "order-service|v2".into())];
    ensure!(state == "REJECTED", "{told:#}");
    let (_, table, _) = run(&["picky/1", "--server", &server])?;
    ensure!(
        table.contains("\n    order-service|v2: no, thank you\n"),
        "{table}"
    );
    Ok(())
}
