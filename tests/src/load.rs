//! Users who never stop asking.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::http::Client;

/// What came of a load.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// Requests sent.
    pub sent: u64,
    /// Answered with 2xx.
    pub ok: u64,
    /// All others, by status or error.
    pub failures: BTreeMap<String, u64>,
}

/// Threads that send requests until they are stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<LoadReport>>,
}

impl Load {
    /// Starts `threads` users, each on its own connection. The n-th request asks as user `user-n`
    /// (header `x-user-id`).
    pub fn start(address: SocketAddr, threads: u64, path: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let threads = (0..threads).map(|_| {
            let (stop, sent, path) = (Arc::clone(&stop), Arc::clone(&sent), path.to_string());
            thread::spawn(move || run(&mut Client::new(address), &path, &stop, &sent))
        });
        Self {
            threads: threads.collect(),
            stop,
            sent,
        }
    }

    /// Requests sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops all users.
    pub fn stop(mut self) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = LoadReport::default();
        for thread in self.threads.drain(..) {
            let Ok(part) = thread.join() else {
                *whole.failures.entry("a user panicked".into()).or_default() += 1;
                continue;
            };
            whole.sent += part.sent;
            whole.ok += part.ok;
            for (failure, count) in part.failures {
                *whole.failures.entry(failure).or_default() += count;
            }
        }
        whole
    }
}

impl Drop for Load {
    /// A test that fails must not leave its load to the others.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(client: &mut Client, path: &str, stop: &AtomicBool, sent: &AtomicU64) -> LoadReport {
    let mut report = LoadReport::default();
    while !stop.load(Ordering::Relaxed) {
        let user = format!("user-{}", sent.fetch_add(1, Ordering::Relaxed));
        report.sent += 1;
        let failure = match client.get(path, &[("x-user-id", user.as_bytes())]) {
            Ok(response) if (200..300).contains(&response.status) => {
                report.ok += 1;
                continue;
            }
            Ok(response) => {
                let body = String::from_utf8_lossy(&response.body).into_owned();
                format!("{} {}", response.status, body.trim())
            }
            Err(error) => format!("{error:#}"),
        };
        *report.failures.entry(failure).or_default() += 1;
    }
    report
}
