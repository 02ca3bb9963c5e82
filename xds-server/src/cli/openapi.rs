//! `mumbai-mesh openapi`.

use clap::Args;

use super::output::print;
use crate::api;

/// Print what the server's API takes and gives, as OpenAPI 3.1: for generators of clients and for documentation.
///
/// A running server has the same at /api/v1/openapi.json.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mumbai-mesh openapi > openapi.json")]
pub(super) struct OpenApi {}

impl OpenApi {
    pub(super) fn run(self) -> anyhow::Result<()> {
        print(&format!("{:#}\n", api::document(&api::table())))?;
        Ok(())
    }
}
