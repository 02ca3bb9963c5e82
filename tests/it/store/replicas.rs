//! Several servers on one etcd: any takes writes, all serve the same.

use std::{
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    etcd::Etcd,
    http::Client,
    server::{Options, Server, replace, write_secret},
    wait::wait_for,
};
use serde_json::{Value, json};

use crate::{
    door1::BOUND,
    raw::{Clusters, store_serves, wait_known},
};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// A server with the same mesh file as the others.
fn start(dir: &Path, name: &str, store: &str) -> Result<Server> {
    start_with(dir, name, &["--store", store])
}

fn start_with(dir: &Path, name: &str, arguments: &[&str]) -> Result<Server> {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir)?;
    let options = Options {
        arguments,
        ..Options::default()
    };
    Server::start(
        &Artifacts::from_env()?,
        &dir,
        "mesh: {name: shared}\n",
        &options,
    )
}

fn cluster(name: &str, timeout: usize) -> Value {
    json!({"set": [{"@type": CLUSTER, "name": name, "connect_timeout": format!("{timeout}s")}]})
}

fn apply(api: SocketAddr, call: &Value) -> Result<(u16, Value)> {
    let answer = Client::new(api).post("/api/v1/resources:apply", call.to_string().as_bytes())?;
    Ok((answer.status, answer.json()?))
}

fn resources(server: &Server) -> Result<Value> {
    server.api_get("/api/v1/resources?full=true")
}

/// Waits until a server shows the same as another one.
fn wait_same(server: &Server, expected: &Value) -> Result<()> {
    wait_for("the same resources everywhere", BOUND, || {
        let shown = resources(server).map_err(|error| error.to_string())?;
        match shown == *expected {
            true => Ok(()),
            false => Err(shown["revision"].to_string()),
        }
    })
}

#[test]
fn any_replica_takes_a_write_and_all_serve_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let store = etcd.store("replicas");
    let names = ["one", "two", "three"];
    let servers = names.map(|name| start(dir.path(), name, &store));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    for (index, writer) in servers.iter().enumerate() {
        let (status, answer) = apply(writer.api, &cluster(&format!("c{index}"), 1))?;
        ensure!(
            status == 200 && answer["revision"] == index + 1,
            "{status}: {answer}"
        );
        let expected = resources(writer)?;
        for server in &servers {
            wait_same(server, &expected)?;
        }
    }
    // The same file is the same mesh: nobody makes a revision of what is there.
    for server in &servers {
        let answer = server.api_get("/api/v1/revisions")?;
        ensure!(answer["current"]["revision"] == 1, "{answer}");
    }
    servers[1].write_mesh("mesh: {name: changed}\n")?;
    for server in &servers {
        wait_for("the changed mesh", BOUND, || {
            let answer = server.api_get("/api/v1/revisions");
            let answer = answer.map_err(|error| error.to_string())?;
            match answer["current"]["mesh"] == "changed" && answer["current"]["revision"] == 2 {
                true => Ok(()),
                false => Err(answer.to_string()),
            }
        })?;
    }
    Ok(())
}

/// What is not in the file is in the store, and every server that starts finds it there.
#[test]
fn what_people_do_with_a_canary_all_replicas_follow() -> Result<()> {
    let mesh = "\
services:
  orders:
    sidecar: false
    endpoints: [{id: o-1, host: 127.0.0.1, port: 1, version: v1}, {id: o-2, host: 127.0.0.1, port: 2, version: v2}]
    canary: {version: v2, weight: 10}
";
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let store = etcd.store("canaries");
    let arguments = ["--store", &store];
    let start = |name: &str| {
        let dir = dir.path().join(name);
        std::fs::create_dir_all(&dir)?;
        let options = Options {
            arguments: &arguments,
            ..Options::default()
        };
        Server::start(&Artifacts::from_env()?, &dir, mesh, &options)
    };
    let is_aborted = |server: &Server| {
        wait_for("the abort", BOUND, || {
            let answer = server.api_get("/api/v1/canaries/orders");
            let answer = answer.map_err(|error| error.to_string())?;
            match answer["state"] == "aborted" && answer["weight"] == 0 {
                true => Ok(()),
                false => Err(answer.to_string()),
            }
        })
    };
    let [mut one, two] = [start("one")?, start("two")?];
    let (status, answer) = one.api_post("/api/v1/canaries/orders/abort", b"")?;
    ensure!(status == 200, "{answer:#}");
    is_aborted(&two)?;
    one.process().kill()?;
    is_aborted(&start("one")?)?;
    is_aborted(&start("three")?)?;
    // None of them made a revision of the same file.
    let answer = two.api_get("/api/v1/revisions")?;
    ensure!(answer["current"]["revision"] == 2, "{answer:#}");
    Ok(())
}

