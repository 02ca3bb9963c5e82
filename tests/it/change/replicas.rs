//! `--wait` asked of one server while Envoys are connected to another one on the same store.

use std::{net::TcpListener, path::PathBuf, sync::mpsc, thread};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    envoy::Envoy,
    etcd::Etcd,
    http::Client,
    ports::free_port,
    server::{Options, Server},
    wait::wait_for,
};

use crate::{
    command,
    door1::BOUND,
    mesh::{Variant, start_envoy},
};

/// Two servers without a file on one etcd.
struct World {
    one: Server,
    two: Server,
    artifacts: Artifacts,
    _etcd: Etcd,
    // Dropped last: all processes write into it.
    dir: tempfile::TempDir,
}

impl World {
    fn start() -> Result<Self> {
        let artifacts = Artifacts::from_env()?;
        let dir = tempfile::tempdir()?;
        let etcd = Etcd::start(dir.path())?;
        let store = etcd.store("waits");
        let start = |name: &str| {
            let dir = dir.path().join(name);
            std::fs::create_dir_all(&dir)?;
            let options = Options {
                no_config: true,
                arguments: &["--store", &store],
                ..Options::default()
            };
            Server::start(&artifacts, &dir, "", &options)
        };
        Ok(Self {
            one: start("one")?,
            two: start("two")?,
            artifacts,
            _etcd: etcd,
            dir,
        })
    }

    fn gateway(&self, server: &Server, name: &str) -> Result<Envoy> {
        let (artifacts, dir) = (&self.artifacts, self.dir.path());
        let delta = Variant::Delta;
        start_envoy(artifacts, dir, server, name, delta, &[], None)
    }

    fn file(&self, name: &str, gateways: &[(&str, &str)]) -> Result<PathBuf> {
        let file = self.dir.path().join(name);
        let gateways: Vec<String> = gateways
            .iter()
            .map(|(gateway, listen)| format!("  {gateway}: {{listen: \"{listen}\", routes: []}}\n"))
            .collect();
        std::fs::write(&file, format!("gateways:\n{}", gateways.concat()))?;
        Ok(file)
    }

    /// What `apply` says that asks the server to which nothing is connected at first.
    fn apply(&self, file: &std::path::Path, how: &str) -> Result<(Option<i32>, String)> {
        let server = format!("http://{}", self.two.api);
        let file = file.to_str().context("path")?;
        let (code, out, errors) = command::run(&["apply", file, how], &["--server", &server])?;
        Ok((code, out + &errors))
    }
}

fn is_connected(server: &Server, id: &str) -> Result<()> {
    wait_for("the gateway to be connected", BOUND, || {
        let proxies = server.api_get("/api/v1/proxies");
        let said = proxies.map_err(|error| format!("{error:#}"))?.to_string();
        match said.contains(&format!("\"id\":\"{id}\"")) && said.contains("SYNCED") {
            true => Ok(()),
            false => Err(said),
        }
    })
}

#[test]
fn envoys_of_every_server_are_waited_for_and_each_may_reject() -> Result<()> {
    let world = World::start()?;
    let ports = [free_port(), free_port()];
    let listen = ports.map(|port| format!("127.0.0.1:{port}"));
    let good = world.file("good.yaml", &[("edge", &listen[0]), ("west", &listen[1])])?;
    let (code, said) = world.apply(&good, "--wait=60s")?;
    ensure!(code == Some(0), "{code:?} {said}");
    let _edge = world.gateway(&world.one, "edge")?;
    is_connected(&world.one, "edge")?;

    let held = TcpListener::bind("127.0.0.1:0")?;
    let taken = held.local_addr()?.to_string();
    let bad = world.file("bad.yaml", &[("edge", &taken), ("west", &listen[1])])?;
    for _ in 0..2 {
        let (code, said) = world.apply(&bad, "--wait=60s")?;
        ensure!(code == Some(1), "{code:?} {said}");
        for words in ["was rejected by Envoys", "edge rejects LDS edge", &taken] {
            ensure!(said.contains(words), "no {words:?}: {said}");
        }
        let (code, said) = world.apply(&good, "--wait=60s")?;
        ensure!(
            code == Some(0) && said.starts_with("nothing new"),
            "it was not rolled back: {code:?} {said}"
        );
    }
    let _west = world.gateway(&world.two, "west")?;
    is_connected(&world.two, "west")?;
    let other = format!("127.0.0.1:{}", free_port());
    let moved = world.file("moved.yaml", &[("edge", &other), ("west", &listen[1])])?;
    let (code, said) = world.apply(&moved, "--wait=60s")?;
    ensure!(
        code == Some(0) && said.contains("2 connected proxies of 2 servers have acknowledged it"),
        "{code:?} {said}"
    );
    let answer = Client::new(other.parse()?).get("/health", &[])?;
    ensure!(answer.status == 200, "{}", answer.status);
    // What an Envoy of another server rejected before is held against no change either.
    let (code, said) = world.apply(&bad, "--reason=nobody waits")?;
    ensure!(code == Some(0), "{code:?} {said}");
    wait_for("the gateway to reject it", BOUND, || {
        let proxies = world.one.api_get("/api/v1/proxies");
        let said = proxies.map_err(|error| format!("{error:#}"))?.to_string();
        match said.contains("REJECTED") && said.contains(&taken) {
            true => Ok(()),
            false => Err(said),
        }
    })?;
    let third = format!("127.0.0.1:{}", free_port());
    let mended = world.file("mended.yaml", &[("edge", &third), ("west", &listen[1])])?;
    let (code, said) = world.apply(&mended, "--wait=60s")?;
    ensure!(
        code == Some(0) && said.contains("2 connected proxies of 2 servers have acknowledged it"),
        "{code:?} {said}"
    );
    Ok(())
}

#[test]
fn a_server_that_dies_meanwhile_rejects_nothing_and_holds_nobody_up() -> Result<()> {
    let mut world = World::start()?;
    let listen = format!("127.0.0.1:{}", free_port());
    let first = world.file("first.yaml", &[("edge", &listen)])?;
    let (code, said) = world.apply(&first, "--wait=60s")?;
    ensure!(code == Some(0), "{code:?} {said}");
    let mut edge = world.gateway(&world.one, "edge")?;
    is_connected(&world.one, "edge")?;
    // It hears nothing and says nothing.
    edge.process().signal(libc::SIGSTOP);
    let other = format!("127.0.0.1:{}", free_port());
    let second = world.file("second.yaml", &[("edge", &other)])?;
    let (code, said) = world.apply(&second, "--wait=2s")?;
    ensure!(
        code == Some(1) && said.contains("have not answered yet: edge"),
        "{code:?} {said}"
    );
    let (told, tells) = mpsc::channel();
    let came = thread::scope(|scope| -> Result<_> {
        let (waiting, file) = (&world.two, &second);
        let server = format!("http://{}", waiting.api);
        scope.spawn(move || {
            let file = file.to_string_lossy();
            let came = command::run(&["apply", &file, "--wait=60s"], &["--server", &server]);
            // Whoever listened has failed.
            let _ = told.send(came);
        });
        world.one.process().kill()?;
        tells.recv_timeout(BOUND)?
    });
    edge.process().signal(libc::SIGCONT);
    let (code, said, errors) = came?;
    ensure!(
        code == Some(0) && said.contains("0 connected proxies have acknowledged it"),
        "{code:?} {said} {errors}"
    );
    Ok(())
}
