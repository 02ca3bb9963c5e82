//! What the windows on the fleet show of what its nodes say: API, command line, CSDS, metrics, log.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    http::Client,
    server::{self, Server},
    wait::wait_for,
    xds::{Api, Connection, Kind, Request, Service, Stream, Variant as Spoken, set_of},
};
use serde_json::{Value, json};

use crate::{
    door1::BOUND,
    grpcurl::{ADS, CSDS, Conversation, folder_of_grpcurl, run},
    mesh::{Mesh, Variant},
};

/// A server without Envoys.
fn serve(dir: &Path, mesh: &str, resources: Option<&Path>) -> Result<Server> {
    let options = server::Options {
        resources,
        ..server::Options::default()
    };
    Server::start(&Artifacts::from_env()?, dir, mesh, &options)
}

fn status_of(server: &Server, dir: &Path) -> Result<Value> {
    status_by(server, &folder_of_grpcurl(dir)?)
}

/// What CSDS says to the grpcurl of this path.
fn status_by(server: &Server, path: &Path) -> Result<Value> {
    let command = format!(
        "grpcurl -plaintext -d '{{}}' {} {CSDS}/FetchClientStatus",
        server.xds
    );
    Ok(serde_json::from_str(&run(&command, "", path)?)?)
}

fn proxy_status(server: &Server, extra: &[&str]) -> Result<String> {
    let output = Command::new(&Artifacts::from_env()?.server)
        .args([
            "proxy",
            "status",
            "--server",
            &format!("http://{}", server.api),
        ])
        .args(extra)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn shows_in_metrics(server: &Server) -> Result<()> {
    let metrics = String::from_utf8(Client::new(server.api).get("/metrics", &[])?.body)?;
    for line in [
        "xds_nacks_total{type=\"LDS\"} 1",
        "xds_rejecting_streams{type=\"LDS\"} 1",
        "xds_streams{service=\"ADS\",variant=\"sotw\"} 1",
        "xds_nodes 1",
    ] {
        ensure!(
            metrics.lines().any(|shown| shown == line),
            "{line}\n{metrics}"
        );
    }
    Ok(())
}

fn shows_in_log(server: &Server, nonce: &Value, words: &str) -> Result<()> {
    let log = server.log();
    let line = log.lines().find(|line| line.contains("rejected (NACK)"));
    let line = line.context("no line in the log")?;
    let nonce = nonce.as_str().context("no nonce")?;
    let nonce = format!("nonce={nonce}");
    let reason = format!("reason=\"{words}\"");
    for part in ["WARN", "node=\"edge-1\"", "type=\"LDS\"", &nonce, &reason] {
        ensure!(line.contains(part), "{part}: {line}");
    }
    Ok(())
}

#[test]
fn a_rejection_is_seen_in_every_window_with_its_words() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = "timezone: Asia/Kolkata\ngateways:\n  edge: {listen: 127.0.0.1:1}\n";
    let server = serve(dir.path(), mesh, None)?;
    let method = format!("{ADS}/StreamAggregatedResources");
    let mut stream = Conversation::open(dir.path(), &server.xds.to_string(), &method)?;
    let listeners = "type.googleapis.com/envoy.config.listener.v3.Listener";
    let node = json!({"id": "edge-1", "cluster": "edge"});
    stream.say(&json!({"node": node, "type_url": listeners}))?;
    let offered = stream.hear()?;
    let words = "error adding listener 'edge': Permission denied";
    stream.say(&json!({
        "type_url": listeners, "response_nonce": offered["nonce"],
        "error_detail": {"code": 13, "message": words},
    }))?;

    let proxy = wait_for("the rejection at the API", BOUND, || {
        let page = server.api_get("/api/v1/proxies?node=edge-1");
        let mut page = page.map_err(|error| error.to_string())?;
        match page["proxies"][0]["state"] == "REJECTED" {
            true => Ok(page["proxies"][0].take()),
            false => Err(page.to_string()),
        }
    })?;
    let stream_shown = &proxy["streams"][0];
    ensure!(
        stream_shown["service"] == "ADS" && stream_shown["variant"] == "sotw",
        "{proxy}"
    );
    let nack = &stream_shown["types"][0]["nack"];
    ensure!(nack["message"] == words, "{proxy}");
    ensure!(nack["version"] == offered["versionInfo"], "{proxy}");
    ensure!(
        nack["at"].as_str().is_some_and(|at| at.ends_with("+05:30")),
        "{proxy}"
    );

    let table = proxy_status(&server, &[])?;
    ensure!(
        table.contains("edge-1") && table.contains("REJECTED"),
        "{table}"
    );
    ensure!(table.contains(&format!("\n    {words}\n")), "{table}");
    let yaml = proxy_status(&server, &["edge-1", "-o", "yaml"])?;
    ensure!(yaml.contains("state: REJECTED"), "{yaml}");

    shows_in_metrics(&server)?;
    let status = status_of(&server, dir.path())?;
    let config = &status["config"][0]["genericXdsConfigs"][0];
    ensure!(config["configStatus"] == "ERROR", "{status}");
    ensure!(config["errorState"]["details"] == words, "{status}");
    shows_in_log(&server, &offered["nonce"], words)?;
    drop(stream);
    wait_for("the stream to be forgotten", BOUND, || {
        let page = server.api_get("/api/v1/proxies");
        let page = page.map_err(|error| error.to_string())?;
        match page["proxies"] == json!([]) {
            true => Ok(()),
            false => Err(page.to_string()),
        }
    })
}

