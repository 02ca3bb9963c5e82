//! `cargo xtask bench`: what the mesh costs, as ratios that another machine can repeat.

mod configuration;
mod cpu;
mod filter;
mod hello;
mod instances;
mod memory;
mod mesh;
mod rows;
mod table;
mod xds;

pub use filter::{Options as FilterOptions, run as run_filter};
pub use instances::{Options as InstancesOptions, run as run_instances};
pub use mesh::{Options as MeshOptions, run as run_mesh};
pub use xds::{Options as XdsOptions, run as run_xds};
