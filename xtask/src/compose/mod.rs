//! `cargo xtask compose` and `cargo xtask images`: the second door, on a real Docker.

mod check;
mod docker;
mod images;
mod outage;
mod project;
mod prometheus;

use anyhow::Result;
use clap::Args;

use crate::{artifacts, demo::stop::Stop, progress::Progress, run, workspace::Workspace};
use docker::Docker;
use project::Project;

/// What a person may choose.
#[derive(Debug, Clone, Args)]
pub struct Compose {
    /// Test it, take it down, and exit 0 if all was as promised, else 1
    #[arg(long)]
    check: bool,
}

/// Brings docker-compose.yml up, and stays until Ctrl-C, or tests it; then takes it down with its volumes.
pub fn run(workspace: &Workspace, progress: &Progress, options: &Compose) -> Result<()> {
    let stop = Stop::on_ctrl_c()?;
    let artifacts = artifacts::all_with_tests(workspace, progress)?;
    let docker = Docker::find_or_start(workspace, progress)?;
    let images = images::prepare(&docker, workspace, &artifacts, progress)?;
    let project = Project::new(&docker, workspace, &images)?;
    let mut down = project.down_command();
    stop.clean_up_with(move || {
        // Nobody is left to tell.
        let _ = run::silent(&mut down);
    });
    if options.check {
        return check::everything(&project, progress).inspect_err(|_| project.tell());
    }
    progress.step("Bringing it up.");
    run::silent(&mut project.compose(&["up", "--detach", "--wait"]))?;
    println!(
        "
Try it (Ctrl-C stops all of it and removes its volumes):
  curl http://localhost:10000/orders/7 -H 'x-user-id: user-42'
  curl http://localhost:8088/services
  http://localhost:9090 is Prometheus
The mesh is {}: edit it.",
        project.mesh.display()
    );
    stop.wait();
    progress.step("Stopping.");
    project.down()
}

/// Makes the images that docker-compose.yml names be there.
pub fn prepare_images(workspace: &Workspace, progress: &Progress) -> Result<()> {
    let artifacts = artifacts::all_with_tests(workspace, progress)?;
    let docker = Docker::find_or_start(workspace, progress)?;
    images::prepare(&docker, workspace, &artifacts, progress)?;
    Ok(())
}