#[test]
fn a_private_key_reaches_its_node_and_nobody_else() -> Result<()> {
    const KEY: &str = "known-canary";
    let dir = tempfile::tempdir()?;
    let resources = dir.path().join("resources");
    fs::create_dir(&resources)?;
    let secrets = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let secret = json!({
        "@type": secrets, "name": "orders", "tls_certificate": {
            "certificate_chain": {"inline_string": "public chain"},
            "private_key": {"inline_string": KEY},
        },
    });
    fs::write(resources.join("secret.json"), secret.to_string())?;
    let server = serve(dir.path(), "{}", Some(&resources))?;
    let method = format!("{ADS}/DeltaAggregatedResources");
    let mut stream = Conversation::open(dir.path(), &server.xds.to_string(), &method)?;
    let node = json!({"id": "orders-1", "cluster": "orders"});
    let subscribe = json!(["orders"]);
    stream
        .say(&json!({"node": node, "type_url": secrets, "resource_names_subscribe": subscribe}))?;
    let offered = stream.hear()?.to_string();
    ensure!(offered.contains(KEY), "the node needs it: {offered}");

    let status = status_of(&server, dir.path())?;
    let config = &status["config"][0]["genericXdsConfigs"][0];
    let certificate = &config["xdsConfig"]["tlsCertificate"];
    ensure!(
        certificate["privateKey"]["inlineString"] == "[redacted]",
        "{status}"
    );
    ensure!(
        certificate["certificateChain"]["inlineString"] == "public chain",
        "{status}"
    );
    let get = |path: &str| -> Result<String> {
        Ok(String::from_utf8(
            Client::new(server.api).get(path, &[])?.body,
        )?)
    };
    let windows = [
        ("CSDS", status.to_string()),
        ("log", server.log()),
        ("proxies", get("/api/v1/proxies")?),
        ("resources", get("/api/v1/resources?full=true")?),
        ("metrics", get("/metrics")?),
    ];
    for (window, shown) in windows {
        ensure!(!shown.contains(KEY), "{window}: {shown}");
    }
    Ok(())
}

/// What CSDS tells of each cluster: `name version status at-the-client`, and its error.
fn clusters_in_csds(server: &Server, path: &Path) -> Result<Vec<(String, Value)>> {
    let status = status_by(server, path)?;
    let configs = status["config"][0]["genericXdsConfigs"].as_array();
    let configs = configs.into_iter().flatten();
    let configs = configs.filter(|config| config["typeUrl"] == Kind::Cluster.url());
    let one = |config: &Value| {
        let field = |name: &str| config[name].as_str().unwrap_or_default().to_string();
        let words = ["name", "versionInfo", "configStatus", "clientStatus"].map(field);
        (words.join(" "), config["errorState"].clone())
    };
    Ok(configs.map(one).collect())
}

/// Waits until CSDS tells this of the clusters; gives their errors.
fn wait_for_clusters(server: &Server, path: &Path, expected: &[String]) -> Result<Vec<Value>> {
    wait_for("CSDS to tell of the clusters", BOUND, || {
        let told = clusters_in_csds(server, path).map_err(|error| format!("{error:#}"))?;
        let (words, errors): (Vec<String>, Vec<Value>) = told.into_iter().unzip();
        match words == expected {
            true => Ok(errors),
            false => Err(format!("{words:#?}, not {expected:#?}")),
        }
    })
}

