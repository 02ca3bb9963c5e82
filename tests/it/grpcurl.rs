//! The fourth door: a real grpcurl at the xDS port.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use harness::{artifacts, wait::wait_for};
use serde_json::{Value, json};

use crate::{door1::BOUND, mesh::Mesh};

pub const ADS: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
pub const CSDS: &str = "envoy.service.status.v3.ClientStatusDiscoveryService";

/// The commands of one section of README, each as it stands there.
pub fn commands_of_readme(section: &str) -> Result<Vec<String>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme)?;
    let (_, rest) = readme
        .split_once(&format!("\n## {section}\n"))
        .with_context(|| format!("README has no section {section:?}"))?;
    let section = rest.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| Some(block.split_once("```")?.0));
    // A command begins at the margin; what is indented goes on.
    let mut commands: Vec<String> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match commands.last_mut() {
            Some(command) if line.starts_with(' ') => *command += &format!("\n{line}"),
            _ => commands.push(line.into()),
        }
    }
    Ok(commands)
}

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

/// A folder in which the stock grpcurl is `grpcurl`.
pub fn folder_of_grpcurl(dir: &Path) -> Result<PathBuf> {
    let folder = dir.join("bin");
    fs::create_dir(&folder)?;
    symlink(artifacts::grpcurl()?, folder.join("grpcurl"))?;
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
    ensure!(commands.len() == 6, "{commands:#?}");
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

    let plain = ask_json("/StreamAggregatedResources")?;
    let cluster = &plain["resources"][0];
    ensure!(
        cluster["@type"] == "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "{plain}"
    );
    ensure!(cluster["name"] == "order-service", "{plain}");
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
