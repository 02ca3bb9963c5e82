//! Mutual TLS between real Envoys: who is let in, who calls, and certificates that are renewed under load.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    certificate::{Authority, Beside, Certificate, client_to},
    demo_services::DemoService,
    envoy::Envoy,
    http::{self, Client},
    load::Load,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::{
    door1::{BOUND, seen},
    mesh::{Variant, start_envoy},
};

const XFCC: &str = "x-forwarded-client-cert";

/// A gateway, a second one, and a service behind its sidecar; the server demands certificates too.
struct World {
    gateway: u16,
    second: u16,
    inbound: u16,
    sidecar: Envoy,
    edge: Envoy,
    edge2: Envoy,
    server: Server,
    _payment: DemoService,
    dir: tempfile::TempDir,
}

fn mesh(world: (u16, u16, u16), application: u16, mtls: &str) -> String {
    let (gateway, second, inbound) = world;
    format!(
        "\
services:
  payment-service:
    port: {application}
    mtls: {mtls}
    endpoints: [{{id: payment-1, host: 127.0.0.1, port: {inbound}}}]
gateways:
  edge:
    listen: 127.0.0.1:{gateway}
    routes: [{{match: {{path_prefix: /}}, service: payment-service}}]
  edge2:
    listen: 127.0.0.1:{second}
    routes: [{{match: {{path_prefix: /}}, service: payment-service}}]
"
    )
}

impl World {
    fn start(mtls: &str, arguments: &[&str]) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let payment = DemoService::start(&artifacts, dir.path(), "payment-service", "v1")?;
        let ports = (free_port(), free_port(), free_port());
        let mut all = vec!["--xds-tls", "on"];
        all.extend(arguments);
        let options = server::Options {
            arguments: &all,
            ..server::Options::default()
        };
        let mesh = mesh(ports, payment.addr.port(), mtls);
        let server = Server::start(&artifacts, dir.path(), &mesh, &options)?;
        let state_dir = server.state_dir().display().to_string();
        let outbound = free_port().to_string();
        let start = |name: &str, more: &[&str]| {
            let mut extra = vec!["--state-dir", state_dir.as_str()];
            extra.extend(more);
            start_envoy(
                &artifacts,
                dir.path(),
                &server,
                name,
                Variant::Delta,
                &extra,
                None,
            )
        };
        let world = Self {
            sidecar: start("payment-service", &["--outbound-port", &outbound])?,
            edge: start("edge", &[])?,
            edge2: start("edge2", &[])?,
            gateway: ports.0,
            second: ports.1,
            inbound: ports.2,
            server,
            _payment: payment,
            dir,
        };
        for port in [world.gateway, world.second] {
            wait_for(
                "a gateway to reach the sidecar",
                BOUND,
                || match Client::new(address(port)).get("/", &[]) {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => Err(format!("status {}", answer.status)),
                    Err(error) => Err(format!("{error:#}")),
                },
            )?;
        }
        Ok(world)
    }

    /// Whom the sidecar saw calling through this port.
    fn caller(&self, port: u16) -> Result<Option<String>> {
        let forged: &[(&str, &[u8])] = &[(XFCC, b"URI=spiffe://mumbai.mesh/ns/default/sa/forged")];
        let answer = Client::new(address(port)).get("/", forged)?;
        ensure!(answer.status == 200, "{}", answer.status);
        seen(&answer, XFCC)
    }

    /// What comes back from the sidecar's port for a request by TLS with this certificate.
    fn by_tls(&self, certificate: Option<&Certificate>) -> Result<String> {
        let roots = beside(self.dir.path(), "edge")?.roots;
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let name = "payment-service.mumbai.mesh";
        client_to(address(self.inbound), name, &roots, certificate, request)
    }
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The files of an Envoy's bootstrap.
fn beside(dir: &Path, name: &str) -> Result<Beside> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let number = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'));
        if number.is_some_and(|number| number.parse::<u16>().is_ok()) {
            return Beside::read(&path);
        }
    }
    anyhow::bail!("no bootstrap of {name}")
}

