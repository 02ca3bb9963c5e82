//! The fourth door: a real grpcurl at the xDS port.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::{self, Artifacts},
    ports::free_port,
    readme,
    server::{self, Server},
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::{door1::BOUND, mesh::Mesh};

pub use harness::readme::commands as commands_of_readme;

pub const ADS: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
pub const CSDS: &str = "envoy.service.status.v3.ClientStatusDiscoveryService";

/// Runs a command of README against that server, with `grpcurl` on the path.
pub fn run(command: &str, xds: &str, path: &Path) -> Result<String> {
    let output = Command::new("sh")
        .args(["-c", &command.replace("127.0.0.1:18000", xds)])
        .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}\n{said}\n{errors}");
    Ok(said)
}

/// A folder in which the stock grpcurl is `grpcurl`, and `cargo xtask` has nothing left to build.
pub fn folder_of_grpcurl(dir: &Path) -> Result<PathBuf> {
    let folder = dir.join("bin");
    fs::create_dir(&folder)?;
    let program = folder.join("grpcurl");
    symlink(artifacts::grpcurl()?, &program)?;
    let cargo = folder.join("cargo");
    let says = format!(
        "#!/bin/sh\ncase \"$*\" in 'xtask grpcurl') echo '{}' ;; esac\n",
        program.display()
    );
    fs::write(&cargo, says)?;
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// What README's command that ends so answers.
fn answer(commands: &[String], end: &str, xds: &str, path: &Path) -> Result<String> {
    let command = commands.iter().find(|command| command.ends_with(end));
    run(
        command.with_context(|| {
            format!("README has no command that ends with {end:?}: {commands:#?}")
        })?,
        xds,
        path,
    )
}

#[test]
fn the_commands_of_readme_do_what_it_says() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let path = folder_of_grpcurl(mesh.dir.path())?;
    let xds = mesh.server.xds.to_string();
    let commands = commands_of_readme("Ask it with grpcurl")?;
    let ask = |end: &str| answer(&commands, end, &xds, &path);
    let ask_json = |end: &str| -> Result<Value> { Ok(serde_json::from_str(&ask(end)?)?) };

    let services = ask(" list")?;
    for service in [
        ADS,
        CSDS,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        ensure!(
            services.lines().any(|line| line == service),
            "{service}: {services}"
        );
    }
    let described = ask(ADS)?;
    ensure!(
        described.contains("rpc StreamAggregatedResources"),
        "{described}"
    );
    let health = ask_json("grpc.health.v1.Health/Check")?;
    ensure!(health == json!({"status": "SERVING"}), "{health}");

    let delta = ask_json("/DeltaAggregatedResources")?;
    let listener = &delta["resources"][0];
    ensure!(listener["name"] == "edge", "{delta}");
    ensure!(
        listener["resource"]["address"]["socketAddress"].is_object(),
        "{delta}"
    );

    let status = ask_json("/FetchClientStatus")?;
    ensure!(status["config"][0]["node"]["id"] == "edge", "{status}");
    let configs = status["config"][0]["genericXdsConfigs"].as_array();
    let configs = configs.context("no configs")?;
    for config in configs {
        ensure!(config["configStatus"] == "SYNCED", "{config}");
        ensure!(
            config["xdsConfig"]["@type"] == config["typeUrl"],
            "{config}"
        );
    }
    for name in ["order-service", "order-service|v2", "edge", "mumbai_mesh"] {
        ensure!(
            configs.iter().any(|config| config["name"] == name),
            "{name}: {status}"
        );
    }
    Ok(())
}

/// From nothing to the first answer: the server is started by the door itself, and asked when it is there.
#[test]
fn the_door_of_readme_starts_what_it_asks() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let path = folder_of_grpcurl(dir.path())?;
    let (xds, api) = (free_port(), free_port());
    let moved = format!(
        "{} serve --xds-listen 127.0.0.1:{xds} --api-listen 127.0.0.1:{api} --state-dir {} --filter {} ",
        artifacts.server.display(),
        dir.path().join("state").display(),
        artifacts.wasm.display()
    );
    let commands = readme::door("Ask it with grpcurl")?;
    ensure!(commands.len() <= 5, "more than five: {commands:#?}");
    let commands = commands.join("\n");
    let serve = "target/release/mumbai-mesh serve ";
    ensure!(commands.contains(serve), "{commands}");
    let commands = commands
        .replace(serve, &moved)
        .replace("127.0.0.1:18000", &format!("127.0.0.1:{xds}"))
        .replace("127.0.0.1:8088", &format!("127.0.0.1:{api}"));
    // What a person ends when they have seen enough.
    let script = format!("trap 'kill $!' EXIT\nset -e\n{commands}");
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{errors}");
    ensure!(said.lines().any(|line| line == ADS), "{said}\n{errors}");
    Ok(())
}

/// The example for any client, with a mesh of its own.
#[test]
fn the_commands_of_the_example_do_what_its_page_says() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir()?;
    let path = folder_of_grpcurl(dir.path())?;
    let commands = readme::commands_of("envoy/examples/xds/README.md")?;
    ensure!(commands.len() == 5, "{commands:#?}");
    let (serve, asked) = commands.split_first().context("no commands")?;
    let config = "serve --config envoy/examples/mesh.yaml &";
    ensure!(serve.ends_with(config), "{serve}");
    let config = root.join("envoy/examples/mesh.yaml");
    let options = server::Options {
        config: Some(&config),
        ..server::Options::default()
    };
    let server = Server::start(&Artifacts::from_env()?, dir.path(), "", &options)?;
    let examples = format!("{}/envoy/examples", root.display());
    let mut said = Vec::new();
    for command in asked {
        let command = command.replace("envoy/examples", &examples);
        said.push(run(&command, &server.xds.to_string(), &path)?);
    }
    ensure!(said[0].lines().any(|line| line == ADS), "{}", said[0]);
    let clusters: Value = serde_json::from_str(&said[1])?;
    let cluster = &clusters["resources"][0];
    ensure!(
        cluster["@type"] == "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "{clusters}"
    );
    ensure!(cluster["name"] == "order-service", "{clusters}");
    let listeners: Value = serde_json::from_str(&said[2])?;
    ensure!(listeners["resources"][0]["name"] == "edge", "{listeners}");
    let health: Value = serde_json::from_str(&said[3])?;
    ensure!(health == json!({"status": "SERVING"}), "{health}");
    Ok(())
}

/// A grpcurl that is told what to say, one message after the other.
pub struct Conversation {
    child: Child,
    heard: PathBuf,
}

impl Conversation {
    pub fn open(dir: &Path, xds: &str, method: &str) -> Result<Self> {
        let heard = dir.join("heard.json");
        let child = Command::new(artifacts::grpcurl()?)
            .args(["-plaintext", "-d", "@", xds, method])
            .stdin(Stdio::piped())
            .stdout(File::create(&heard)?)
            .stderr(File::create(dir.join("grpcurl.log"))?)
            .spawn()?;
        Ok(Self { child, heard })
    }

    pub fn say(&mut self, message: &Value) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("its stdin is gone")?;
        writeln!(stdin, "{message}")?;
        Ok(stdin.flush()?)
    }

    /// The first answer.
    pub fn hear(&self) -> Result<Value> {
        wait_for("grpcurl to hear something", BOUND, || {
            let heard = fs::read(&self.heard).map_err(|error| error.to_string())?;
            let mut messages = serde_json::Deserializer::from_slice(&heard).into_iter();
            match messages.next() {
                Some(Ok(message)) => Ok(message),
                _ => Err(String::from_utf8_lossy(&heard).into_owned()),
            }
        })
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
