//! `mumbai-mesh`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mumbai_mesh_server::cli::main()
}