#[test]
fn a_sidecar_lets_in_whom_the_mesh_vouches_for_and_tells_its_application_who_calls() -> Result<()> {
    let world = World::start("strict", &[])?;
    for (port, name) in [(world.gateway, "edge"), (world.second, "edge2")] {
        let caller = world.caller(port)?.context("no caller")?;
        let uri = format!("URI=spiffe://mumbai.mesh/ns/default/sa/{name}");
        ensure!(
            caller.ends_with(&uri) && !caller.contains("forged"),
            "{caller}"
        );
    }
    // In plaintext nobody answers.
    let plain = http::raw(address(world.inbound), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
    ensure!(plain.is_empty(), "{}", String::from_utf8_lossy(&plain));
    // By TLS: without a certificate, with that of another authority, of another trust domain, and of
    // the server, which is no caller.
    let authority = Authority::of(world.server.state_dir())?;
    let member = "spiffe://mumbai.mesh/ns/default/sa/order-service";
    let foreign = Authority::of_nobody()?.issue("x", &[member])?;
    let elsewhere = authority.issue("x", &["spiffe://other.mesh/ns/default/sa/order-service"])?;
    let server = authority.issue("x", &["spiffe://mumbai.mesh/ns/mumbai-mesh/sa/server"])?;
    for shown in [None, Some(&foreign), Some(&elsewhere), Some(&server)] {
        let answer = world.by_tls(shown)?;
        ensure!(!answer.contains("200 OK"), "{answer}");
    }
    let answer = world.by_tls(Some(&authority.issue("x", &[member])?))?;
    ensure!(
        answer.contains("200 OK") && answer.contains(member),
        "{answer}"
    );
    let handshakes = format!("listener.127.0.0.1_{}.ssl", world.inbound);
    let count = |name: &str| world.sidecar.stat(&format!("{handshakes}.{name}"));
    ensure!(
        count("versions.TLSv1.3") >= Some(3),
        "{:?}",
        count("versions.TLSv1.3")
    );
    ensure!(count("fail_verify_no_cert") == Some(1));
    ensure!(count("fail_verify_san") == Some(2));
    Ok(())
}

#[test]
fn a_permissive_sidecar_serves_plaintext_too_and_off_serves_nothing_else() -> Result<()> {
    let world = World::start("permissive", &[])?;
    let caller = world.caller(world.gateway)?.context("no caller")?;
    ensure!(caller.contains("sa/edge"), "{caller}");
    let plain = world.caller(world.inbound)?;
    ensure!(plain.is_none(), "a plaintext caller is nobody: {plain:?}");

    let world = World::start("off", &[])?;
    ensure!(world.caller(world.gateway)?.is_none());
    ensure!(world.caller(world.inbound)?.is_none());
    Ok(())
}

/// A cluster as an Envoy has it.
fn cluster(envoy: &Envoy, name: &str) -> Result<Value> {
    let dump = envoy.admin("/config_dump?resource=dynamic_active_clusters")?;
    let dump: Value = serde_json::from_str(&dump)?;
    let clusters = dump["configs"].as_array().context("no clusters")?;
    let mut clusters = clusters.iter().map(|one| &one["cluster"]);
    let found = clusters.find(|one| one["name"] == name);
    found.cloned().with_context(|| format!("no {name}: {dump}"))
}

/// The certificate of the caller, by the hash that the sidecar saw.
fn hash(caller: &str) -> Option<String> {
    let mut parts = caller.split(';');
    parts.find_map(|part| part.strip_prefix("Hash=").map(str::to_string))
}

#[test]
fn certificates_are_renewed_ten_times_under_load_without_a_failed_request() -> Result<()> {
    const RENEWALS: usize = 10;
    let world = World::start("strict", &["--service-cert-validity", "7s"])?;
    // The second gateway opens connections all the time, the first one keeps its own.
    let mut churned = cluster(&world.edge2, "payment-service")?;
    let options = &mut churned["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    options["common_http_protocol_options"]["max_requests_per_connection"] = json!(5);
    let body = json!({"set": [churned], "nodes": {"cluster": "edge2"}, "override": true});
    let (status, answer) = world
        .server
        .api_post("/api/v1/resources:apply", body.to_string().as_bytes())?;
    ensure!(status == 200, "{answer}");

    let kept = Load::start(address(world.gateway), 2, "/");
    let fresh = Load::start(address(world.second), 2, "/");
    let (mut servers, mut callers) = (BTreeSet::new(), BTreeSet::new());
    wait_for(
        "ten renewals on both sides",
        Duration::from_secs(180),
        || {
            let mut look = || -> Result<()> {
                let caller = world.caller(world.second)?.context("no caller")?;
                callers.extend(hash(&caller));
                let all = world.server.api_get("/api/v1/certificates")?;
                let all = all["certificates"].as_array().cloned().unwrap_or_default();
                let payment = all.iter().find(|one| one["name"] == "payment-service");
                servers.extend(payment.and_then(|one| Some(one["serial"].as_str()?.to_string())));
                Ok(())
            };
            look().map_err(|error| format!("{error:#}"))?;
            if servers.len() > RENEWALS && callers.len() > RENEWALS {
                Ok(())
            } else {
                Err(format!(
                    "serials {}, callers' {}",
                    servers.len(),
                    callers.len()
                ))
            }
        },
    )?;
    for (name, load) in [("kept", kept), ("churned", fresh)] {
        let report = load.stop();
        ensure!(report.failures.is_empty(), "{name}: {report:?}");
        ensure!(report.ok > 1000, "{name}: {report:?}");
    }
    // Handshakes with each of them: the churned gateway reconnected, the kept one hardly ever did.
    let handshakes = |envoy: &Envoy| envoy.stat("cluster.payment-service.ssl.handshake");
    let (kept, fresh) = (handshakes(&world.edge), handshakes(&world.edge2));
    ensure!(
        fresh > Some(100) && kept < Some(20),
        "kept {kept:?}, churned {fresh:?}"
    );
    let refused = format!("listener.127.0.0.1_{}.ssl.connection_error", world.inbound);
    ensure!(world.sidecar.stat(&refused) == Some(0));
    Ok(())
}

/// Whoever cannot read a file of `bootstrap` cannot be its Envoy: so a renewed one must be taken up while
/// Envoy runs.
#[test]
fn an_envoy_takes_up_a_new_certificate_for_the_server_without_a_restart() -> Result<()> {
    let world = World::start("strict", &[])?;
    let before = beside(world.dir.path(), "edge")?;
    let folder = before.file.parent().context("no folder")?.to_path_buf();
    let state_dir = world.server.state_dir().display().to_string();
    let admin: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("envoy.yaml"))?)?;
    let port = &admin["admin"]["address"]["socket_address"]["port_value"];
    let port = u16::try_from(port.as_u64().context("no port")?)?;
    let rotated = world.edge.stat("sds.xds_certificate.update_success");
    world
        .server
        .bootstrap("edge", port, &folder, &["--state-dir", &state_dir])?;
    ensure!(Beside::read(&folder)?.certificate.chain != before.certificate.chain);
    wait_for("Envoy to read its new certificate", BOUND, || {
        let now = world.edge.stat("sds.xds_certificate.update_success");
        if now > rotated {
            Ok(())
        } else {
            Err(format!("{rotated:?}, {now:?}"))
        }
    })?;
    Ok(())
}