#[test]
fn an_envoy_is_sent_the_same_by_whichever_replica_it_connects_to() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let store = etcd.store("envoys");
    let servers = [
        start(dir.path(), "one", &store)?,
        start(dir.path(), "two", &store)?,
    ];
    let connect = |server: &Server| Clusters::subscribe(server.xds, "node-1", "node");
    let mut nodes = [connect(&servers[0])?, connect(&servers[1])?];
    for (timeout, writer) in [(1, &servers[0]), (2, &servers[1]), (3, &servers[0])] {
        ensure!(apply(writer.api, &cluster("a", timeout as usize))?.0 == 200);
        for node in &mut nodes {
            wait_known(node, &[("a", timeout)])?;
        }
    }
    wait_known(&mut connect(&servers[1])?, &[("a", 3)])
}

#[test]
fn replicas_have_one_certificate_authority_and_etcd_holds_no_key_of_it_in_plain_text() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let secret = dir.path().join("store.secret");
    write_secret(&secret, "0123456789abcdef0123456789abcdef\n")?;
    let store = etcd.store("authority");
    let secret = secret.display().to_string();
    let with = ["--store", &store, "--store-secret-file", &secret];
    let servers = [
        start_with(dir.path(), "one", &with)?,
        start_with(dir.path(), "two", &with)?,
    ];
    let roots = |server: &Server| -> Result<Value> {
        let listed = server.api_get("/api/v1/certificates")?;
        let all = listed["certificates"]
            .as_array()
            .context("no certificates")?;
        let root = all.iter().find(|one| one["kind"] == "root");
        Ok(root.context("no root")?["serial"].clone())
    };
    ensure!(roots(&servers[0])? == roots(&servers[1])?);
    let key = std::fs::read_to_string(servers[0].state_dir().join("ca/root.pem"))?;
    let key = key.lines().rev().nth(1).context("no key")?.to_string();
    let mut files = vec![etcd.data_dir()];
    let mut looked = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.path()));
            files.extend(inside.collect::<Result<Vec<_>, _>>()?);
            continue;
        }
        let bytes = std::fs::read(&path)?;
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        ensure!(
            !has(key.as_bytes()) && !has(b"PRIVATE KEY"),
            "{}",
            path.display()
        );
        looked += usize::from(has(b"mumbai-mesh sealed"));
    }
    ensure!(looked > 0, "the sealed authority is nowhere");
    // Who has another secret is told so.
    let other = dir.path().join("other.secret");
    write_secret(&other, "another secret, another secret, another\n")?;
    let other = other.display().to_string();
    let with = ["--store", &store, "--store-secret-file", &other];
    let refused = start_with(dir.path(), "three", &with).err();
    let refused = format!("{:#}", refused.context("it started")?);
    ensure!(refused.contains("--store-secret-file the one"), "{refused}");
    Ok(())
}

#[test]
fn writes_to_all_replicas_at_once_are_all_there_and_counted_once() -> Result<()> {
    const WRITES: usize = 12;
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let store = etcd.store("at-once");
    let servers = [
        start(dir.path(), "one", &store)?,
        start(dir.path(), "two", &store)?,
    ];
    let revisions = thread::scope(|scope| {
        let write = |server: &Server, who: usize| {
            let api = server.api;
            scope.spawn(move || -> Result<Vec<u64>> {
                let one = |number: usize| {
                    let (status, answer) = apply(api, &cluster(&format!("{who}-{number}"), 1))?;
                    ensure!(status == 200, "{status}: {answer}");
                    answer["revision"].as_u64().context("no revision")
                };
                (0..WRITES).map(one).collect()
            })
        };
        let writers = [write(&servers[0], 0), write(&servers[1], 1)];
        let joined = writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"));
        joined.collect::<Result<Vec<_>>>()
    })?;
    let mut revisions = revisions.concat();
    revisions.sort_unstable();
    ensure!(
        revisions == (1..=2 * WRITES as u64).collect::<Vec<_>>(),
        "{revisions:?}"
    );
    let expected = wait_for("all of them", BOUND, || {
        let shown = resources(&servers[0]).map_err(|error| error.to_string())?;
        match shown["resources"].as_array().map(Vec::len) {
            Some(count) if count == 2 * WRITES => Ok(shown),
            other => Err(format!("{other:?}")),
        }
    })?;
    wait_same(&servers[1], &expected)
}

