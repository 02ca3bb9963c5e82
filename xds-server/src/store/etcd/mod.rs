//! The store that several servers share: an etcd. Calls are made by a thread of its own, so that they may be
//! waited for anywhere.

mod address;
mod chunks;
mod client;
mod dial;
mod layout;
mod log;
mod messages;
mod secrets;
mod seed;
mod snapshot;

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use tokio::{
    runtime::{self, Runtime},
    time::sleep,
};
use tracing::{info, warn};
use zeroize::Zeroizing;

pub use address::{Address, AddressError, Member};
pub use dial::TlsFiles;

use self::{
    client::{Client, User},
    log::EtcdLog,
    secrets::Secrets,
};
use super::{About, Draft, Entry, Feed, Log, Secret, State, Store, StoreError};

/// Between two attempts to watch.
const AGAIN_MIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_millis(500);

/// How an etcd is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where.
    pub address: Address,
    /// By TLS, or not.
    pub tls: TlsFiles,
    /// Of the address's user; empty without one.
    pub password: Zeroizing<String>,
    /// What seals in it what nobody may read there; empty where none was given.
    pub secret: Zeroizing<Vec<u8>>,
}

struct Shared {
    client: Arc<Client>,
    logs: [EtcdLog; Log::ALL.len()],
    secrets: Secrets,
    /// Why nothing is followed at the moment.
    problem: Mutex<Option<String>>,
}

/// An etcd.
pub struct Etcd {
    shared: Arc<Shared>,
    thread: OwnThread,
}

/// A runtime that may end anywhere, within another one too. Empty once it ends.
struct OwnThread(Option<Runtime>);

impl OwnThread {
    fn start() -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("etcd")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Etcd {
    /// Looks what is there, and follows it from then on.
    ///
    /// # Errors
    /// When it does not answer, or does not let us in.
    pub fn open(access: &Access) -> Result<Self, StoreError> {
        let place = access.address.to_string();
        let broken = |why: String| StoreError::Broken {
            place: place.clone(),
            why,
        };
        let thread = OwnThread::start().map_err(|error| broken(error.to_string()))?;
        let tls = access.tls.connector().map_err(broken)?;
        let user = access.address.user.clone().map(|name| User {
            name,
            password: access.password.clone(),
        });
        let client = {
            let _within = thread.0.as_ref().map(Runtime::enter);
            Arc::new(Client::new(&access.address, tls.as_ref(), user)?)
        };
        let prefix = &access.address.prefix;
        let logs = Log::ALL.map(|log| EtcdLog::new(prefix, log, Arc::clone(&client)));
        let etcd = Self {
            shared: Arc::new(Shared {
                secrets: Secrets::new(prefix, Arc::clone(&client)),
                client,
                logs,
                problem: Mutex::default(),
            }),
            thread,
        };
        let shared = Arc::clone(&etcd.shared);
        etcd.wait(async move { shared.begin().await })?;
        let shared = Arc::clone(&etcd.shared);
        etcd.spawn(async move { shared.follow().await });
        info!(store = place, "several servers may share this store");
        Ok(etcd)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.thread.0 {
            runtime.spawn(task);
        }
    }

    /// Waits for what its own thread does: from any thread, a runtime's too.
    fn wait<T: Send + 'static>(
        &self,
        asked: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = mpsc::sync_channel(1);
        self.spawn(async move {
            // Who asked waits for it.
            let _ = done.send(asked.await);
        });
        let ended = || self.shared.client.broken("the store is closed");
        answer.recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl Shared {
    fn log(&self, log: Log) -> &EtcdLog {
        match log {
            Log::Mesh => &self.logs[0],
            Log::Resources => &self.logs[1],
            Log::Instances => &self.logs[2],
            Log::Proxies => &self.logs[3],
        }
    }

    async fn begin(&self) -> Result<(), StoreError> {
        for log in &self.logs {
            log.begin().await?;
        }
        Ok(())
    }

    async fn look(&self) -> Result<(), StoreError> {
        for log in &self.logs {
            log.look().await?;
        }
        Ok(())
    }

    /// For ever. Whatever happens to a watch, the pointers are looked at again.
    async fn follow(&self) {
        let mut pause = AGAIN_MIN;
        loop {
            match self.watch().await {
                Ok(()) => pause = AGAIN_MIN,
                Err(error) => {
                    warn!(%error, "the store is not followed at the moment");
                    self.note(Some(error.to_string()));
                    sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_MAX);
                }
            }
        }
    }

    fn note(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Until a watch ends.
    async fn watch(&self) -> Result<(), StoreError> {
        let pointers = self.logs.iter().map(EtcdLog::pointer).collect();
        let mut events = match self.client.watch(pointers).await {
            Ok(events) => events,
            Err(status) => {
                self.client.next_member();
                return Err(self.client.broken(self.client.words(&status)));
            }
        };
        loop {
            // The first one says that the watch stands: what came before it is looked for then.
            match events.message().await {
                Ok(Some(event)) if !event.canceled => {
                    self.look().await?;
                    self.note(None);
                }
                Ok(Some(event)) => {
                    self.client.next_member();
                    return Err(self.client.broken(event.cancel_reason));
                }
                Ok(None) => return Ok(()),
                Err(status) => {
                    self.client.next_member();
                    return Err(self.client.broken(self.client.words(&status)));
                }
            }
        }
    }
}

impl Store for Etcd {
    fn append(&self, log: Log, after: u64, draft: Draft) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.shared);
        let appended = self.wait(async move { shared.log(log).append(after, draft).await })?;
        let shared = Arc::clone(&self.shared);
        self.spawn(async move { shared.log(log).snapshot_if_due().await });
        Ok(appended)
    }

    fn seed(&self, log: Log, entries: Vec<Entry>) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        self.wait(async move { shared.log(log).seed(entries).await })
    }

    fn load(&self, log: Log) -> Result<State, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.wait(async move { shared.log(log).load().await })
    }

    fn kept(&self, log: Log, revision: u64) -> Result<Option<State>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.wait(async move { shared.log(log).kept(revision).await })
    }

    fn history(
        &self,
        log: Log,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(u64, About)>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.wait(async move { shared.log(log).history(before, limit).await })
    }

    fn catch_up(&self, log: Log) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        self.wait(async move { shared.log(log).catch_up().await })
    }

    fn feed(&self, log: Log) -> &Feed {
        &self.shared.log(log).feed
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn problem(&self) -> Option<String> {
        let noted = self.shared.problem.lock();
        noted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_string());
        self.wait(async move { shared.secrets.secret(&name).await })
    }

    fn keep_secret(&self, name: &str, after: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_string());
        let bytes = Zeroizing::new(bytes.to_vec());
        self.wait(async move { shared.secrets.keep(&name, after, &bytes).await })
    }

    fn hold(&self, name: &str, holder: &str, span: Duration) -> Result<bool, StoreError> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_string());
        let holder = holder.to_string();
        self.wait(async move { shared.secrets.hold(&name, &holder, span).await })
    }

    fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_string());
        let holder = holder.to_string();
        self.wait(async move { shared.secrets.release(&name, &holder).await })
    }
}