/// Neither by the server nor by the Envoy itself, in whatever form.
#[test]
fn proxy_config_shows_certificates_and_never_their_keys() -> Result<()> {
    let world = World::start("strict", &[])?;
    let server = format!("http://{}", world.server.api);
    let admin = world.edge.admin_address();
    let sources: [&[&str]; 2] = [&["edge", "--server", &server], &["--admin", &admin]];
    for source in sources {
        let shown = |more: &[&str]| {
            let command = ["proxy", "config"];
            world.server.command(&[&command, source, more].concat())
        };
        let told: Value = serde_json::from_str(&shown(&["-o", "json"])?)?;
        let types = told["proxies"][0]["types"].as_array().context("no types")?;
        let secrets = types
            .iter()
            .find(|kind| kind["type"] == "SDS")
            .context("no SDS")?;
        let configs = secrets["configs"].as_array().context("no secrets")?;
        let mut certificates = configs
            .iter()
            .map(|one| &one["resource"]["tls_certificate"]);
        let own = certificates
            .find(|one| !one.is_null())
            .context("no certificate")?;
        ensure!(!own["certificate_chain"].is_null(), "{secrets:#}");
        let key = &own["private_key"];
        // The bytes of `[redacted]`.
        ensure!(
            key["inline_string"] == "[redacted]" || key["inline_bytes"] == "W3JlZGFjdGVkXQ==",
            "{secrets:#}"
        );
        for form in ["json", "yaml", "table"] {
            let text = shown(&["-o", form])?;
            ensure!(!text.contains("PRIVATE KEY"), "{form}: {text}");
        }
    }
    let table = world
        .server
        .command(&["proxy", "config", "edge", "secrets", "--server", &server])?;
    ensure!(
        table.contains("certificate and key") && table.contains("trusted roots"),
        "{table}"
    );
    Ok(())
}