#[test]
fn csds_tells_resource_by_resource_what_became_of_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = serve(dir.path(), "{}", None)?;
    let path = folder_of_grpcurl(dir.path())?;
    let api = Api::new(server.api);
    let set = |marks: &[(&str, &str)]| {
        let set = marks
            .iter()
            .map(|(name, mark)| set_of(Kind::Cluster, name, mark));
        api.apply(&json!({"set": set.collect::<Vec<_>>()}))
    };
    set(&[("a", "one"), ("b", "one")])?;
    let connection = Connection::open(server.xds)?;
    let open = || Stream::open(&connection, Spoken::Delta, Service::Ads, "edge-1");
    let mut stream = open();
    stream.subscribe(Kind::Cluster, &["a", "b", "never"]);
    let first = stream.take(Kind::Cluster)?;
    let version = |name: &str| first.resources[name].version.clone();
    let (a, b) = (version("a"), version("b"));
    let line = |name: &str, version: &str, status: &str| format!("{name} {version} {status}");
    let never = line("never", "", "NOT_SENT DOES_NOT_EXIST");
    let accepted = |name: &str, version: &str| line(name, version, "SYNCED ACKED");
    let expected = [accepted("a", &a), accepted("b", &b), never.clone()];
    wait_for_clusters(&server, &path, &expected)?;

    set(&[("b", "two")])?;
    let second = stream.next(Kind::Cluster)?;
    stream.nack(&second, "no such thing");
    let rejected = second.resources["b"].version.clone();
    let expected = [
        accepted("a", &a),
        line("b", &rejected, "ERROR NACKED"),
        never.clone(),
    ];
    let errors = wait_for_clusters(&server, &path, &expected)?;
    ensure!(errors[1]["details"] == "no such thing", "{errors:?}");
    ensure!(errors[1]["versionInfo"] == *rejected, "{errors:?}");
    ensure!(errors[0].is_null() && errors[2].is_null(), "{errors:?}");

    // It comes back and says what it has: of a what there is, of b something older.
    drop(stream);
    wait_for_clusters(&server, &path, &[])?;
    let mut stream = open();
    let request = Request::of(Kind::Cluster).names(&["a", "b", "never"]);
    stream.send(request.known(&[("a", &a), ("b", &b)]));
    let third = stream.take(Kind::Cluster)?;
    ensure!(third.names() == ["b"], "{third:?}");
    let expected = [accepted("a", &a), accepted("b", &rejected), never];
    wait_for_clusters(&server, &path, &expected)?;
    Ok(())
}

/// What the gateway reported of one cluster, once `is_enough` says so of its total.
fn reported(mesh: &Mesh, what: &str, is_enough: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_for(what, BOUND, || {
        let loads = mesh.server.api_get("/api/v1/loads?cluster=order-service");
        let mut loads = loads.map_err(|error| error.to_string())?;
        match is_enough(&loads["loads"][0]["clusters"][0]["total"]) {
            true => Ok(loads["loads"][0].take()),
            false => Err(loads.to_string()),
        }
    })
}

#[test]
fn envoys_report_what_they_sent_to_each_cluster() -> Result<()> {
    const REQUESTS: u64 = 40;
    let every_second = ["--load-report-interval", "1s"];
    let mesh = Mesh::start_served(Variant::Delta, None, &every_second, |file| {
        file.weight = "0";
    })?;
    // An Envoy counts a cluster from the report period on that begins after it came.
    let first = reported(&mesh, "the gateway's first report", |total| {
        total["reports"].as_u64() > Some(0)
    })?;
    let before = first["clusters"][0]["total"]["issued"].as_u64();
    let expected = before.context("nothing issued")? + REQUESTS;
    let mut client = mesh.client();
    for _ in 0..REQUESTS {
        ensure!(client.get("/orders", &[])?.status == 200);
    }
    let node = reported(&mesh, "the gateway to report all requests", |total| {
        total["issued"].as_u64() >= Some(expected)
    })?;
    ensure!(
        node["node"] == "edge" && node["connected"] == true,
        "{node}"
    );
    let total = &node["clusters"][0]["total"];
    ensure!(total["issued"] == expected, "{expected}: {node}");
    ensure!(
        total["successful"] == expected && total["error"] == 0,
        "{node}"
    );
    let metrics = Client::new(mesh.server.api).get("/metrics", &[])?.body;
    let metrics = String::from_utf8(metrics)?;
    ensure!(
        metrics.contains("\nxds_load_report_streams 1\n"),
        "{metrics}"
    );
    Ok(())
}
