//! Manifests: held against the schemas of Kubernetes, and the files in them given to real programs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::{self, Artifacts},
    demo_services::DemoService,
    envoy::{self, Envoy},
    http::Client,
    ports::free_port,
    server::{self, Server},
    wait::wait_for,
};
use serde_json::Value;

use super::{Mounted, exported, files, of_kind, text};
use crate::{command::run, door1::BOUND};

/// The oldest Kubernetes that has all of it, and the newest that is known.
const VERSIONS: [&str; 2] = ["1.33", "1.37"];

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kubernetes")
}

/// All files, of folders below too.
fn contents(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut contents = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .context("name")?
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            let below = self::contents(&path)?.into_iter();
            contents.extend(below.map(|(file, text)| (format!("{name}/{file}"), text)));
        } else {
            contents.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(contents)
}

/// Strictly: no field that Kubernetes does not know.
fn validate(folder: &Path) -> Result<()> {
    let manifests: Vec<PathBuf> = contents(folder)?
        .into_keys()
        .map(|name| folder.join(name))
        .collect();
    ensure!(!manifests.is_empty());
    for version in VERSIONS {
        let mut command = Command::new(artifacts::kubernetes_validate()?);
        command
            .args(["--strict", "--quiet", "-k", version])
            .args(&manifests);
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(
            output.status.success(),
            "{version}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    Ok(())
}

fn export_to(folder: &Path, arguments: &[&str]) -> Result<()> {
    let all = [arguments, &["--out", text(folder)?]].concat();
    let (code, _, told) = run(&["export"], &all)?;
    ensure!(code == Some(0), "{arguments:?}: {told}");
    Ok(())
}

#[test]
fn the_folder_kubernetes_is_what_the_command_writes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    export_to(dir.path(), &["kubernetes"])?;
    let (written, kept) = (contents(dir.path())?, contents(&committed())?);
    let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<Vec<_>>();
    ensure!(
        names(&written) == names(&kept),
        "{:?} {:?}",
        names(&written),
        names(&kept)
    );
    for (name, text) in written {
        ensure!(
            kept[&name] == text,
            "kubernetes/{name} differs: mumbai-mesh export kubernetes --out kubernetes"
        );
    }
    validate(&committed())
}

#[test]
fn every_manifest_is_what_kubernetes_takes_strictly() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/examples/mesh.yaml");
    let cases: [(&str, &[&str]); 4] = [
        ("embedded", &["kubernetes", "--store", "embedded"]),
        (
            "etcd",
            &[
                "kubernetes",
                "--store",
                "etcd://root@a.db.svc,b.db.svc:2380/m",
                "--store-tls",
            ],
        ),
        (
            "example",
            &["kubernetes", "--config", mesh, "--namespace", "mesh"],
        ),
        ("map", &["configmap", "edge", "--config", mesh]),
    ];
    for (name, arguments) in cases {
        let folder = dir.path().join(name);
        export_to(&folder, arguments)?;
        validate(&folder)?;
    }
    // A validator that lets anything pass would prove nothing.
    let broken = dir.path().join("map").join("configmap.yaml");
    let wrong =
        fs::read_to_string(&broken)?.replace("kind: ConfigMap", "kind: ConfigMap\nkinds: 1");
    fs::write(&broken, wrong)?;
    ensure!(validate(&dir.path().join("map")).is_err());
    Ok(())
}

/// `kubectl apply -f DIR` takes what is in DIR and nothing below: beside the server's own no service of the mesh file,
/// which its user runs already.
#[test]
fn applying_the_folder_deploys_the_server_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../envoy/examples/compose/mesh/mesh.yaml"
    );
    let arguments = ["kubernetes", "--config", mesh];
    export_to(dir.path(), &arguments)?;
    let files = contents(dir.path())?;
    let example = files.get("examples/sidecar.yaml").context("no example")?;
    ensure!(example.contains("kind: Deployment"), "{example}");
    let top = files.iter().filter(|(name, _)| !name.contains('/'));
    let mut applied = Vec::new();
    for (_, text) in top {
        applied.extend(super::documents(text)?);
    }
    let printed = exported(&arguments)?;
    for document in applied.iter().chain(&printed) {
        let about = &document["metadata"];
        let is_ours = about["namespace"] == "istio-system" || document["kind"] == "Namespace";
        ensure!(is_ours, "{document:#}");
    }
    ensure!(applied.len() == printed.len() && !applied.is_empty());
    Ok(())
}

#[test]
fn the_deployment_has_the_promised_names_and_limits() -> Result<()> {
    let documents = exported(&[
        "kubernetes",
        "--store",
        "etcd://root@etcd.db.svc:2999/m",
        "--store-tls",
    ])?;
    let deployment = of_kind(&documents, "Deployment", "mumbai-mesh-controller")?;
    ensure!(deployment["metadata"]["namespace"] == "istio-system");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let resources = &container["resources"];
    ensure!(resources["requests"]["cpu"] == "250m" && resources["requests"]["memory"] == "512Mi");
    ensure!(resources["limits"]["cpu"] == "1000m" && resources["limits"]["memory"] == "2Gi");
    let arguments = container["args"].to_string();
    for argument in [
        "--store=etcd://root@etcd.db.svc:2999/m",
        "--store-secret-file=/etc/mumbai-mesh/store/secret",
        "--store-password-file=/etc/mumbai-mesh/store/password",
        "--store-ca=/etc/mumbai-mesh/store/ca.crt",
    ] {
        ensure!(arguments.contains(argument), "{arguments}");
    }
    let scaler = of_kind(
        &documents,
        "HorizontalPodAutoscaler",
        "mumbai-mesh-controller",
    )?;
    ensure!(scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80);
    let policy = of_kind(&documents, "NetworkPolicy", "mumbai-mesh-controller")?.to_string();
    ensure!(policy.contains("2999"), "{policy}");
    Ok(())
}

