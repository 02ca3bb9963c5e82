//! `cargo xtask demo`: a whole mesh on this machine, and a walk through what it does.

mod ports;
mod show;
pub mod stop;
mod world;

use std::path::Path;

use anyhow::{Result, anyhow};
use clap::Args;
use jiff::Timestamp;

use crate::{artifacts, progress::Progress, workspace::Workspace};

/// What a person may choose.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Walk through it, stop everything, and exit 0 if all was as promised, else 1
    #[arg(long)]
    check: bool,
    /// Run server and Envoys as if it were this instant, RFC 3339 with an offset (seconds optional)
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    at: Option<Timestamp>,
    #[command(flatten)]
    ports: ports::Ports,
}

/// As `mumbai-mesh explain --at` reads it: seconds may be left out.
fn instant(text: &str) -> Result<Timestamp> {
    let with_seconds = || {
        let (time, offset) = text.split_at_checked("2026-11-08T18:30".len())?;
        format!("{time}:00{offset}").parse().ok()
    };
    let parsed = text.parse().ok().or_else(with_seconds);
    parsed.ok_or_else(|| anyhow!("write it like 2026-11-08T18:30+05:30"))
}

/// Builds what is missing, starts the mesh, shows what it does, and stays until Ctrl-C.
pub fn run(workspace: &Workspace, progress: &Progress, demo: &Demo) -> Result<()> {
    let stop = stop::Stop::on_ctrl_c()?;
    let ports = demo.ports.choose()?;
    let artifacts = artifacts::all(workspace, progress)?.for_harness();
    // Two demonstrations on different ports do not share a folder.
    let dir = workspace
        .target
        .join("demo")
        .join(ports.gateway.to_string());
    let world = world::World::start(&artifacts, &dir, &ports, demo.at, progress)?;
    show::everything(&world, demo.at.is_some())?;
    if demo.check {
        println!("\nAll of it was as promised.");
        return Ok(());
    }
    invitation(&ports, world.mesh_file());
    stop.wait();
    progress.step("Stopping.");
    drop(world);
    progress.step("All of it is stopped.");
    Ok(())
}

fn invitation(ports: &ports::Chosen, mesh_file: &Path) {
    let (gateway, api) = (ports.gateway, ports.api);
    println!(
        "
Try it (Ctrl-C stops all of it):
  curl -i http://127.0.0.1:{gateway}/orders/7 -H 'x-user-id: user-42'
  curl -s http://127.0.0.1:{gateway}/pay/7                    through the payment service's sidecar
  curl -s http://127.0.0.1:{outbound}/orders/7 -H 'host: order-service'    as the payment service calls it
  curl -s http://127.0.0.1:{api}/api/v1/revisions             what is in force, and what was refused
  curl -s http://127.0.0.1:{api}/api/v1/proxies               what each Envoy acknowledged
  curl -s 'http://127.0.0.1:{api}/api/v1/explain?gateway=edge&path=/orders/7&at=2026-11-08T18:30%2B05:30'
  curl -s http://127.0.0.1:{admin}/stats/prometheus | grep ^mumbai_
Edit {mesh} and watch: a valid change reaches both Envoys, an invalid one changes nothing and
  is told in {log} and at /api/v1/revisions",
        outbound = ports.outbound,
        admin = ports.gateway_admin,
        mesh = mesh_file.display(),
        log = mesh_file.with_file_name("server.log").display(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_may_leave_its_seconds_out() {
        let expected: Timestamp = "2026-11-08T13:00:00Z".parse().unwrap();
        assert_eq!(instant("2026-11-08T18:30+05:30").unwrap(), expected);
        assert_eq!(instant("2026-11-08T18:30:00+05:30").unwrap(), expected);
        assert_eq!(instant("2026-11-08T13:00Z").unwrap(), expected);
        assert!(instant("Diwali").is_err());
    }
}
