//! The images that docker-compose.yml names. Ours are made of what cargo built here. Public ones are pulled; where that
//! cannot be, stand-ins of the same names are made of the real programs, and that is said. What is to be had neither way
//! is left out by its profile, and that is said too.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::{docker::Docker, prometheus};
use crate::{apt, artifacts::Artifacts, progress::Progress, run, workspace::Workspace};

const BASE: &str = "debian:bookworm-slim";
const SUITE: &str = "bookworm";
/// On images that are not what their name says.
const LABEL: &str = "mumbai-mesh.stand-in";

/// What `docker-compose.yml` can be run with.
pub struct Images {
    /// For `COMPOSE_PROFILES`.
    pub profiles: &'static str,
}

/// Begins each container of the stand-in for Envoy's image.
const ENTRYPOINT: &str = "\
#!/bin/sh
# As the entrypoint of the image of this name: not root, unless ENVOY_UID=0 says so.
set -e
case ${1-} in -*) set -- envoy \"$@\" ;; esac
if [ \"$1\" = envoy ] && [ \"$(id -u)\" = 0 ] && [ \"${ENVOY_UID-101}\" != 0 ]; then
    exec setpriv --reuid \"${ENVOY_UID:-101}\" --regid \"${ENVOY_GID:-101}\" --clear-groups \"$@\"
fi
exec \"$@\"
";
const ENVOY: &str = "\
FROM debian:bookworm-slim
COPY envoy /usr/local/bin/
COPY docker-entrypoint.sh /
RUN echo envoy:x:101:101::/nonexistent:/usr/sbin/nologin >> /etc/passwd && echo envoy:x:101: >> /etc/group
ENTRYPOINT [\"/docker-entrypoint.sh\"]
CMD [\"envoy\", \"-c\", \"/etc/envoy/envoy.yaml\"]
";
const PROMETHEUS: &str = "\
FROM debian:bookworm-slim
COPY prometheus promtool /bin/
RUN install -d -o nobody -g nogroup /prometheus
USER nobody
WORKDIR /prometheus
ENTRYPOINT [\"/bin/prometheus\"]
";

/// Makes all of them be there.
pub fn prepare(
    docker: &Docker,
    workspace: &Workspace,
    artifacts: &Artifacts,
    progress: &Progress,
) -> Result<Images> {
    if !present(docker, BASE, progress) {
        base(docker, workspace, progress)?;
    }
    own(docker, workspace, artifacts, progress)?;
    let mut missing = Vec::new();
    for image in named(docker, workspace)? {
        if image.starts_with("mumbai-mesh") || present(docker, &image, progress) {
            continue;
        }
        match image.split(':').next() {
            Some("envoyproxy/envoy") => {
                let files = [("envoy", artifacts.envoy.as_path())];
                stand_in(docker, &image, ENVOY, &files)?;
            }
            Some("prom/prometheus") => {
                let folder = prometheus::find_or_fetch(workspace, progress)?;
                let programs = prometheus::PROGRAMS.map(|name| (name, folder.join(name)));
                let files = programs
                    .each_ref()
                    .map(|(name, path)| (*name, path.as_path()));
                stand_in(docker, &image, PROMETHEUS, &files)?;
            }
            _ => {
                missing.push(image);
                continue;
            }
        }
        said_of_stand_in(&image, progress);
    }
    if missing.is_empty() {
        return Ok(Images {
            profiles: "dashboards",
        });
    }
    progress.warn(format!(
        "{} cannot be pulled, and no package holds the programs: the profile `dashboards` is left out",
        missing.join(" and ")
    ));
    Ok(Images { profiles: "" })
}

fn said_of_stand_in(image: &str, progress: &Progress) {
    progress.warn(format!(
        "{image} cannot be pulled: a stand-in of that name was made, of the real programs"
    ));
}

/// Whether it is there, or was pulled now.
fn present(docker: &Docker, image: &str, progress: &Progress) -> bool {
    let format = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
    let mut look = docker.command(&["image", "inspect", "--format", &format, image]);
    if let Ok(label) = run::text(&mut look) {
        if label.trim() == "true" {
            progress.step(format!("{image} is a stand-in, made earlier."));
        }
        return true;
    }
    run::silent(&mut docker.command(&["pull", "--quiet", image])).is_ok()
}

/// All that any profile needs.
fn named(docker: &Docker, workspace: &Workspace) -> Result<Vec<String>> {
    let mut command = docker.command(&["compose", "--profile", "*", "config", "--images"]);
    let mut images: Vec<String> = run::text(command.current_dir(&workspace.root))?
        .lines()
        .map(str::to_owned)
        .collect();
    images.sort();
    images.dedup();
    Ok(images)
}

fn base(docker: &Docker, workspace: &Workspace, progress: &Progress) -> Result<()> {
    let purpose = format!("make {BASE}, which cannot be pulled");
    apt::install(
        &["mmdebstrap", "debian-archive-keyring"],
        &purpose,
        progress,
    )?;
    progress.step(format!("Making {BASE} of Debian's packages (mmdebstrap)."));
    let folder = tempfile::tempdir_in(&workspace.target)?;
    let tar = folder.path().join("base.tar");
    run::silent(
        Command::new("mmdebstrap")
            .args(["--variant=essential", "--include=ca-certificates", SUITE])
            .arg(&tar),
    )?;
    let tar = tar.to_str().context("target/ is no UTF-8")?;
    let label = format!("LABEL {LABEL}=true");
    run::silent(&mut docker.command(&[
        "import", "--change", &label, "--change", "CMD bash", tar, BASE,
    ]))?;
    said_of_stand_in(BASE, progress);
    Ok(())
}

/// The images of Dockerfile, of programs that are built already.
fn own(
    docker: &Docker,
    workspace: &Workspace,
    artifacts: &Artifacts,
    progress: &Progress,
) -> Result<()> {
    let dockerfile = fs::read_to_string(workspace.root.join("Dockerfile"))?;
    let dockerfile = with_built_programs(&dockerfile)?;
    let files = [
        ("bin/mumbai-mesh", artifacts.server.as_path()),
        ("bin/mumbai_mesh.wasm", &artifacts.wasm),
        ("bin/demo-service", &artifacts.demo_service),
        ("bin/black-box", &artifacts.black_box),
    ];
    let version = env!("CARGO_PKG_VERSION");
    for target in ["demo", "mumbai-mesh"] {
        let name = match target {
            "demo" => format!("mumbai-mesh-demo:{version}"),
            _ => format!("mumbai-mesh:{version}"),
        };
        build(docker, &name, &dockerfile, &files, &["--target", target])?;
        // A program of a newer system than the image's does not start.
        let program = if target == "demo" {
            "demo-service"
        } else {
            "mumbai-mesh"
        };
        let start = [
            "run",
            "--rm",
            "--network=none",
            "--entrypoint",
            program,
            &name,
            "--help",
        ];
        run::silent(&mut docker.command(&start)).with_context(|| {
            format!("what cargo built here does not run in {BASE}: use `docker compose build`")
        })?;
        progress.step(format!("{name} is made of what cargo built here."));
    }
    Ok(())
}

/// Dockerfile with the programs put in place of the stage that builds them.
fn with_built_programs(dockerfile: &str) -> Result<String> {
    let stages: Vec<&str> = dockerfile.split("\n\n").collect();
    let (first, rest) = stages.split_first().context("an empty Dockerfile")?;
    ensure!(
        first.contains(" AS build\n") && !rest.iter().any(|stage| stage.contains("cargo ")),
        "Dockerfile's first stage, and no other, is to build the programs"
    );
    Ok(format!(
        "FROM scratch AS build\nCOPY bin/ /out/\n\n{}",
        rest.join("\n\n")
    ))
}

fn stand_in(docker: &Docker, name: &str, dockerfile: &str, files: &[(&str, &Path)]) -> Result<()> {
    let label = format!("{LABEL}=true");
    build(docker, name, dockerfile, files, &["--label", &label])
}

fn build(
    docker: &Docker,
    name: &str,
    dockerfile: &str,
    files: &[(&str, &Path)],
    options: &[&str],
) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let context = tempfile::tempdir()?;
    let at = |file: &str| context.path().join(file);
    fs::create_dir(at("bin"))?;
    for (file, path) in files {
        fs::copy(path, at(file)).with_context(|| path.display().to_string())?;
    }
    fs::write(at("Dockerfile"), dockerfile)?;
    fs::write(at("docker-entrypoint.sh"), ENTRYPOINT)?;
    fs::set_permissions(
        at("docker-entrypoint.sh"),
        fs::Permissions::from_mode(0o755),
    )?;
    let mut command = docker.command(&["build", "--quiet", "--tag", name]);
    run::silent(command.args(options).arg(context.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_repository(file: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        fs::read_to_string(root.join(file)).unwrap()
    }

    #[test]
    fn programs_take_the_place_of_the_stage_that_builds_them() {
        let made = with_built_programs(&of_repository("Dockerfile")).unwrap();
        assert!(made.starts_with("FROM scratch AS build\n"), "{made}");
        assert!(!made.contains("cargo build"), "{made}");
        for stage in ["AS demo\n", "AS mumbai-mesh\n"] {
            assert!(made.contains(stage), "{made}");
        }
        assert!(with_built_programs("FROM rust\nRUN cargo build").is_err());
    }

    #[test]
    fn compose_names_the_versions_that_are_tested() {
        let compose = of_repository("docker-compose.yml");
        let envoy = format!("envoyproxy/envoy:v{}\n", crate::envoy::ENVOY.version);
        assert!(compose.contains(&envoy), "not {envoy}");
        let ours = format!("mumbai-mesh:{}\n", env!("CARGO_PKG_VERSION"));
        assert!(compose.contains(&ours), "not {ours}");
    }
}
