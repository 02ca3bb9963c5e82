//! `mumbai-mesh calendar`, as people and scripts use it, and the calendars that come with it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use harness::{
    artifacts::Artifacts,
    server::{Options, Server},
};
use serde_json::Value;

fn run(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(Artifacts::from_env()?.server);
    for variable in ["REGION", "TIMEZONE", "PEAK_HOURS", "MESH_CONFIG_PATH"] {
        command.env_remove(variable);
    }
    Ok(command.args(arguments).output()?)
}

fn said(arguments: &[&str]) -> Result<String> {
    let output = run(arguments)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

fn json(arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&said(arguments)?)?)
}

/// Where the calendars are that come with the project.
fn calendars() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../calendars");
    folder.canonicalize().context("calendars/")
}

/// A mesh that includes both calendars, in a folder of its own.
fn mesh() -> Result<(tempfile::TempDir, String)> {
    let dir = tempfile::tempdir()?;
    for name in ["india-festivals.yaml", "npci-peak.yaml"] {
        std::fs::create_dir_all(dir.path().join("calendars"))?;
        let copy = dir.path().join("calendars").join(name);
        std::fs::copy(calendars()?.join(name), copy)?;
    }
    let file = dir.path().join("mesh.yaml");
    let text = "include: [calendars/npci-peak.yaml, calendars/india-festivals.yaml]\n";
    std::fs::write(&file, text)?;
    let file = file.to_str().context("path")?.to_string();
    Ok((dir, file))
}

#[test]
fn next_tells_what_changes_when_in_the_meshs_own_zone() -> Result<()> {
    let (_dir, file) = mesh()?;
    let at = ["--at", "2026-11-07T13:00Z", "--count", "3"];
    let told = said(&[&["calendar", "next", "--config", &file], &at[..]].concat())?;
    ensure!(
        told == "\
2026-11-07T18:30:00+05:30 Asia/Kolkata: peak_hour (npci-evening)

WHEN                       IN       STATE     WHAT
2026-11-07T21:30:00+05:30  3h       normal    window npci-evening ends
2026-11-08T00:00:00+05:30  5h 30m   festival  festival Diwali begins, until 2026-11-09T00:00:00+05:30
2026-11-08T10:00:00+05:30  15h 30m  festival  window npci-morning begins, until 2026-11-08T13:00:00+05:30
",
        "{told}"
    );
    let answer = json(
        &[
            &["calendar", "next", "--config", &file, "-o", "json"],
            &at[..],
        ]
        .concat(),
    )?;
    ensure!(answer["timezone"] == "Asia/Kolkata", "{answer:#}");
    ensure!(
        answer["changes"][1]["kind"] == "festival_begins",
        "{answer:#}"
    );
    ensure!(answer["changes"][1]["name"] == "Diwali", "{answer:#}");
    ensure!(answer["more"] == true, "{answer:#}");
    let yaml = said(
        &[
            &["calendar", "next", "--config", &file, "-o", "yaml"],
            &at[..],
        ]
        .concat(),
    )?;
    ensure!(yaml.contains("kind: festival_begins"), "{yaml}");
    Ok(())
}

#[test]
fn show_prints_a_month_by_its_days() -> Result<()> {
    let (_dir, file) = mesh()?;
    let month = ["calendar", "show", "--config", &file, "--month", "2026-11"];
    let told = said(&month)?;
    let diwali = told.lines().find(|line| line.starts_with("2026-11-08"));
    let diwali = diwali.context("no line for it")?;
    ensure!(
        diwali.contains("sun  no        Diwali (holiday)"),
        "{diwali}"
    );
    ensure!(
        diwali.ends_with("npci-morning 10:00-13:00+05:30, npci-evening 17:00-21:30+05:30"),
        "{diwali}"
    );
    let answer = json(&[&month[..], &["-o", "json"]].concat())?;
    ensure!(answer["days"].as_array().map(Vec::len) == Some(30));
    let day = &answer["days"][7];
    ensure!(day["date"] == "2026-11-08" && day["festivals"][0]["name"] == "Diwali");
    ensure!(
        day["windows"][0]["from"] == "2026-11-08T10:00:00+05:30",
        "{day:#}"
    );
    let source = day["festivals"][0]["source"].as_str().unwrap_or_default();
    ensure!(source.contains("PyPI holidays"), "{day:#}");
    let yaml = said(&[&month[..], &["-o", "yaml"]].concat())?;
    ensure!(
        yaml.contains("month: 2026-11") || yaml.contains("month: \"2026-11\""),
        "{yaml}"
    );
    Ok(())
}

