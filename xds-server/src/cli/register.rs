//! `mumbai-mesh register … -- COMMAND`: runs an application and stands for it in the mesh.

mod application;
mod lease;

use std::{
    net::{ToSocketAddrs, UdpSocket},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use policy::time::parse_duration;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

use self::{
    application::Application,
    lease::{Lease, Probe},
};
use super::{Ended, UsageError, instance::endpoint::Endpoint, remote::Credentials};

/// The server's answer to one of our calls.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Run an application and register it while it is healthy.
///
/// It is registered with its first good health check; a heartbeat follows every third of the TTL, for as long as it is
/// healthy. On SIGTERM or SIGINT it is drained, so that callers send it nothing new; after --drain-for the signal is
/// passed on, and when the application has ended it is deregistered. A second signal is passed on at once. The exit code
/// is the application's, or 128 and the number of the signal that ended it. A server that does not answer never ends the
/// application: it is asked again.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mumbai-mesh register --service order-service --port 8080 --health-path /health -- ./order-service --listen :8080"
)]
pub(super) struct Register {
    #[command(flatten)]
    endpoint: Endpoint,
    /// Address at which callers reach it [default: this machine's, towards the server].
    #[arg(long)]
    host: Option<String>,
    /// Path that answers 2xx while the application is healthy; without it, it is healthy while its port takes
    /// connections.
    #[arg(long, value_name = "PATH")]
    health_path: Option<String>,
    /// From the signal until the application gets it: callers' Envoys hear of it meanwhile, and requests end.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = up_to_an_hour)]
    drain_for: Duration,
    /// The server to register with.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// The application and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn up_to_an_hour(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    match duration <= Duration::from_secs(3_600) {
        true => Ok(duration),
        false => Err("from 0s to 1h".into()),
    }
}

impl Register {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("a thread for signals")?;
        match runtime.block_on(self.supervise())? {
            0 => Ok(()),
            code => Err(Ended(code).into()),
        }
    }

    async fn supervise(self) -> anyhow::Result<u8> {
        let mut signals = Signals::new()?;
        let host = match &self.host {
            Some(host) => host.clone(),
            None => towards(&self.server)?,
        };
        let lease = self.lease(&host)?;
        let application = Application::start(&self.command)?;
        let lease = lease.begin();
        let code = tokio::select! {
            code = application.ended() => code,
            () = signals.next() => {
                if lease.drain().await {
                    // A second signal is in a hurry.
                    tokio::select! {
                        () = sleep(self.drain_for) => {}
                        () = signals.next() => {}
                        _ = application.ended() => {}
                    }
                }
                application.terminate();
                tokio::select! {
                    code = application.ended() => code,
                    () = again(&mut signals, &application) => 1,
                }
            }
        };
        // Without an answer, the lease ends by itself.
        let _ = timeout(ANSWER_WITHIN * 2, lease.leave()).await;
        Ok(code)
    }

    fn lease(&self, host: &str) -> anyhow::Result<Lease> {
        let probe = match self.endpoint.app_port {
            Some(port) => Probe::new("127.0.0.1", port, self.health_path.as_deref()),
            None => Probe::new(host, self.endpoint.port, self.health_path.as_deref()),
        };
        Ok(Lease {
            name: format!("{}/{}", self.endpoint.service, self.endpoint.id(host)),
            path: self.endpoint.path(host),
            body: self.endpoint.body(host),
            every: self.endpoint.ttl / 3,
            probe: probe.map_err(UsageError)?,
            remote: self.credentials.remote(&self.server, ANSWER_WITHIN)?,
            server: self.server.clone(),
        })
    }
}

/// Passes every further signal on.
async fn again(signals: &mut Signals, application: &Application) {
    loop {
        signals.next().await;
        application.terminate();
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The address by which this machine reaches the server: nothing is sent.
fn towards(server: &str) -> anyhow::Result<String> {
    let wrong = || {
        UsageError(format!(
            "--server {server}: no URL such as http://127.0.0.1:8088"
        ))
    };
    let uri: http::Uri = server.parse().map_err(|_| wrong())?;
    uri.scheme().ok_or_else(wrong)?;
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(80);
    let mut addresses = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("--server {server}"))?;
    let address = addresses.next().ok_or_else(wrong)?;
    let any = match address.is_ipv4() {
        true => "0.0.0.0:0",
        false => "[::]:0",
    };
    let look = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.local_addr()
    };
    let own = look().context("this machine's address towards the server; name it with --host")?;
    Ok(own.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_this_machine_is_the_one_towards_the_server() {
        assert_eq!(towards("http://127.0.0.1:8088").unwrap(), "127.0.0.1");
        assert!(towards("8088").is_err());
    }
}
