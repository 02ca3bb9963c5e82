//! Files that change while the server runs.

use std::{fs, os::unix::fs::symlink};

use anyhow::{Result, ensure};
use harness::{load::Load, wait::wait_for};

use super::{Stage, write};
use crate::{door1::BOUND, mesh::Mesh};

fn service(name: &str) -> String {
    format!("services: {{{name}: {{}}}}\n")
}

#[test]
fn files_of_a_folder_come_change_and_go() -> Result<()> {
    let stage = Stage::start("config", &[("config/10-a.yaml", &service("a"))])?;
    stage.write("config/20-b.yml", &service("b"))?;
    stage.wait_for_revision(2)?;
    ensure!(stage.has("a")? && stage.has("b")?);
    stage.write("config/20-b.yml", &service("c"))?;
    stage.wait_for_revision(3)?;
    ensure!(!stage.has("b")? && stage.has("c")?);
    fs::remove_file(stage.path("config/10-a.yaml"))?;
    stage.wait_for_revision(4)?;
    ensure!(!stage.has("a")? && stage.has("c")?);
    Ok(())
}

#[test]
fn a_folder_that_is_emptied_or_replaced_takes_nothing_away_before_it_says_something() -> Result<()>
{
    let stage = Stage::start("config", &[("config/a.yaml", &service("a"))])?;
    fs::rename(stage.path("config"), stage.path("old"))?;
    stage.wait_for_refusal(|told| told[0].contains("cannot be read"))?;
    fs::create_dir(stage.path("config"))?;
    stage.wait_for_refusal(|told| told[0].contains("has no *.yaml or *.yml file"))?;
    ensure!(stage.has("a")?);
    // The new folder is watched as the old one was.
    stage.write("config/b.yaml", &service("b"))?;
    stage.wait_for_revision(2)?;
    ensure!(!stage.has("a")? && stage.has("b")?);
    stage.write("config/b.yaml", &service("c"))?;
    stage.wait_for_revision(3)
}

