//! `mumbai-mesh`.

use std::process::ExitCode;

/// Thousands of connections change their buffers beside a mesh that stays. glibc's allocator leaves holes
/// between the two: under steady changes a server grew by a quarter that it did not use. This one keeps
/// sizes apart.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    mumbai_mesh_server::cli::main()
}
