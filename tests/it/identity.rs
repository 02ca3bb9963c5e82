//! Who may have what: the xDS port with certificates, asked by clients that show the right one, another
//! one, or none.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::{
    config::core::v3::{Node, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{Secret, secret},
    service::health::v3::{
        HealthCheckRequest, HealthCheckRequestOrEndpointHealthResponse,
        health_check_request_or_endpoint_health_response::RequestType,
    },
};
use harness::{
    artifacts::Artifacts,
    certificate::{Authority, Beside, Certificate},
    clock::Clock,
    http::Client,
    server::{self, Server},
    wait::wait_for,
    xds::{Connection, Kind, Request, Service, Stream, Variant},
};
use prost::Message as _;
use tonic::Code;

use crate::door1::BOUND;

const MESH: &str = "\
services:
  order-service:
    port: 8080
    endpoints: [{id: order-1, host: 127.0.0.1, port: 15006}]
  payment-service:
    port: 8081
    endpoints: [{id: payment-1, host: 127.0.0.1, port: 15016}]
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes: [{match: {path_prefix: /}, service: order-service}]
";
const ORDERS: &str = "spiffe://mumbai.mesh/ns/default/sa/order-service";
const CSDS: &str = "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const HEALTH: &str = "/grpc.health.v1.Health/Watch";
const HEALTH_CHECKS: &str = "/envoy.service.health.v3.HealthDiscoveryService/StreamHealthCheck";
const LOADS: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";

/// A server that demands certificates.
struct World {
    server: Server,
    dir: tempfile::TempDir,
}

impl World {
    fn start() -> Result<Self> {
        Self::start_with(&server::Options::default())
    }

    fn start_with(options: &server::Options<'_>) -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let options = server::Options {
            arguments: &["--xds-tls", "on"],
            ..*options
        };
        let server = Server::start(&artifacts, dir.path(), MESH, &options)?;
        Ok(Self { server, dir })
    }

    /// As `bootstrap` gives it to a node.
    fn node(&self, name: &str, extra: &[&str]) -> Result<Beside> {
        let folder = self.dir.path().join(name);
        let state_dir = self.server.state_dir().display().to_string();
        let mut arguments = vec!["--state-dir", &state_dir];
        arguments.extend(extra);
        self.server.bootstrap(name, 0, &folder, &arguments)?;
        Beside::read(&folder)
    }

    fn connect(&self, beside: &Beside) -> Result<Connection> {
        self.show(beside, Some(&beside.certificate))
    }

    /// Trusts whom a node trusts, and shows this.
    fn show(&self, beside: &Beside, certificate: Option<&Certificate>) -> Result<Connection> {
        Connection::open_tls(self.server.xds, &beside.roots, certificate)
    }

    fn metric(&self, line: &str) -> Result<f64> {
        let page = Client::new(self.server.api).get("/metrics", &[])?;
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let value = page
            .lines()
            .find_map(|known| known.strip_prefix(line)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no {line} in {page}"))?;
        Ok(value.parse()?)
    }
}

fn node(id: &str, cluster: &str) -> Node {
    Node {
        id: id.into(),
        cluster: cluster.into(),
        ..Node::default()
    }
}

fn stream(connection: &Connection, variant: Variant, service: Service) -> Stream {
    Stream::open(connection, variant, service, "")
}

/// Asks for a type as this node.
fn ask(stream: &mut Stream, node: Node, kind: Kind, names: &[&str]) {
    stream.send_plain(Request::of(kind).whole_node(node).names(names));
}

/// Key and certificate of a secret.
fn own(secret: &[u8]) -> Result<Certificate> {
    let secret = Secret::decode(secret)?;
    let Some(secret::Type::TlsCertificate(own)) = secret.r#type else {
        anyhow::bail!("no certificate");
    };
    let text = |source: Option<_>| -> Result<String> {
        let source: envoy_types::pb::envoy::config::core::v3::DataSource =
            source.context("nothing")?;
        match source.specifier {
            Some(Specifier::InlineString(text)) => Ok(text),
            other => anyhow::bail!("{other:?}"),
        }
    };
    Ok(Certificate {
        chain: text(own.certificate_chain)?,
        key: text(own.private_key)?,
    })
}

