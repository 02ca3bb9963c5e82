//! Safe change: what is applied, acknowledged, rejected and rolled back; canaries by hand; freezes. On a real server
//! with a real gateway.

mod apply;
mod canaries;
mod freeze;
mod overrides;
mod replicas;
mod rollback;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use harness::wait::wait_for;
use policy::canary::bucket;
use serde_json::Value;

use crate::{
    command,
    door1::{BOUND, version},
    mesh::Mesh,
};

/// Exit code, standard output and standard error of a command that asks this mesh's server.
pub fn run(mesh: &Mesh, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let server = format!("http://{}", mesh.server.api);
    command::run(arguments, &["--server", &server])
}

/// Standard output of a command that succeeds.
pub fn done(mesh: &Mesh, arguments: &[&str]) -> Result<String> {
    let (code, out, errors) = run(mesh, arguments)?;
    ensure!(code == Some(0), "{arguments:?}: {code:?} {out}{errors}");
    Ok(out)
}

/// Standard error of a command that fails with 1.
pub fn refused(mesh: &Mesh, arguments: &[&str]) -> Result<String> {
    let (code, out, errors) = run(mesh, arguments)?;
    ensure!(code == Some(1), "{arguments:?}: {code:?} {out}{errors}");
    Ok(errors)
}

pub fn revisions(mesh: &Mesh) -> Result<Value> {
    mesh.server.api_get("/api/v1/revisions")
}

pub fn file(mesh: &Mesh, name: &str, text: &str) -> Result<PathBuf> {
    let file = mesh.dir.path().join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}

pub fn text(path: &std::path::Path) -> Result<&str> {
    path.to_str().context("path")
}

/// Waits until the users that v2 serves are exactly those whose bucket is below a weight in percent: all of real
/// requests.
pub fn wait_for_split(mesh: &Mesh, percent: u16) -> Result<()> {
    const USERS: u32 = 300;
    let id = |user: u32| format!("user-{user}");
    let expected: BTreeSet<u32> = (0..USERS)
        .filter(|user| bucket("canary", "order-service", id(*user).as_bytes()) < percent * 100)
        .collect();
    wait_for("the users of v2", BOUND, || {
        let seen = || {
            let (mut client, mut served) = (mesh.client(), BTreeSet::new());
            for user in 0..USERS {
                let answer = client.get("/orders", &[("x-user-id", id(user).as_bytes())])?;
                if answer.status != 200 {
                    bail!("user {user}: {}", answer.status);
                }
                if version(&answer)? == "v2" {
                    served.insert(user);
                }
            }
            Ok(served)
        };
        let seen = seen().map_err(|error| format!("{error:#}"))?;
        match seen == expected {
            true => Ok(()),
            false => Err(format!(
                "{} users of v2, not {}",
                seen.len(),
                expected.len()
            )),
        }
    })
}
