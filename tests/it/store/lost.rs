//! A folder that was in use and has no store any more: nobody begins in it with an empty mesh.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use harness::{
    artifacts::Artifacts,
    server::{Options, Server},
};

use crate::command::run;

fn start(dir: &Path) -> Result<Server> {
    Server::start(&Artifacts::from_env()?, dir, "", &Options::NO_CONFIG)
}

/// What a server says that does not start.
fn refused(dir: &Path) -> Result<String> {
    match start(dir) {
        Ok(_) => bail!("it serves"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn revision(server: &Server) -> Result<u64> {
    let answer = server.api_get("/api/v1/revisions")?;
    answer["current"]["revision"]
        .as_u64()
        .context("no revision")
}

#[test]
fn a_store_that_is_gone_or_empty_is_no_new_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = start(dir.path())?;
    let (status, answer) = server.api_post("/api/v1/apply", b"mesh: {name: one}\n")?;
    ensure!(status == 200, "{answer}");
    server.process().kill()?;
    let state = server.state_dir().to_path_buf();
    let file = state.join("mumbai-mesh.redb");
    let whole = fs::read(&file)?;
    let here = ["--state-dir", state.to_str().context("no text")?];
    // The second time without what the API wrote.
    for _ in 0..2 {
        for (damage, said) in [("gone", "is gone"), ("empty", "is empty")] {
            match damage {
                "gone" => fs::remove_file(&file)?,
                _ => fs::write(&file, "")?,
            }
            let mut told = vec![refused(dir.path())?];
            for command in ["verify", "export"] {
                let (code, stdout, stderr) = run(&["store", command], &here)?;
                ensure!(code == Some(65), "{command}: {code:?} {stdout}");
                told.push(stdout + &stderr);
            }
            for told in &told {
                for word in [said, "was in use", "mumbai-mesh restore", "mv ", ".old"] {
                    ensure!(told.contains(word), "{damage}: {word:?} is not in {told}");
                }
            }
            ensure!(file.exists() == (damage == "empty"));
            fs::write(&file, &whole)?;
        }
        fs::remove_file(state.join("audit.log")).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
    }
    let mut server = start(dir.path())?;
    ensure!(revision(&server)? == 1);
    server.process().kill()?;
    // As it says.
    fs::remove_file(&file)?;
    fs::rename(&state, dir.path().join("state.old"))?;
    fs::create_dir(&state)?;
    ensure!(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(dir.path().join("state.old/ca"))
            .arg(&state)
            .status()?
            .success()
    );
    ensure!(revision(&start(dir.path())?)? == 0);
    Ok(())
}

#[test]
fn a_folder_that_never_had_a_store_begins_with_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state");
    let here = ["--state-dir", state.to_str().context("no text")?];
    // Tokens are made before the first start, and a first start may be killed at any point.
    let (code, _, stderr) = run(
        &["token", "create", "--name", "ci", "--role", "viewer"],
        &here,
    )?;
    ensure!(code == Some(0), "{stderr}");
    fs::write(state.join("mumbai-mesh.redb"), "")?;
    fs::write(state.join(".store-killed"), "half")?;
    let (code, _, stderr) = run(&["store", "verify"], &here)?;
    ensure!(
        code == Some(65) && stderr.contains("holds no store"),
        "{stderr}"
    );
    let mut server = start(dir.path())?;
    ensure!(revision(&server)? == 0);
    server.process().kill()?;
    start(dir.path())?;
    Ok(())
}
