//! The API by TLS, and servers that would be too open.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use harness::{artifacts::Artifacts, http::Client, server::replace, wait::wait_for};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

use super::{Closed, MESH, said};
use crate::door1::BOUND;

/// An authority and a certificate of it for loopback, as files of a folder.
fn certificate(folder: &Path) -> Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let root = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?.pem();
    fs::create_dir_all(folder)?;
    replace(&folder.join("ca.crt"), &root)?;
    replace(&folder.join("tls.key"), &key.serialize_pem())?;
    replace(&folder.join("tls.crt"), &leaf)
}

#[test]
fn by_tls_the_command_line_shows_its_token_and_a_new_certificate_needs_no_restart() -> Result<()> {
    let certificates = tempfile::tempdir()?;
    let folder = certificates.path().join("api");
    certificate(&folder)?;
    let path = folder.to_str().context("path")?;
    let closed = Closed::start(&["--tls-cert-path", path])?;
    let token = closed.token("asha", "viewer", &[])?;
    let server = format!("https://{}", closed.server.api);
    let ca = folder.join("ca.crt");
    let ca = ca.to_str().context("path")?;
    let ask = |more: &[&str], variable: Option<&str>| -> Result<(Option<i32>, String)> {
        let mut command = Command::new(Artifacts::from_env()?.server);
        command
            .args(["proxy", "status", "--server", &server])
            .args(more);
        command.env_remove("MUMBAI_MESH_TOKEN");
        if let Some(token) = variable {
            command.env("MUMBAI_MESH_TOKEN", token);
        }
        let output = command.output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    };
    wait_for("the token to be taken up", BOUND, || {
        match ask(&["--ca-file", ca, "--token", &token], None) {
            Ok((Some(0), _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let (code, text) = ask(&["--ca-file", ca], Some(&token))?;
    ensure!(code == Some(0), "{text}");
    let (code, text) = ask(&["--ca-file", ca], None)?;
    ensure!(
        code == Some(1) && text.contains("a token is needed"),
        "{text}"
    );
    let (code, text) = ask(&["--token", &token], None)?;
    ensure!(code == Some(64) && text.contains("--ca-file"), "{text}");

    let plain = Client::new(closed.server.api).get("/healthz", &[]);
    ensure!(plain.is_err(), "plaintext is answered: {plain:?}");

    let old = certificates.path().join("old.crt");
    fs::copy(ca, &old)?;
    certificate(&folder)?;
    wait_for("the new certificate", BOUND, || {
        match ask(&["--ca-file", ca, "--token", &token], None) {
            Ok((Some(0), _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let (code, text) = ask(
        &[
            "--ca-file",
            old.to_str().context("path")?,
            "--token",
            &token,
        ],
        None,
    )?;
    ensure!(code == Some(1), "{text}");
    ensure!(closed.dir.path().exists());
    Ok(())
}

#[test]
fn a_server_that_would_be_too_open_does_not_start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    fs::write(&file, MESH)?;
    let state_dir = dir.path().join("state");
    let serve = |more: &[&str]| -> Result<(Option<i32>, String)> {
        let artifacts = Artifacts::from_env()?;
        let output = Command::new(&artifacts.server)
            .args(["serve", "--xds-listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--state-dir")
            .arg(&state_dir)
            .arg("--filter")
            .arg(&artifacts.wasm)
            .args(more)
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.code(), errors))
    };
    let (code, errors) = serve(&["--api-listen", "0.0.0.0:0", "--anonymous-role", "operator"])?;
    ensure!(
        code == Some(64) && errors.contains("at most look"),
        "{code:?} {errors}"
    );
    let nowhere = dir.path().join("none");
    let nowhere = nowhere.to_str().context("path")?;
    let (code, errors) = serve(&["--api-listen", "127.0.0.1:0", "--tls-cert-path", nowhere])?;
    ensure!(
        code == Some(1) && errors.contains("tls.crt cannot be read"),
        "{code:?} {errors}"
    );
    let state = state_dir.to_str().context("path")?;
    said(&[
        "token",
        "create",
        "--name",
        "ci",
        "--role",
        "viewer",
        "--state-dir",
        state,
    ])?;
    let mut permissions = fs::metadata(state_dir.join("tokens.json"))?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(state_dir.join("tokens.json"), permissions)?;
    let (code, errors) = serve(&["--api-listen", "127.0.0.1:0"])?;
    ensure!(
        code == Some(1) && errors.contains("may be used by others"),
        "{code:?} {errors}"
    );
    Ok(())
}
