//! Files in a folder: together or not at all.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Result, ensure};

use super::text;
use crate::command::run;

const MESH: &str =
    "services: {order-service: {port: 8080, endpoints: [{id: o, host: o.shop.svc, port: 15006}]}}";

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

#[test]
fn an_export_replaces_the_one_before_and_leaves_what_is_not_its_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = dir.path().join("mesh.yaml");
    fs::write(&mesh, MESH)?;
    let out = dir.path().join("out");
    let kubernetes = ["kubernetes", "--config", text(&mesh)?, "--out", text(&out)?];
    let (code, said, told) = run(&["export"], &kubernetes)?;
    ensure!(code == Some(0), "{told}");
    // The example lies in a folder of its own.
    ensure!(said.lines().count() == names(&out)?.len(), "{said}");
    ensure!(out.join("examples/sidecar.yaml").is_file(), "{said}");
    ensure!(names(&out)?.contains("hpa.yaml"));
    fs::write(out.join("mine.yaml"), "a: 1\n")?;
    let embedded = [&kubernetes[..], &["--store", "embedded"]].concat();
    let (code, _, told) = run(&["export"], &embedded)?;
    ensure!(code == Some(0), "{told}");
    let after = names(&out)?;
    // `kubectl apply -f DIR` would bring the scaler back.
    ensure!(
        !after.contains("hpa.yaml") && !after.contains("etcd.yaml"),
        "{after:?}"
    );
    ensure!(
        after.contains("mine.yaml") && after.contains("deployment.yaml"),
        "{after:?}"
    );
    Ok(())
}

#[test]
fn what_cannot_be_exported_writes_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = dir.path().join("mesh.yaml");
    fs::write(&mesh, MESH.replace("order-service", "7-eleven"))?;
    let out = dir.path().join("out");
    for kind in ["kubernetes", "istio"] {
        let (code, said, told) = run(
            &["export"],
            &[kind, "--config", text(&mesh)?, "--out", text(&out)?],
        )?;
        ensure!(
            code == Some(65) && said.is_empty(),
            "{kind}: {code:?} {said}"
        );
        ensure!(
            told.contains("services.7-eleven: ") && told.contains("(rename it"),
            "{told}"
        );
        ensure!(!out.exists(), "{kind}");
    }
    // A folder in the place of the last file: the others stay as they were.
    fs::write(&mesh, MESH)?;
    fs::create_dir_all(out.join("networkpolicy.yaml"))?;
    let (code, _, told) = run(
        &["export"],
        &["kubernetes", "--config", text(&mesh)?, "--out", text(&out)?],
    )?;
    ensure!(
        code == Some(1) && told.contains("networkpolicy.yaml is a folder"),
        "{code:?} {told}"
    );
    ensure!(names(&out)?.len() == 1, "{:?}", names(&out)?);
    Ok(())
}

#[test]
fn wrong_flags_name_themselves() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = dir.path().join("mesh.yaml");
    fs::write(&mesh, MESH)?;
    let mesh = text(&mesh)?;
    let cases: [(&[&str], &str); 11] = [
        (&["kubernetes", "--image", ""], "NAME[:TAG]"),
        (&["kubernetes", "--image", "x y"], "NAME[:TAG]"),
        (&["istio"], "--config"),
        (
            &["istio", "--config", mesh, "--url", "ftp://x"],
            "must begin with file://",
        ),
        (
            &["istio", "--config", mesh, "--sha256", "12"],
            "64 of 0-9 and a-f",
        ),
        (
            &["istio", "--config", mesh, "--namespace", "Shop"],
            "no name of a namespace",
        ),
        (
            &["istio", "--config", mesh, "--workload", "app"],
            "KEY=VALUE",
        ),
        (&["kubernetes", "--store", "http://etcd"], "--store: "),
        (
            &["kubernetes", "--store", "embedded", "--store-tls"],
            "leave --store-tls out",
        ),
        (
            &["configmap", "nobody", "--config", mesh],
            "known: order-service",
        ),
        (
            &["secret", "order-service"],
            "--server <URL> or --state-dir <DIR>",
        ),
    ];
    for (arguments, words) in cases {
        let (code, said, told) = run(&["export"], arguments)?;
        ensure!(
            code == Some(64) && said.is_empty(),
            "{arguments:?}: {code:?}"
        );
        ensure!(told.contains(words), "{arguments:?}: {told}");
    }
    Ok(())
}