#[test]
fn whoever_shows_no_certificate_of_the_mesh_gets_no_secret() -> Result<()> {
    let world = World::start()?;
    let orders = world.node("order-service", &[])?;
    let foreign = Authority::of_nobody()?.issue("order-1", &[ORDERS])?;
    for shown in [None, Some(&foreign)] {
        // TLS 1.3 lets a client believe in the handshake before the server has seen its certificate.
        let Ok(connection) = world.show(&orders, shown) else {
            continue;
        };
        let mut stream = stream(&connection, Variant::Delta, Service::Only(Kind::Secret));
        ask(
            &mut stream,
            node("order-1", "order-service"),
            Kind::Secret,
            &["default"],
        );
        ensure!(stream.ended()?.code != Code::Ok);
        ensure!(stream.has(Kind::Secret).is_empty());
    }
    // Plaintext is no handshake at all.
    if let Ok(connection) = Connection::open(world.server.xds) {
        let mut stream = stream(&connection, Variant::Delta, Service::Ads);
        ask(
            &mut stream,
            node("order-1", "order-service"),
            Kind::Secret,
            &["default"],
        );
        stream.ended()?;
        ensure!(stream.has(Kind::Secret).is_empty());
    }
    wait_for("the failures to be counted", BOUND, || {
        match world.metric("xds_tls_failures_total") {
            Ok(failures) if failures >= 3.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(())
}

#[test]
fn the_certificate_decides_which_node_an_envoy_may_be() -> Result<()> {
    let world = World::start()?;
    let orders = world.node("order-service", &[])?;
    let connection = world.connect(&orders)?;
    for variant in Variant::BOTH {
        for service in [Service::Ads, Service::Only(Kind::Secret)] {
            for (id, cluster) in [
                ("payment-1", "payment-service"),
                ("order-1", "payment-service"),
                ("payment-1", "order-service"),
                ("edge", "edge"),
                ("", ""),
            ] {
                let mut stream = stream(&connection, variant, service);
                ask(&mut stream, node(id, cluster), Kind::Secret, &["default"]);
                let end = stream.ended()?;
                ensure!(
                    end.code == Code::PermissionDenied,
                    "{id} {cluster}: {end:?}"
                );
                ensure!(end.message.contains("the certificate is for"), "{end:?}");
                ensure!(stream.has(Kind::Secret).is_empty());
            }
            let mut stream = stream(&connection, variant, service);
            ask(
                &mut stream,
                node("order-1", "order-service"),
                Kind::Secret,
                &["default"],
            );
            ensure!(stream.take(Kind::Secret)?.names() == ["default"]);
        }
    }
    // Who says nothing is who the certificate says.
    let mut silent = stream(&connection, Variant::Delta, Service::Ads);
    silent.send_plain(Request::of(Kind::Secret).names(&["default"]));
    let response = silent.take(Kind::Secret)?;
    let uris = own(&response.resources["default"].body)?.uris()?;
    ensure!(uris == [ORDERS], "{uris:?}");

    let log = world.server.log();
    let audit = log.lines().filter(|line| line.contains(" audit: "));
    let denied: Vec<&str> = audit.filter(|line| line.contains("denied")).collect();
    ensure!(denied.len() == 20, "{denied:#?}");
    ensure!(
        denied.iter().all(|line| line.contains(ORDERS)),
        "{denied:#?}"
    );
    let counted = world.metric("xds_refused_streams_total{reason=\"denied\"}")?;
    ensure!((counted - 20.0).abs() < 0.5, "{counted}");
    Ok(())
}

#[test]
fn whatever_a_node_asks_for_it_gets_its_own_secrets_and_no_others() -> Result<()> {
    let world = World::start()?;
    let orders = world.node("order-service", &[])?;
    let payments = world.node("payment-service", &[])?;
    // Both are there to be asked for.
    let theirs = world.connect(&payments)?;
    let mut theirs = stream(&theirs, Variant::Delta, Service::Ads);
    ask(
        &mut theirs,
        node("payment-1", "payment-service"),
        Kind::Secret,
        &["default"],
    );
    let theirs = theirs.take(Kind::Secret)?.resources["default"].body.clone();

    let connection = world.connect(&orders)?;
    let many: Vec<String> = (0..1000).map(|number| format!("secret-{number}")).collect();
    let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
    names.extend([
        "payment-service",
        "spiffe://mumbai.mesh/ns/default/sa/payment-service",
    ]);
    names.extend(["default", "ROOTCA", "*"]);
    for variant in Variant::BOTH {
        for service in [Service::Ads, Service::Only(Kind::Secret)] {
            let mut stream = stream(&connection, variant, service);
            ask(
                &mut stream,
                node("order-1", "order-service"),
                Kind::Secret,
                &names,
            );
            let response = stream.take(Kind::Secret)?;
            ensure!(
                response.names() == ["ROOTCA", "default"],
                "{:?}",
                response.names()
            );
            let got = &response.resources["default"].body;
            ensure!(*got != theirs);
            ensure!(own(got)?.uris()? == [ORDERS]);
        }
        // A wildcard alone brings nothing; a later answer proves it.
        let mut wild = stream(&connection, variant, Service::Ads);
        ask(
            &mut wild,
            node("order-1", "order-service"),
            Kind::Secret,
            &["*"],
        );
        wild.subscribe(Kind::Cluster, &[]);
        wild.take(Kind::Cluster)?;
        ensure!(wild.has(Kind::Secret).is_empty());
    }
    // It is told: once for each stream that asked for names.
    let counted = world.metric("xds_withheld_secrets_total")?;
    ensure!((counted - 4.0 * 1002.0).abs() < 0.5, "{counted}");
    let log = world.server.log();
    let audit = log.lines().find(|line| line.contains("asked for secrets"));
    let audit = audit.context("no line for the audit")?;
    for said in ["audit", ORDERS, "order-1", "payment-service", "more=992"] {
        ensure!(audit.contains(said), "no {said}: {audit}");
    }
    Ok(())
}

#[test]
fn a_certificate_that_names_nobody_of_this_mesh_opens_no_service_at_all() -> Result<()> {
    let world = World::start()?;
    let orders = world.node("order-service", &[])?;
    let authority = Authority::of(world.server.state_dir())?;
    let cases: [(&[&str], &str); 5] = [
        (
            &["spiffe://other.mesh/ns/default/sa/order-service"],
            "trust domain",
        ),
        (
            &[ORDERS, "spiffe://mumbai.mesh/ns/default/sa/edge"],
            "exactly one URI",
        ),
        (&[], "exactly one URI"),
        (
            &["spiffe://mumbai.mesh/ns/mumbai-mesh/sa/server"],
            "no service",
        ),
        (
            &["spiffe://mumbai.mesh/ns/default/sa/order-service/x"],
            "no service",
        ),
    ];
    for (uris, words) in cases {
        let certificate = authority.issue("order-1", uris)?;
        let connection = world.show(&orders, Some(&certificate))?;
        for path in [
            &Service::Ads.path(Variant::Delta),
            &Service::Only(Kind::Secret).path(Variant::Sotw),
            CSDS,
            REFLECTION,
            HEALTH,
            LOADS,
            HEALTH_CHECKS,
        ] {
            let mut stream = Stream::around(connection.call(path, &[]), Variant::Delta, "");
            let end = stream.ended()?;
            ensure!(
                end.code == Code::PermissionDenied,
                "{uris:?} {path}: {end:?}"
            );
            ensure!(end.message.contains(words), "{uris:?}: {end:?}");
        }
    }
    // A good one of the same authority opens them.
    let certificate = authority.issue("order-1", &[ORDERS])?;
    let connection = world.show(&orders, Some(&certificate))?;
    let mut stream = stream(&connection, Variant::Sotw, Service::Ads);
    ask(
        &mut stream,
        node("order-1", "order-service"),
        Kind::Secret,
        &["ROOTCA"],
    );
    stream.take(Kind::Secret)?;
    Ok(())
}

#[test]
fn health_is_reported_by_the_certificates_own_node_alone() -> Result<()> {
    let world = World::start()?;
    let orders = world.node("order-service", &[])?;
    let connection = world.connect(&orders)?;
    for (cluster, id) in [
        ("payment-service", "payment-1"),
        ("order-service", "order-2"),
        ("edge", "order-1"),
    ] {
        let mut stream = Stream::around(connection.call(HEALTH_CHECKS, &[]), Variant::Delta, "");
        let request = HealthCheckRequest {
            node: Some(node(id, cluster)),
            capability: None,
        };
        let message = HealthCheckRequestOrEndpointHealthResponse {
            request_type: Some(RequestType::HealthCheckRequest(request)),
        };
        stream.send_bytes(&message.encode_to_vec());
        let end = stream.ended()?;
        ensure!(
            end.code == Code::PermissionDenied,
            "{cluster} {id}: {end:?}"
        );
    }
    Ok(())
}

#[test]
fn a_stream_ends_with_the_certificate_that_opened_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::new(dir.path())?;
    let world = World::start_with(&server::Options {
        clock: Some(&clock),
        ..server::Options::default()
    })?;
    let orders = world.node("order-service", &["--service-cert-validity", "1h"])?;
    let payments = world.node("payment-service", &[])?;
    let connection = world.connect(&orders)?;
    let mut ends = stream(&connection, Variant::Delta, Service::Ads);
    ask(
        &mut ends,
        node("order-1", "order-service"),
        Kind::Secret,
        &["ROOTCA"],
    );
    ends.take(Kind::Secret)?;
    let other = world.connect(&payments)?;
    let mut stays = stream(&other, Variant::Delta, Service::Ads);
    ask(
        &mut stays,
        node("payment-1", "payment-service"),
        Kind::Secret,
        &["ROOTCA"],
    );
    stays.take(Kind::Secret)?;

    clock.set_now(clock.now_millis()? + 60 * 60 * 1000 + 1000)?;
    let began = std::time::Instant::now();
    let end = ends.ended()?;
    ensure!(end.code != Code::Ok, "{end:?}");
    ensure!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let counted = world.metric("xds_cut_streams_total{reason=\"expired\"}")?;
    ensure!((counted - 1.0).abs() < 0.5, "{counted}");
    // The other goes on.
    stays.subscribe(Kind::Cluster, &[]);
    stays.take(Kind::Cluster)?;
    // A new certificate of the same node is as good as the old one was.
    let again = world.node("order-service", &[])?;
    ensure!(again.certificate.chain != orders.certificate.chain);
    Ok(())
}

#[test]
fn a_change_of_the_trust_domain_ends_the_streams_of_the_old_one() -> Result<()> {
    let world = World::start()?;
    let orders = world.node("order-service", &[])?;
    let connection = world.connect(&orders)?;
    let mut old = stream(&connection, Variant::Delta, Service::Ads);
    ask(
        &mut old,
        node("order-1", "order-service"),
        Kind::Secret,
        &["default"],
    );
    old.take(Kind::Secret)?;
    let changed = format!("mesh: {{trust_domain: pay.example}}\n{MESH}");
    world.server.write_mesh(&changed)?;
    let end = old.ended()?;
    ensure!(end.code == Code::PermissionDenied, "{end:?}");
    ensure!(old.has(Kind::Secret)["default"].holds(ORDERS) || old.has(Kind::Secret).len() == 1);
    let renamed = world.node("order-service", &[])?;
    let uris = renamed.certificate.uris()?;
    ensure!(
        uris == ["spiffe://pay.example/ns/default/sa/order-service"],
        "{uris:?}"
    );
    let connection = world.connect(&renamed)?;
    let mut new = stream(&connection, Variant::Delta, Service::Ads);
    ask(
        &mut new,
        node("order-1", "order-service"),
        Kind::Secret,
        &["default"],
    );
    let response = new.take(Kind::Secret)?;
    ensure!(own(&response.resources["default"].body)?.uris()? == uris);
    Ok(())
}

#[test]
fn a_private_key_is_nowhere_but_in_its_secret() -> Result<()> {
    let world = World::start_with(&server::Options {
        log: Some("trace"),
        ..server::Options::default()
    })?;
    let orders = world.node("order-service", &[])?;
    let connection = world.connect(&orders)?;
    let mut sent = Vec::new();
    for variant in Variant::BOTH {
        let mut stream = stream(&connection, variant, Service::Ads);
        ask(
            &mut stream,
            node("order-1", "order-service"),
            Kind::Secret,
            &["default"],
        );
        sent.push((stream.take(Kind::Secret)?, stream));
    }
    let secret = own(&sent[0].0.resources["default"].body)?;
    ensure!(secret.key.contains("PRIVATE KEY"));
    let ca = world.server.state_dir().join("ca");
    let mut needles = vec![secret.key.clone(), orders.certificate.key.clone()];
    for name in ["root.pem", "issuing.pem"] {
        let text = fs::read_to_string(ca.join(name))?;
        let at = text.find("-----BEGIN PRIVATE").context("no key")?;
        needles.push(text[at..].to_string());
    }
    let api =
        |path: &str| -> Result<Vec<u8>> { Ok(Client::new(world.server.api).get(path, &[])?.body) };
    let mut seen = vec![
        ("log", world.server.log().into_bytes()),
        ("csds", csds(&connection)?),
    ];
    for path in [
        "/metrics",
        "/api/v1/certificates",
        "/api/v1/proxies",
        "/api/v1/resources",
        "/api/v1/revisions",
        "/api/v1/bootstrap/order-service",
    ] {
        seen.push((path, api(path)?));
    }
    for file in files(world.server.state_dir())? {
        if !file.starts_with(&ca) {
            seen.push(("state dir", fs::read(file)?));
        }
    }
    let log = world.server.log();
    ensure!(log.contains("TRACE"), "the log is at its most talkative");
    for key in &needles {
        for (place, text) in &seen {
            for needle in forms(key)? {
                let found = text.windows(needle.len()).any(|window| window == needle);
                ensure!(!found, "a private key is in {place}");
            }
        }
    }
    // What is searched for is found where it belongs.
    let body = &sent[0].0.resources["default"].body;
    let needle = &forms(&secret.key)?[0];
    ensure!(
        body.windows(needle.len())
            .any(|window| window == needle.as_slice())
    );
    let listed = api("/api/v1/certificates")?;
    ensure!(String::from_utf8_lossy(&listed).contains(ORDERS));
    let shown = &seen[1].1;
    ensure!(String::from_utf8_lossy(shown).contains("[redacted]"));
    Ok(())
}

/// A key as it may stand somewhere: a line of its PEM, and its bytes plain, in hex, and as a list.
fn forms(key: &str) -> Result<Vec<Vec<u8>>> {
    use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
    let line = key.lines().nth(1).context("no second line")?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes())?;
    // The scalar lies behind the key's frame; the public key, which is no secret, behind it.
    let scalar = der.secret_pkcs8_der().get(36..60).context("a short key")?;
    let hex: String = scalar.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = scalar.iter().map(ToString::to_string).collect::<Vec<_>>();
    Ok(vec![
        line.as_bytes().to_vec(),
        scalar.to_vec(),
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
        list.join(", ").into_bytes(),
    ])
}

/// All that CSDS shows of the nodes.
fn csds(connection: &Connection) -> Result<Vec<u8>> {
    let mut stream = Stream::around(connection.call(CSDS, &[]), Variant::Delta, "");
    stream.send_bytes(&[]);
    stream.next_bytes()
}

fn files(folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

#[test]
fn certs_list_shows_what_is_in_use_and_csds_a_nodes_own_service() -> Result<()> {
    let world = World::start()?;
    let mut held = Vec::new();
    for (name, id) in [
        ("order-service", "order-1"),
        ("payment-service", "payment-1"),
    ] {
        let beside = world.node(name, &[])?;
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&beside.file)?.permissions());
        ensure!(mode & 0o777 == 0o600, "{mode:o}");
        let connection = world.connect(&beside)?;
        let mut stream = stream(&connection, Variant::Delta, Service::Ads);
        ask(
            &mut stream,
            node(id, name),
            Kind::Secret,
            &["default", "ROOTCA"],
        );
        stream.take(Kind::Secret)?;
        held.push((connection, stream));
    }
    let server = format!("http://{}", world.server.api);
    let table = world
        .server
        .command(&["certs", "list", "--server", &server])?;
    for words in [
        "KIND",
        "root",
        "issuing",
        "order-service",
        "payment-service",
        ORDERS,
    ] {
        ensure!(table.contains(words), "{words}: {table}");
    }
    let json = world
        .server
        .command(&["certs", "list", "--server", &server, "-o", "json"])?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    let all = json["certificates"].as_array().context("no list")?;
    let orders = all.iter().find(|one| one["spiffe_id"] == ORDERS);
    let orders = orders.context("no order-service")?;
    for field in ["serial", "not_before", "not_after", "renews_at"] {
        ensure!(orders[field].is_string(), "{field}: {orders}");
    }
    let shown = csds(&held[0].0)?;
    let shown = String::from_utf8_lossy(&shown);
    ensure!(
        shown.contains("order-1") && !shown.contains("payment-1"),
        "{shown}"
    );
    Ok(())
}