#[test]
fn files_that_all_replicas_follow_are_one_revision_for_each_change() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path())?;
    let store = etcd.store("files");
    let (mesh, folder) = (dir.path().join("mesh.yaml"), dir.path().join("resources"));
    std::fs::create_dir(&folder)?;
    replace(&mesh, "mesh: {name: m1}\n")?;
    let resource = |timeout: usize| cluster("from-file", timeout)["set"][0].to_string();
    replace(&folder.join("one.json"), &resource(1))?;
    let arguments = ["--store", &store];
    let start = |name: &str| {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir)?;
        let options = Options {
            config: Some(&mesh),
            resources: Some(&folder),
            arguments: &arguments,
            ..Options::default()
        };
        Server::start(&Artifacts::from_env()?, &dir, "", &options)
    };
    let servers = [start("one")?, start("two")?];
    for change in 2..=4_usize {
        replace(&mesh, &format!("mesh: {{name: m{change}}}\n"))?;
        replace(&folder.join("one.json"), &resource(change))?;
        for server in &servers {
            wait_for("both changes", BOUND, || {
                let mesh = server.api_get("/api/v1/revisions");
                let mesh = mesh.map_err(|error| error.to_string())?["current"].clone();
                let raw = resources(server).map_err(|error| error.to_string())?;
                let timeout = &raw["resources"][0]["resource"]["connect_timeout"];
                let is_there = mesh["revision"] == change
                    && mesh["mesh"] == format!("m{change}")
                    && raw["revision"] == change
                    && *timeout == format!("{change}s");
                match is_there {
                    true => Ok(()),
                    false => Err(format!("{mesh} {raw}")),
                }
            })?;
        }
    }
    // One of the two takes the file away; it is gone everywhere.
    std::fs::remove_file(folder.join("one.json"))?;
    for server in &servers {
        wait_for("the file's resource to go", BOUND, || {
            let raw = resources(server).map_err(|error| error.to_string())?;
            match raw["resources"].as_array().is_some_and(Vec::is_empty) {
                true => Ok(()),
                false => Err(raw.to_string()),
            }
        })?;
    }
    Ok(())
}

#[test]
fn kill_9_of_a_server_or_of_etcd_between_writes_loses_nothing_that_was_answered() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut etcd = Etcd::start(dir.path())?;
    let store = etcd.store("kills");
    let mut writer = start(dir.path(), "one", &store)?;
    let other = start(dir.path(), "two", &store)?;
    for number in 1..=6_usize {
        let (status, answer) = apply(writer.api, &cluster(&format!("c{}", number % 4), number))?;
        ensure!(
            status == 200 && answer["revision"] == number,
            "{status}: {answer}"
        );
        if number % 2 == 0 {
            writer.process().kill()?;
            writer = start(dir.path(), "one", &store)?;
        } else {
            etcd.kill()?;
            ensure!(resources(&writer)?["revision"] == number, "reads go on");
            etcd.start_again()?;
        }
        let expected = resources(&writer)?;
        ensure!(expected["revision"] == number, "{expected}");
        wait_same(&other, &expected)?;
    }
    Ok(())
}

#[test]
fn without_etcd_writes_are_refused_and_what_is_served_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut etcd = Etcd::start(dir.path())?;
    let server = start(dir.path(), "one", &etcd.store("away"))?;
    ensure!(apply(server.api, &cluster("a", 1))?.0 == 200);
    etcd.kill()?;
    let began = Instant::now();
    let (status, answer) = apply(server.api, &cluster("b", 1))?;
    ensure!(
        status == 503 && answer["detail"].to_string().contains("etcd://"),
        "{status}: {answer}"
    );
    ensure!(began.elapsed() < Duration::from_secs(30));
    ensure!(resources(&server)?["revision"] == 1);
    ensure!(!store_serves(&server)?);
    ensure!(Client::new(server.api).get("/readyz", &[])?.status == 200);
    etcd.start_again()?;
    wait_for("writes to be taken again", BOUND, || {
        match apply(server.api, &cluster("b", 1)) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    wait_for(
        "the store to be followed again",
        BOUND,
        || match store_serves(&server) {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
}
