//! `mumbai-mesh plan`: what a change would do is told before it is done, by a real server with a real Envoy
//! connected, and it is what then happens.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{command, mesh::Mesh};

/// Exit code, standard output and standard error.
fn plan(arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    command::run(&["plan"], arguments)
}

fn written(mesh: &Mesh, name: &str, text: &str) -> Result<PathBuf> {
    let file = mesh.dir.path().join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}

#[test]
fn a_change_is_told_before_it_is_done_and_nothing_is_done() -> Result<()> {
    let mut mesh = Mesh::start(|_| {})?;
    let server = format!("http://{}", mesh.server.api);
    let revision = mesh.revision()?;
    let newer = mesh.file.text().replace("weight: 10", "weight: 25");
    let file = written(&mesh, "newer.yaml", &newer)?;
    let file = file.to_str().context("path")?;

    let (code, table, errors) = plan(&[file, "--server", &server])?;
    ensure!(code == Some(2) && errors.is_empty(), "{code:?} {errors}");
    for words in [
        "order-service: canary v2 10 % -> 25 %",
        "gateway edge, sidecars of order-service, 1 connected:",
        "~ ECDS mumbai_mesh",
        "services[order-service].canary.weight: 10 -> 25",
    ] {
        ensure!(table.contains(words), "no {words:?}: {table}");
    }
    let (code, told, _) = plan(&[file, "--server", &server, "-o", "json"])?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(
        code == Some(2) && told["revision"] == json!(revision),
        "{told:#}"
    );
    ensure!(told["groups"][0]["connected"] == 1, "{told:#}");
    let (_, yaml, _) = plan(&[file, "--server", &server, "-o", "yaml"])?;
    ensure!(yaml.contains("connected: 1"), "{yaml}");
    ensure!(mesh.revision()? == revision, "a plan made a revision");

    // A file alone, as curl sends it.
    let (status, answer) = mesh.server.api_post("/api/v1/plan", newer.as_bytes())?;
    ensure!(
        status == 200 && answer["mesh"] == told["mesh"],
        "{status} {answer:#}"
    );

    mesh.change(|file| file.weight = "25")?;
    // What was foretold is what the gateway was sent.
    let sent = mesh
        .server
        .api_get("/api/v1/proxies/edge/config?type=ECDS")?;
    ensure!(sent.to_string().contains(r#"\"weight\":25"#), "{sent:#}");
    let (code, table, _) = plan(&[file, "--server", &server])?;
    ensure!(
        code == Some(0) && table == "nothing would change\n",
        "{code:?} {table}"
    );
    Ok(())
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_all_its_places() -> Result<()> {
    let mesh = Mesh::start(|_| {})?;
    let server = format!("http://{}", mesh.server.api);
    let bad = mesh
        .file
        .text()
        .replace("weight: 10", "wieght: 10")
        .replace("path_prefix: /orders", "path_prefix: orders");
    let file = written(&mesh, "bad.yaml", &bad)?;
    let file = file.to_str().context("path")?;
    let good = mesh
        .server
        .mesh_file()
        .to_str()
        .context("path")?
        .to_string();
    for arguments in [[file, "--server", &server], [file, "--against", &good]] {
        let (code, out, errors) = plan(&arguments)?;
        ensure!(code == Some(65) && out.is_empty(), "{code:?} {out}");
        for words in [
            "bad.yaml:",
            "services.order-service.canary.wieght: unknown field",
            "gateways.edge.routes[0].match.path_prefix",
        ] {
            ensure!(errors.contains(words), "no {words:?}: {errors}");
        }
    }
    let (status, answer) = mesh
        .server
        .api_post("/api/v1/plan", b"include: [other.yaml]\n")?;
    ensure!(
        status == 400 && answer["problems"][0]["path"] == "include[0]",
        "{status} {answer:#}"
    );
    // Of several files, those that one includes must be among them.
    let include = "include: [calendars/peak.yaml, ../teams/payments.yaml]\nservices: {}\n";
    let sent = |others: &[&str]| {
        let others = others
            .iter()
            .map(|name| json!({"name": name, "text": "{}"}));
        let all: Vec<_> = others
            .chain([json!({"name": "m/mesh.yaml", "text": include})])
            .collect();
        json!({"files": all}).to_string()
    };
    let half = sent(&["/etc/m/calendars/peak.yaml", "payments.yaml"]);
    let (status, answer) = mesh.server.api_post("/api/v1/plan", half.as_bytes())?;
    ensure!(status == 400, "{status} {answer:#}");
    let problems = &answer["problems"];
    ensure!(
        problems[0]["path"] == "include[1]" && problems[1].is_null(),
        "{answer:#}"
    );
    let whole = sent(&["calendars/peak.yaml", "teams/payments.yaml"]);
    let (status, answer) = mesh.server.api_post("/api/v1/plan", whole.as_bytes())?;
    ensure!(status == 200, "{status} {answer:#}");
    ensure!(mesh.revision()? == 1, "something was applied");
    Ok(())
}

#[test]
fn two_files_are_compared_without_a_server() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text = "peak_hours: {morning: {start: 7, end: 11}}\nservices: {}\n";
    let [old, new] = ["old.yaml", "new.yaml"].map(|name| dir.path().join(name));
    std::fs::write(&old, text)?;
    std::fs::write(&new, text.replace("11", "12"))?;
    let [old, new] = [&old, &new].map(|path| path.to_string_lossy().into_owned());
    let at = ["--at", "2026-11-24T11:30+05:30"];
    let (code, table, errors) = plan(&[&[&new, "--against", &old][..], &at].concat())?;
    ensure!(
        code == Some(2)
            && table.starts_with(
                "peak hours `morning` 07:00-11:00 -> 07:00-12:00\n\
                 warning: from the moment it applies it is a peak hour (morning) instead of a normal hour\n"
            ),
        "{code:?} {table} {errors}"
    );
    let (code, ..) = plan(&[&old, "--against", &old])?;
    ensure!(code == Some(0), "{code:?}");
    let (code, _, errors) = plan(&[&new, "--server", "http://127.0.0.1:9"])?;
    ensure!(
        code == Some(1) && errors.contains("does not answer"),
        "{code:?} {errors}"
    );
    Ok(())
}
