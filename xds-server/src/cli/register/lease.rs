//! The lease of an application: registered with its first good health check, renewed while it is healthy.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    cli::remote::{Answer, Remote},
    text,
};

/// Between two looks whether it is healthy for the first time.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two attempts to register.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Between two lines that say that it is not healthy yet.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Of an answer to a health check so much is read: an application whose answer is left unread sees a reset.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// An answer to a health check.
const HEALTHY_WITHIN: Duration = Duration::from_secs(1);

/// How it is found out whether an application is healthy.
pub(super) struct Probe {
    host: String,
    port: u16,
    /// Asked by HTTP; else it is enough that somebody listens.
    url: Option<(ureq::Agent, String)>,
}

impl Probe {
    /// # Errors
    /// A path that is none.
    pub(super) fn new(host: &str, port: u16, path: Option<&str>) -> Result<Self, String> {
        if let Some(path) = path.filter(|path| !path.starts_with('/')) {
            return Err(format!("--health-path {path}: must begin with /"));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(HEALTHY_WITHIN))
            .build();
        let address = text::address(host, port);
        Ok(Self {
            host: host.into(),
            port,
            url: path.map(|path| (config.into(), format!("http://{address}{path}"))),
        })
    }

    /// Asks once.
    ///
    /// # Errors
    /// What came instead of a good answer.
    fn ask(&self) -> Result<(), String> {
        match &self.url {
            Some((agent, url)) => {
                let answered = agent.get(url).call();
                let mut answer = answered.map_err(|error| format!("{url}: {error}"))?;
                // What it says does not matter.
                let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
                let _ = body.read_to_vec();
                match answer.status() {
                    status if status.is_success() => Ok(()),
                    status => Err(format!("{url} answers {status}")),
                }
            }
            None => {
                let (host, port) = (self.host.as_str(), self.port);
                let failed = |error: &dyn std::fmt::Display| {
                    Err(format!("{}: {error}", text::address(host, port)))
                };
                let addresses = match (host, port).to_socket_addrs() {
                    Ok(addresses) => addresses,
                    Err(error) => return failed(&error),
                };
                let mut last = failed(&"no address");
                for address in addresses {
                    match TcpStream::connect_timeout(&address, HEALTHY_WITHIN) {
                        Ok(_) => return Ok(()),
                        Err(error) => last = failed(&error),
                    }
                }
                last
            }
        }
    }
}

/// What an application is registered as.
pub(super) struct Lease {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) body: Value,
    pub(super) every: Duration,
    pub(super) probe: Probe,
    pub(super) remote: Remote,
    pub(super) server: String,
}

enum Order {
    /// Answers whether it was registered.
    Drain(oneshot::Sender<bool>),
    Leave(oneshot::Sender<()>),
}

/// A lease that is kept by a thread of its own: calls wait for the server.
pub(super) struct Held {
    orders: Sender<Order>,
}

impl Held {
    /// Callers are told to send nothing new. Whether there are any: it was registered.
    pub(super) async fn drain(&self) -> bool {
        let (done, answer) = oneshot::channel();
        // The thread ends after us.
        let _ = self.orders.send(Order::Drain(done));
        answer.await.unwrap_or(false)
    }

    /// It is gone.
    pub(super) async fn leave(self) {
        let (done, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Leave(done));
        let _ = answer.await;
    }
}

impl Lease {
    pub(super) fn begin(self) -> Held {
        let (orders, ordered) = mpsc::channel();
        thread::spawn(move || Keeper::new(self).run(&ordered));
        Held { orders }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Unregistered,
    Registered,
    Draining,
}

struct Keeper {
    lease: Lease,
    stand: Stand,
    /// What was said last of a trouble that goes on: once is enough.
    said: String,
    patience: Patience,
}

/// When it was said last that it is not healthy yet; at first, when it began.
struct Patience(Instant);

impl Patience {
    /// Whether it is time to say it again.
    fn is_over(&mut self, now: Instant) -> bool {
        let is_over = now.saturating_duration_since(self.0) >= SAY_EVERY;
        if is_over {
            self.0 = now;
        }
        is_over
    }
}

impl Keeper {
    fn new(lease: Lease) -> Self {
        Self {
            lease,
            stand: Stand::Unregistered,
            said: String::new(),
            patience: Patience(Instant::now()),
        }
    }

    fn run(mut self, ordered: &Receiver<Order>) {
        let mut next = Instant::now();
        loop {
            match ordered.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Order::Drain(done)) => {
                    let _ = done.send(self.drain());
                    continue;
                }
                Ok(Order::Leave(done)) => {
                    self.leave();
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // From its beginning on: a slow answer must not make heartbeats rarer.
            next = Instant::now() + self.look();
        }
    }

