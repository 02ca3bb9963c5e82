//! `mumbai-mesh schema`.

use clap::Args;

use super::output::print;
use crate::reference::{json_schema, mesh_reference};

/// Print the JSON Schema of mesh files, with which editors complete and check them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mumbai-mesh schema > mesh.schema.json\n\n\
                  Then this as first line of a mesh file tells editors with a YAML language server:\n  \
                  # yaml-language-server: $schema=mesh.schema.json")]
pub(super) struct Schema {
    /// Print the reference for people instead, as Markdown.
    #[arg(long)]
    reference: bool,
}

impl Schema {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.reference {
            true => print(&mesh_reference())?,
            false => print(&format!("{:#}\n", json_schema()))?,
        }
        Ok(())
    }
}