fn mesh(application: u16, inbound: u16) -> String {
    format!(
        "services:\n  payment-service:\n    port: {application}\n    endpoints: [{{id: pay, host: 127.0.0.1, port: {inbound}}}]\n"
    )
}

/// The files of the exported sidecar and Secret, as its container has them, join a real server by mutual TLS.
#[test]
fn the_example_of_a_sidecar_joins_the_server_with_the_exported_secret() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let application = DemoService::start(&artifacts, dir.path(), "payment-service", "v1")?;
    let (inbound, admin_port) = (free_port(), free_port());
    let options = server::Options {
        arguments: &["--xds-tls", "on"],
        log: Some("trace"),
        ..server::Options::default()
    };
    let mesh = mesh(application.addr.port(), inbound);
    let server = Server::start(&artifacts, dir.path(), &mesh, &options)?;
    let api = format!("http://{}", server.api);
    let secret = exported(&[
        "secret",
        "payment-service",
        "--node-id",
        "pay",
        "--server",
        &api,
    ])?;
    let secret = of_kind(&secret, "Secret", "payment-service-mtls-certs")?;
    ensure!(secret["type"] == "kubernetes.io/tls");
    let certificates = Mounted::new(dir.path().join("certs"), &decoded(secret)?)?;
    let out = dir.path().join("kubernetes");
    export_to(&out, &["kubernetes", "--config", text(server.mesh_file())?])?;
    let documents = super::documents(&fs::read_to_string(out.join("examples/sidecar.yaml"))?)?;
    let map = of_kind(&documents, "ConfigMap", "payment-service-envoy")?;
    let folder = dir.path().join("envoy");
    let (xds, admin) = (server.xds.port().to_string(), admin_port.to_string());
    // Each on its own port, where tests share a machine.
    let outbound = format!("mumbai_mesh: {{outbound_port: {}}}", free_port());
    let moved = [
        ("/etc/mumbai-mesh/certs", text(&certificates.folder)?),
        ("/etc/envoy", text(&folder)?),
        ("mumbai-mesh-controller.istio-system.svc", "127.0.0.1"),
        ("18000", xds.as_str()),
        ("9901", admin.as_str()),
        ("mumbai_mesh: {}", outbound.as_str()),
        // A name is resolved in the cluster alone.
        ("STRICT_DNS", "STATIC"),
    ];
    let mounted = Mounted::new(folder.clone(), &files(map, &moved)?)?;
    let options = envoy::Options {
        admin_port,
        ..envoy::Options::default()
    };
    let _envoy = Envoy::start_file(
        &artifacts,
        dir.path(),
        &mounted.folder.join("envoy.yaml"),
        &options,
    )?;
    wait_for("the sidecar to be told all", BOUND, || {
        let told = server
            .api_get("/api/v1/proxies")
            .map_err(|error| format!("{error:#}"))?;
        let node = &told["proxies"][0];
        match node["id"] == "pay" && node["state"] == "SYNCED" && told.to_string().contains("ECDS")
        {
            true => Ok(()),
            false => Err(told.to_string()),
        }
    })?;
    let key = decoded(secret)?
        .into_iter()
        .find(|(name, _)| name == "tls.key")
        .context("key")?
        .1;
    let line = key.lines().nth(1).context("a line of the key")?;
    ensure!(!server.log().contains(line), "the key is in the log");
    let audit = fs::read_to_string(server.state_dir().join("audit.log"))?;
    ensure!(
        audit.contains("/api/v1/certificates/payment-service/export") && !audit.contains(line),
        "{audit}"
    );
    let handed = "handed out: a new certificate with its private key, spiffe://mumbai.mesh/ns/default/sa/payment-service, node.id pay";
    ensure!(audit.contains(handed), "{audit}");
    Ok(())
}

#[test]
fn a_secret_comes_from_the_state_dir_while_no_server_runs_there() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let mut server = Server::start(
        &artifacts,
        dir.path(),
        &mesh(8080, 15006),
        &server::Options::default(),
    )?;
    let state_dir = text(server.state_dir())?.to_string();
    let asked = ["secret", "payment-service", "--state-dir", &state_dir];
    let (code, _, told) = run(&["export"], &asked)?;
    ensure!(
        code == Some(1) && told.contains("a server runs there: ask it"),
        "{told}"
    );
    let answer =
        Client::new(server.api).request("POST", "/api/v1/certificates/nobody/export", &[], b"")?;
    ensure!(answer.status == 404, "{}", answer.status);
    server.process().terminate()?;
    let out = dir.path().join("secrets");
    export_to(&out, &asked)?;
    validate(&out)?;
    let file = out.join("secret.yaml");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file)?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let secret: Value = super::documents(&fs::read_to_string(&file)?)?.remove(0);
    let spiffe_id = &secret["metadata"]["annotations"]["mumbai-mesh/spiffe-id"];
    ensure!(
        spiffe_id == "spiffe://mumbai.mesh/ns/default/sa/payment-service",
        "{spiffe_id}"
    );
    Ok(())
}

/// A Secret's files, as they are mounted.
fn decoded(secret: &Value) -> Result<Vec<(String, String)>> {
    let data = secret["data"].as_object().context("data")?;
    let file = |(name, value): (&String, &Value)| {
        let mut decoder = Command::new("base64");
        let coded = tempfile::NamedTempFile::new()?;
        fs::write(coded.path(), value.as_str().context("text")?)?;
        let output = decoder.arg("-d").arg(coded.path()).output()?;
        ensure!(output.status.success(), "{name} is no base64");
        Ok((name.clone(), String::from_utf8(output.stdout)?))
    };
    data.iter().map(file).collect()
}