    /// Does what is due; when to look again.
    fn look(&mut self) -> Duration {
        if let Err(why) = self.lease.probe.ask() {
            if self.stand == Stand::Registered {
                self.say("is not healthy: no heartbeat is sent".into());
            }
            return match self.stand {
                Stand::Unregistered => {
                    if self.patience.is_over(Instant::now()) {
                        let name = &self.lease.name;
                        eprintln!(
                            "mumbai-mesh: {name} is not healthy, so it is not registered: {why}"
                        );
                    }
                    LOOK_EVERY
                }
                _ => self.lease.every.min(AGAIN_AFTER),
            };
        }
        match self.stand {
            Stand::Unregistered => self.register(),
            Stand::Registered | Stand::Draining => self.beat(),
        }
    }

    fn register(&mut self) -> Duration {
        let put = self.lease.remote.put(&self.lease.path, &self.lease.body);
        match put.and_then(|answer| answer.success(&self.lease.server)) {
            Ok(answer) => {
                self.stand = Stand::Registered;
                self.say("is registered".into());
                let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                for warning in answer["warnings"].as_array().into_iter().flatten() {
                    self.say(format!(
                        "is registered; {}",
                        warning.as_str().unwrap_or_default()
                    ));
                }
                self.lease.every
            }
            Err(error) => {
                self.say(format!("cannot be registered yet: {error:#}"));
                AGAIN_AFTER
            }
        }
    }

    fn beat(&mut self) -> Duration {
        let path = format!("{}/heartbeat", self.lease.path);
        match self.lease.remote.post(&path, None) {
            Ok(Answer { status, .. }) if status.is_success() => {
                if self.said.contains("heartbeat") {
                    self.say("is registered".into());
                }
                self.lease.every
            }
            Ok(Answer { status, .. }) if status.as_u16() == 404 => match self.stand {
                // It was taken for gone: a server without a memory, or a long silence.
                Stand::Registered => {
                    self.stand = Stand::Unregistered;
                    self.register()
                }
                _ => self.lease.every,
            },
            refused => {
                let why = refused.and_then(|answer| answer.success(&self.lease.server));
                if let Err(error) = why {
                    self.say(format!("gets no heartbeat to the server: {error:#}"));
                }
                self.lease.every.min(AGAIN_AFTER)
            }
        }
    }

    fn drain(&mut self) -> bool {
        if self.stand != Stand::Registered {
            return self.stand == Stand::Draining;
        }
        self.stand = Stand::Draining;
        let path = format!("{}/drain", self.lease.path);
        let drained = self.lease.remote.post(&path, None);
        match drained.and_then(|answer| answer.success(&self.lease.server)) {
            Ok(_) => self.say("is draining".into()),
            Err(error) => self.say(format!("cannot be drained: {error:#}")),
        }
        true
    }

    fn leave(&mut self) {
        if self.stand == Stand::Unregistered {
            return;
        }
        let left = self.lease.remote.delete(&self.lease.path);
        match left.and_then(|answer| answer.success(&self.lease.server)) {
            Ok(_) => self.say("is deregistered".into()),
            Err(error) => self.say(format!("cannot be deregistered: {error:#}")),
        }
    }

    fn say(&mut self, what: String) {
        if what != self.said {
            eprintln!("mumbai-mesh: {} {what}", self.lease.name);
            self.said = what;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers once; what it reads after its answer.
    fn answers(
        head: &'static str,
        bytes: usize,
    ) -> (u16, thread::JoinHandle<std::io::Result<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked)?;
            write!(
                stream,
                "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n"
            )?;
            stream.write_all(&vec![b'x'; bytes])?;
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read(&mut asked)
        });
        (port, answering)
    }

    #[test]
    fn who_waits_says_so_every_ten_seconds() {
        let began = Instant::now();
        let mut patience = Patience(began);
        let said: Vec<u64> = (0..=31)
            .filter(|second| patience.is_over(began + Duration::from_secs(*second)))
            .collect();
        assert_eq!(said, [10, 20, 30]);
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_what_it_says_is_told() {
        let (port, answering) = answers("503 Service Unavailable", 300_000);
        let probe = Probe::new("127.0.0.1", port, Some("/health")).unwrap();
        let why = probe.ask().unwrap_err();
        assert_eq!(
            why,
            format!("http://127.0.0.1:{port}/health answers 503 Service Unavailable")
        );
        assert_eq!(
            answering.join().unwrap().unwrap(),
            0,
            "the application saw a reset"
        );
        let (port, answering) = answers("200 OK", 10);
        assert_eq!(
            Probe::new("127.0.0.1", port, Some("/")).unwrap().ask(),
            Ok(())
        );
        assert_eq!(answering.join().unwrap().unwrap(), 0);
        // Nobody listens there any more.
        for path in [None, Some("/health")] {
            let why = Probe::new("127.0.0.1", port, path)
                .unwrap()
                .ask()
                .unwrap_err();
            assert!(
                why.contains(&format!("127.0.0.1:{port}")) && why.contains("refused"),
                "{why}"
            );
        }
    }
}
