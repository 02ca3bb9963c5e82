//! Ports of the demonstration: known ones by default, each may be moved.

use std::net::TcpListener;

use anyhow::{Result, bail};
use clap::Args;
use harness::ports::free_port;

/// Port 0 is any free port.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Ports (0 = any free one)")]
pub struct Ports {
    /// The gateway
    #[arg(long, value_name = "PORT", default_value_t = 10000)]
    gateway_port: u16,
    /// Admin interface of the gateway's Envoy
    #[arg(long, value_name = "PORT", default_value_t = 9901)]
    gateway_admin_port: u16,
    /// Admin interface of the sidecar's Envoy
    #[arg(long, value_name = "PORT", default_value_t = 9902)]
    sidecar_admin_port: u16,
    /// Where the sidecar takes calls for its application
    #[arg(long, value_name = "PORT", default_value_t = 15006)]
    inbound_port: u16,
    /// Where the sidecar takes its application's calls to others
    #[arg(long, value_name = "PORT", default_value_t = 15001)]
    outbound_port: u16,
    /// The xDS server
    #[arg(long, value_name = "PORT", default_value_t = 18000)]
    xds_port: u16,
    /// The server's API
    #[arg(long, value_name = "PORT", default_value_t = 8088)]
    api_port: u16,
}

/// Ports on which nobody listens.
#[derive(Debug, Clone, Copy)]
pub struct Chosen {
    pub gateway: u16,
    pub gateway_admin: u16,
    pub sidecar_admin: u16,
    pub inbound: u16,
    pub outbound: u16,
    pub xds: u16,
    pub api: u16,
}

impl Ports {
    /// Checks every port before anything is started.
    ///
    /// # Errors
    /// All taken ports, each with the flag that moves it.
    pub fn choose(&self) -> Result<Chosen> {
        let mut taken = Vec::new();
        let mut port = |flag: &str, wanted: u16| {
            if wanted == 0 {
                return free_port();
            }
            if let Err(error) = TcpListener::bind(("127.0.0.1", wanted)) {
                taken.push(format!(
                    "  127.0.0.1:{wanted} ({error}): choose another with {flag}"
                ));
            }
            wanted
        };
        let chosen = Chosen {
            gateway: port("--gateway-port", self.gateway_port),
            gateway_admin: port("--gateway-admin-port", self.gateway_admin_port),
            sidecar_admin: port("--sidecar-admin-port", self.sidecar_admin_port),
            inbound: port("--inbound-port", self.inbound_port),
            outbound: port("--outbound-port", self.outbound_port),
            xds: port("--xds-port", self.xds_port),
            api: port("--api-port", self.api_port),
        };
        if !taken.is_empty() {
            bail!(
                "these ports are taken (0 is any free one):\n{}",
                taken.join("\n")
            );
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_moves_it() {
        let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let ports = Ports {
            gateway_port: 0,
            gateway_admin_port: 0,
            sidecar_admin_port: 0,
            inbound_port: 0,
            outbound_port: 0,
            xds_port: port,
            api_port: 0,
        };
        let error = ports.choose().unwrap_err().to_string();
        assert!(error.contains(&port.to_string()), "{error}");
        assert!(error.contains("--xds-port"), "{error}");
        assert!(!error.contains("--api-port"), "{error}");
    }
}