/// As the kubelet does it: a new folder, and one rename of the link `..data`.
#[test]
fn a_config_map_that_is_swapped_is_one_change() -> Result<()> {
    let stage = Stage::start(
        "mount",
        &[
            (
                "mount/..1/mesh.yaml",
                "include: [more.yaml]\nservices: {a: {}}\n",
            ),
            ("mount/..1/more.yaml", &service("b")),
            // What is not linked yet is not there.
            ("mount/mesh.yaml", "services: {first: {}}\n"),
        ],
    )?;
    let link = |generation: &str| -> Result<()> {
        symlink(generation, stage.path("mount/..data_tmp"))?;
        fs::rename(stage.path("mount/..data_tmp"), stage.path("mount/..data"))?;
        Ok(())
    };
    link("..1")?;
    for name in ["more.yaml", "mesh.yaml"] {
        let beside = stage.path("mount/.link");
        symlink(format!("..data/{name}"), &beside)?;
        fs::rename(&beside, stage.path(&format!("mount/{name}")))?;
    }
    wait_for("both files", BOUND, || {
        match (stage.has("a"), stage.has("b")) {
            (Ok(true), Ok(true)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let before = stage.revision()?;
    stage.write(
        "mount/..2/mesh.yaml",
        "include: [more.yaml]\nservices: {c: {}}\n",
    )?;
    stage.write("mount/..2/more.yaml", &service("d"))?;
    link("..2")?;
    wait_for("both files", BOUND, || {
        match (stage.has("c"), stage.has("d")) {
            (Ok(true), Ok(true)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    ensure!(stage.revision()? == before + 1, "one change, one revision");
    Ok(())
}

#[test]
fn included_files_are_followed_wherever_they_lie() -> Result<()> {
    let main = "include: [../elsewhere/a.yaml]\nservices: {main: {}}\n";
    let stage = Stage::start(
        "config/mesh.yaml",
        &[
            ("config/mesh.yaml", main),
            ("elsewhere/a.yaml", &service("a")),
        ],
    )?;
    ensure!(stage.has("main")? && stage.has("a")?);
    stage.write("elsewhere/a.yaml", &service("b"))?;
    stage.wait_for_revision(2)?;
    ensure!(!stage.has("a")? && stage.has("b")?);
    // One that is included now, and not there yet.
    stage.write("elsewhere/a.yaml", "include: [deeper/c.yaml]\n")?;
    let told = stage.wait_for_refusal(|_| true)?;
    ensure!(
        told.len() == 1 && told[0].starts_with("a.yaml:1:11: include[0]:"),
        "{told:?}"
    );
    ensure!(stage.has("b")?);
    stage.write("elsewhere/deeper/c.yaml", &service("c"))?;
    stage.wait_for_revision(3)?;
    ensure!(stage.has("c")? && !stage.has("b")?);
    Ok(())
}

#[test]
fn what_changes_nothing_in_effect_is_no_revision() -> Result<()> {
    let text = "services: {a: {}, b: {}}\n";
    let stage = Stage::start("config", &[("config/mesh.yaml", text)])?;
    let told = || stage.server.log().matches("says nothing new").count();
    for (index, same) in ["# a comment\nservices:\n  b: {}\n  a: {}\n", text]
        .into_iter()
        .enumerate()
    {
        stage.write("config/mesh.yaml", same)?;
        wait_for("the file to be read", BOUND, || match told() {
            count if count > index => Ok(()),
            count => Err(format!("read {count} times")),
        })?;
        ensure!(stage.revision()? == 1);
    }
    // The same in two files is the same.
    stage.write("config/mesh.yaml", &service("a"))?;
    stage.write("config/second.yaml", &service("b"))?;
    stage.write("config/third.yaml", &service("c"))?;
    wait_for("the third service", BOUND, || match stage.has("c") {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

/// What is read in the middle of writing must not count.
#[test]
fn a_file_that_is_written_in_place_is_read_when_its_writer_is_done() -> Result<()> {
    use std::io::Write as _;
    let stage = Stage::start("mesh.yaml", &[("mesh.yaml", &service("a"))])?;
    let mut file = fs::File::create(stage.path("mesh.yaml"))?;
    file.write_all(b"services:\n")?;
    for number in 0..200 {
        writeln!(file, "  s{number}: {{}}")?;
    }
    drop(file);
    wait_for("the last service", BOUND, || match stage.has("s199") {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

/// Edits of every kind, good and bad, by rename and in place, of the file and of what it includes.
#[test]
fn a_hundred_edits_under_load_fail_no_request() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let calendar = dir.path().join("calendar.yaml");
    let festivals = |day: usize| format!("festivals: [\"2050-01-{:02}\"]\n", day % 28 + 1);
    write(&calendar, festivals(0).as_bytes())?;
    let mut mesh = Mesh::start(|file| {
        file.more = format!("include: [{}]\n", calendar.display());
    })?;
    let load = Load::start(mesh.address(), 4, "/orders/1");
    let refused = |mesh: &Mesh| -> Result<bool> {
        let revisions = mesh.server.api_get("/api/v1/revisions")?;
        Ok(!revisions["refused"].is_null())
    };
    for edit in 1..=100 {
        let before = mesh.revision()?;
        match edit % 4 {
            0 => mesh.change(|file| file.weight = if edit % 8 == 0 { "25" } else { "50" })?,
            1 => fs::write(&calendar, festivals(edit))?,
            2 => write(&calendar, b"festivals: [\"2050-02-30\"]\n")?,
            _ => write(&calendar, festivals(edit).as_bytes())?,
        }
        let is_bad = edit % 4 == 2;
        wait_for(&format!("edit {edit}"), BOUND, || {
            let revision = mesh.revision().map_err(|error| error.to_string())?;
            let refused = refused(&mesh).map_err(|error| error.to_string())?;
            match refused == is_bad && (revision > before) != is_bad {
                true => Ok(()),
                false => Err(format!(
                    "revision {revision} after {before}, refused: {refused}"
                )),
            }
        })?;
    }
    let report = load.stop();
    ensure!(report.failures.is_empty(), "{report:#?}");
    ensure!(report.ok > 1_000, "{report:?}");
    Ok(())
}
