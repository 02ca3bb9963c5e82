//! Where the programs are that a mesh is made of.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// Absolute paths of files that exist.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// The filter, `mumbai_mesh.wasm`.
    pub wasm: PathBuf,
    /// A stock Envoy.
    pub envoy: PathBuf,
    /// The program `mumbai-mesh`.
    pub server: PathBuf,
    /// The program `demo-service`.
    pub demo_service: PathBuf,
}

impl Artifacts {
    /// As `cargo xtask test` says.
    ///
    /// # Errors
    /// A variable that is not set, or names no file: with the command to run.
    pub fn from_env() -> Result<Self> {
        Ok(Self {
            wasm: variable("MUMBAI_MESH_WASM")?,
            envoy: variable("ENVOY_BIN")?,
            server: variable("MUMBAI_MESH_BIN")?,
            demo_service: variable("MUMBAI_MESH_DEMO_SERVICE")?,
        })
    }
}

/// A stock grpcurl.
///
/// # Errors
/// As [`Artifacts::from_env`].
pub fn grpcurl() -> Result<PathBuf> {
    variable("GRPCURL_BIN")
}

/// A stock rotel, an OTLP collector.
///
/// # Errors
/// As [`Artifacts::from_env`].
pub fn rotel() -> Result<PathBuf> {
    variable("ROTEL_BIN")
}

/// A stock etcd.
///
/// # Errors
/// As [`Artifacts::from_env`].
pub fn etcd() -> Result<PathBuf> {
    variable("ETCD_BIN")
}

/// A kubernetes-validate.
///
/// # Errors
/// As [`Artifacts::from_env`].
pub fn kubernetes_validate() -> Result<PathBuf> {
    variable("KUBERNETES_VALIDATE_BIN")
}

/// An openapi-spec-validator.
///
/// # Errors
/// As [`Artifacts::from_env`].
pub fn openapi_validate() -> Result<PathBuf> {
    variable("OPENAPI_SPEC_VALIDATOR_BIN")
}

#[expect(clippy::disallowed_methods, reason = "tests are told where things are")]
fn variable(name: &str) -> Result<PathBuf> {
    const RUN: &str = "run `cargo xtask test`, or `eval \"$(cargo xtask build)\"` first";
    let path = std::env::var_os(name).with_context(|| format!("{name} is not set: {RUN}"))?;
    let path = PathBuf::from(path);
    ensure!(
        path.is_file(),
        "{name}={} is no file: {RUN}",
        path.display()
    );
    Ok(path)
}

/// The policy of which a benchmark wants the calls counted.
#[expect(clippy::disallowed_methods, reason = "tests are told what to count")]
pub fn bench_policy() -> Option<String> {
    std::env::var("MUMBAI_MESH_BENCH_POLICY").ok()
}