#[test]
fn a_running_server_answers_as_its_file_does() -> Result<()> {
    let (dir, file) = mesh()?;
    let options = Options {
        config: Some(Path::new(&file)),
        ..Options::default()
    };
    let server = Server::start(&Artifacts::from_env()?, dir.path(), "", &options)?;
    let url = format!("http://{}", server.api);
    for question in [
        &["next", "--at", "2026-11-07T12:00+05:30", "--count", "40"][..],
        &["show", "--month", "2027-03"],
    ] {
        let ask = |of: [&str; 2]| json(&[&["calendar"], question, &of, &["-o", "json"]].concat());
        let (by_file, by_server) = (ask(["--config", &file])?, ask(["--server", &url])?);
        ensure!(by_file == by_server, "{by_file:#}\n{by_server:#}");
    }
    // The defaults: from now on, and this month.
    let next = json(&["calendar", "next", "--server", &url, "-o", "json"])?;
    ensure!(
        next["changes"].as_array().map(Vec::len) == Some(10),
        "{next:#}"
    );
    let show = json(&["calendar", "show", "--server", &url, "-o", "json"])?;
    let this_month = next["at"].as_str().and_then(|at| at.get(..7));
    ensure!(show["month"].as_str() == this_month, "{show:#}");
    for (path, word) in [
        ("/api/v1/calendar/next?at=noon", "at: "),
        ("/api/v1/calendar/next?count=0", "1 to 1000"),
        ("/api/v1/calendar/next?when=now", "when"),
        ("/api/v1/calendar/month?month=11", "2026-11"),
    ] {
        let problem = server.api_get(path)?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(
            problem["status"] == 400 && detail.contains(word),
            "{path}: {problem}"
        );
    }
    Ok(())
}

#[test]
fn exit_codes_tell_wrong_usage_bad_data_and_a_server_that_is_not_there() -> Result<()> {
    let (dir, file) = mesh()?;
    let bad = dir.path().join("bad.yaml");
    std::fs::write(&bad, "festivals: [{name: Diwali, date: 2026-11-31}]\n")?;
    let bad = bad.to_str().context("path")?;
    let next =
        |more: &[&'static str]| run(&[&["calendar", "next", "--config", &file], more].concat());
    for (output, code, word) in [
        (next(&["--at", "noon"])?, 64, "at: "),
        (next(&["--count", "0"])?, 64, "1 to 1000"),
        (next(&["--count", "many"])?, 64, "--count"),
        (next(&["--server", "http://127.0.0.1:1"])?, 64, "--server"),
        (
            run(&["calendar", "show", "--config", &file, "--month", "november"])?,
            64,
            "2026-11",
        ),
        (
            run(&["calendar", "next", "--config", bad])?,
            65,
            "festivals[0].date",
        ),
        (
            run(&["calendar", "show", "--config", "/nowhere/mesh.yaml"])?,
            65,
            "/nowhere/mesh.yaml",
        ),
        (
            run(&["calendar", "next", "--server", "http://127.0.0.1:1"])?,
            1,
            "does not answer",
        ),
    ] {
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(code),
            "{}: {errors}",
            output.status
        );
        ensure!(errors.contains(word), "{word}: {errors}");
    }
    for command in ["next", "show"] {
        let help = said(&["calendar", command, "--help"])?;
        ensure!(
            help.contains("Examples:") && help.contains("Exit codes:"),
            "{help}"
        );
    }
    Ok(())
}

/// What is wrong with a calendar is told long before it matters.
#[test]
fn analyze_tells_of_a_calendar_that_ends_and_of_other_peaks_than_npcis() -> Result<()> {
    let (dir, file) = mesh()?;
    let codes = |file: &str, at: &str| -> Result<(Option<i32>, Vec<String>)> {
        let output = run(&["analyze", file, "--at", at, "-o", "json"])?;
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        let found = answer["findings"].as_array().context("findings")?.iter();
        let codes = found.map(|found| found["code"].as_str().unwrap_or_default().to_string());
        Ok((output.status.code(), codes.collect()))
    };
    let now = codes(&file, "2026-11-25T12:00+05:30")?;
    ensure!(now == (Some(0), vec![]), "{now:?}");
    let last_autumn = codes(&file, "2028-10-02T12:00+05:30")?;
    ensure!(
        last_autumn == (Some(79), vec!["next-year-empty".into()]),
        "{last_autumn:?}"
    );
    let afterwards = codes(&file, "2029-01-01T12:00+05:30")?;
    ensure!(
        afterwards
            == (
                Some(79),
                vec!["festivals-over".into(), "holidays-over".into()]
            ),
        "{afterwards:?}"
    );
    let other = dir.path().join("other.yaml");
    std::fs::write(&other, "peak_hours: {morning: {start: 9, end: 13}}\n")?;
    let other = codes(other.to_str().context("path")?, "2026-11-25T12:00+05:30")?;
    // Worth knowing, and no reason to stop a release.
    ensure!(
        other == (Some(0), vec!["npci-peak-differs".into()]),
        "{other:?}"
    );
    Ok(())
}
