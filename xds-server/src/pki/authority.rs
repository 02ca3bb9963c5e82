//! Owner of all keys and certificates. A leaf is issued when somebody first asks for it, renewed for as
//! long as somebody holds it, and never written anywhere.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use policy::time::WallTime;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use super::{
    CaError, Credentials, Folder, Identity, IssueError, NoAuthority, OpenAuthority, Purpose,
    between,
    renewal::{is_due, pause, renews_at, tick},
    tier::{Ca, Tier},
};
use crate::{
    clock,
    mesh::CertificateDays,
    metrics::{Metrics, Soonest},
    settings::CertificateLives,
};

/// Leaves renewed in one tick: a clock that jumped must not stop everything else.
const TOGETHER_MAX: usize = 100;
/// Wall time that went by so much more or less than time did is a jump of the clock.
const JUMP: Duration = Duration::from_secs(30);

/// One certificate, as people are shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `root`, `issuing`, `leaf`.
    pub kind: &'static str,
    /// A service, a gateway, the server; of the authority its own name.
    pub name: String,
    /// Empty for the authority's own.
    pub spiffe_id: String,
    /// Lower-case hex.
    pub serial: String,
    /// Valid from.
    pub not_before: WallTime,
    /// Valid until.
    pub not_after: WallTime,
    /// When it is renewed, where that happens by itself.
    pub renews_at: Option<WallTime>,
    /// Why the newest attempt to renew it failed.
    pub problem: Option<String>,
}

struct Held {
    credentials: Arc<Credentials>,
    failed: Option<Failed>,
}

struct Failed {
    times: u32,
    again_at: Instant,
    why: String,
}

struct State {
    ca: Ca,
    leaves: BTreeMap<Identity, Held>,
    /// How long a new leaf lives; the mesh file may change it.
    life: Duration,
}

/// The owner.
pub struct Authority {
    folder: Folder,
    lives: CertificateLives,
    state: Mutex<State>,
    renewed: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

impl Authority {
    /// Over the authority of this folder, which is made when it is not there. `said` is what the mesh file
    /// says.
    ///
    /// # Errors
    /// One that may not be used as it stands.
    pub fn open(
        folder: Folder,
        lives: CertificateLives,
        said: CertificateDays,
        metrics: Arc<Metrics>,
        now: WallTime,
    ) -> Result<Self, CaError> {
        let (ca, is_new) = folder.load_or_make(lives.ca(said.ca), now)?;
        if is_new {
            info!("a new certificate authority was made");
        }
        if folder.seal(&ca)? {
            info!("the authority's keys lay open: they are under the passphrase now");
        }
        let authority = Self {
            folder,
            state: Mutex::new(State {
                ca,
                leaves: BTreeMap::new(),
                life: lives.service(said.service),
            }),
            lives,
            renewed: watch::Sender::new(0),
            metrics,
        };
        authority.renew_issuing(&mut authority.lock(), now);
        Ok(authority)
    }

    /// What the mesh file says of the life of leaves, in days. It holds for those issued from now on.
    pub fn set_days(&self, said: Option<u32>) {
        self.lock().life = self.lives.service(said);
    }

    /// The key and certificate of an identity: those that are there, or new ones.
    ///
    /// # Errors
    /// When none are there and none can be made.
    pub fn credentials(&self, identity: &Identity) -> Result<Arc<Credentials>, IssueError> {
        let now = clock::now();
        let mut state = self.lock();
        if let Some(held) = state.leaves.get(identity)
            && now < held.credentials.not_after
        {
            return Ok(Arc::clone(&held.credentials));
        }
        let issued = state.issue(identity, now)?;
        self.observe(&state);
        Ok(issued)
    }

    /// A key and certificate for somebody outside, who must come again before it ends: it is not kept here,
    /// and so never renewed.
    ///
    /// # Errors
    /// When none can be made.
    pub fn issue(&self, identity: &Identity, node_id: &str) -> Result<Credentials, IssueError> {
        let state = self.lock();
        let purpose = Purpose::Node(node_id);
        state.ca.issue(identity, purpose, state.life, clock::now())
    }

    /// Counts up with every renewal: look again.
    pub fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }

    /// The roots to trust, as PEM.
    pub fn bundle(&self) -> String {
        self.lock().ca.bundle()
    }

    /// All of it, with open keys.
    ///
    /// # Errors
    /// A key that has no such form.
    pub fn open_text(&self) -> Result<OpenAuthority, NoAuthority> {
        OpenAuthority::of(&self.lock().ca)
    }

    /// Every certificate there is, the authority's own first.
    pub fn list(&self) -> Vec<Shown> {
        let state = self.lock();
        let mut shown = vec![
            tier("root", &state.ca.root, None),
            tier(
                "issuing",
                &state.ca.issuing,
                Some(state.ca.issuing_renews_at()),
            ),
        ];
        shown.extend(state.leaves.iter().map(|(identity, held)| Shown {
            kind: "leaf",
            name: identity.name().into(),
            spiffe_id: identity.spiffe_id(),
            serial: held.credentials.serial.clone(),
            not_before: held.credentials.not_before,
            not_after: held.credentials.not_after,
            renews_at: Some(renews_at(&held.credentials)),
            problem: held.failed.as_ref().map(|failed| failed.why.clone()),
        }));
        shown
    }

    /// Renews what is due, for ever. What is due is decided by the wall clock at every tick, never by a
    /// long sleep. A clock that jumps is believed only when it still shows the same at the next tick.
    pub async fn run(&self) {
        let mut before = (clock::now(), Instant::now());
        loop {
            let every = tick(self.lock().life);
            tokio::time::sleep(every).await;
            let now = (clock::now(), Instant::now());
            let went_by = now.1.saturating_duration_since(before.1);
            let off = went_by.abs_diff(between(before.0, now.0));
            let went_back = now.0 < before.0 && between(now.0, before.0) > JUMP;
            before = now;
            if off > JUMP || went_back {
                warn!("the clock jumped by {off:?}; certificates are renewed when it stays there");
                continue;
            }
            self.renew(now.0, now.1);
        }
    }

    fn renew(&self, now: WallTime, at: Instant) {
        let mut state = self.lock();
        self.renew_issuing(&mut state, now);
        // Nobody holds it but us: its service has no proxy any more.
        state.leaves.retain(|_, held| {
            !is_due(&held.credentials, now) || Arc::strong_count(&held.credentials) > 1
        });
        let due = |held: &&Held| {
            let waits = held
                .failed
                .as_ref()
                .is_some_and(|failed| at < failed.again_at);
            is_due(&held.credentials, now) && !waits
        };
        let mut leaves: Vec<Arc<Credentials>> = state
            .leaves
            .values()
            .filter(due)
            .map(|held| Arc::clone(&held.credentials))
            .collect();
        // Those that ended come first, then those with the least time left.
        leaves.sort_by_key(|leaf| leaf.not_after);
        leaves.truncate(TOGETHER_MAX);
        let mut renewed = 0;
        for leaf in &leaves {
            renewed += u64::from(self.renew_leaf(&mut state, leaf, now, at));
        }
        self.observe(&state);
        drop(state);
        if renewed > 0 {
            self.renewed.send_modify(|count| *count += renewed);
        }
    }

    fn renew_leaf(&self, state: &mut State, old: &Credentials, now: WallTime, at: Instant) -> bool {
        match state.issue(&old.identity, now) {
            Ok(new) => {
                self.metrics.renewed();
                info!(
                    identity = new.identity.spiffe_id(),
                    old = old.serial,
                    new = new.serial,
                    "certificate renewed"
                );
                true
            }
            Err(problem) => {
                self.metrics.renewal_failed();
                error!(
                    identity = old.identity.spiffe_id(),
                    %problem,
                    "certificate not renewed; the one in use stays"
                );
                if let Some(held) = state.leaves.get_mut(&old.identity) {
                    let times = held.failed.as_ref().map_or(1, |failed| failed.times + 1);
                    held.failed = Some(Failed {
                        times,
                        again_at: at + pause(times),
                        why: problem.to_string(),
                    });
                }
                false
            }
        }
    }

    /// The issuing certificate comes with every chain, so a new one needs nobody's consent. It is on
    /// disk before it issues.
    fn renew_issuing(&self, state: &mut State, now: WallTime) {
        if now < state.ca.issuing_renews_at() {
            return;
        }
        if state.ca.issuing.not_after >= state.ca.root.not_after {
            return;
        }
        let issuing = match Tier::issuing(&state.ca.root, now) {
            Ok(issuing) => issuing,
            Err(problem) => {
                error!(%problem, "the issuing certificate is not renewed");
                return;
            }
        };
        match self.folder.keep_issuing(&issuing) {
            Ok(()) => {
                info!("the issuing certificate is renewed");
                state.ca.issuing = issuing;
            }
            Err(problem) => error!(%problem, "the new issuing certificate cannot be written"),
        }
    }

    fn observe(&self, state: &State) {
        let leaves = state.leaves.values().map(|held| &held.credentials);
        self.metrics.certificates(Soonest {
            leaf: leaves.map(|leaf| leaf.not_after).min(),
            issuing: state.ca.issuing.not_after,
            root: state.ca.root.not_after,
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn issue(
        &mut self,
        identity: &Identity,
        now: WallTime,
    ) -> Result<Arc<Credentials>, IssueError> {
        let issued = self.ca.issue(identity, Purpose::Traffic, self.life, now)?;
        let credentials = Arc::new(issued);
        let held = Held {
            credentials: Arc::clone(&credentials),
            failed: None,
        };
        self.leaves.insert(identity.clone(), held);
        Ok(credentials)
    }
}

fn tier(kind: &'static str, tier: &Tier, renews_at: Option<WallTime>) -> Shown {
    let (name, serial) = tier.described();
    Shown {
        kind,
        name,
        spiffe_id: String::new(),
        serial,
        not_before: tier.not_before,
        not_after: tier.not_after,
        renews_at,
        problem: None,
    }
}

#[cfg(test)]
mod tests {
    use policy::units::ServiceName;
    use prometheus::Registry;

    use super::*;
    use crate::{mesh::TrustDomain, pki::days};

    struct World {
        authority: Authority,
        made_at: WallTime,
        _dir: tempfile::TempDir,
    }

    impl World {
        /// With a root and leaves that live for so many days.
        fn new(ca_days: u32, service_days: u32) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let lives = CertificateLives {
                ca_flag: Some(ca_days),
                service_flag: Some(days(service_days)),
                ..CertificateLives::default()
            };
            let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
            let (folder, made_at) = (Folder::of(dir.path(), None), clock::now());
            let said = CertificateDays::default();
            Self {
                authority: Authority::open(folder, lives, said, metrics, made_at).unwrap(),
                made_at,
                _dir: dir,
            }
        }

        fn leaf(&self, name: &str) -> Arc<Credentials> {
            let name = ServiceName::new(name).unwrap();
            let identity = Identity::Member(TrustDomain::default(), name);
            self.authority.credentials(&identity).unwrap()
        }

        fn renew(&self, after: Duration, at: Instant) {
            let now = self.made_at.saturating_add(after);
            self.authority.renew(now, at);
        }

        fn leaves(&self) -> Vec<Shown> {
            let mut shown = self.authority.list();
            shown.retain(|one| one.kind == "leaf");
            shown
        }
    }

    #[test]
    fn who_is_held_is_renewed_when_due_and_who_is_not_is_forgotten() {
        let world = World::new(3650, 10);
        let held = world.leaf("held");
        let unheld = world.leaf("unheld").serial.clone();
        assert_eq!(world.leaf("unheld").serial, unheld, "it is issued once");
        let renewed = world.authority.renewed();
        let at = Instant::now();
        world.renew(days(5), at);
        assert_eq!(world.leaves().len(), 2);
        assert_eq!(*renewed.borrow(), 0, "nothing is due");
        world.renew(days(8), at);
        assert_eq!(*renewed.borrow(), 1);
        let leaves = world.leaves();
        assert_eq!((leaves.len(), &*leaves[0].name), (1, "held"));
        assert_ne!(leaves[0].serial, held.serial);
        assert!(leaves[0].not_after > held.not_after);
    }

    #[test]
    fn a_renewal_that_fails_keeps_what_is_in_use_and_is_tried_again_after_a_pause() {
        let world = World::new(1, 10);
        let held = world.leaf("held");
        let (renewed, at) = (world.authority.renewed(), Instant::now());
        // The root has ended: nothing can be issued any more.
        world.renew(days(2), at);
        let failed = |authority: &Authority| -> Option<(u32, Instant)> {
            let state = authority.lock();
            let failed = state.leaves.values().next()?.failed.as_ref()?;
            Some((failed.times, failed.again_at))
        };
        let first = failed(&world.authority);
        assert_eq!(first, Some((1, at + pause(1))));
        world.renew(days(2), at + pause(1) / 2);
        assert_eq!(
            failed(&world.authority),
            first,
            "it is not tried in the pause"
        );
        world.renew(days(2), at + pause(1));
        assert_eq!(
            failed(&world.authority),
            Some((2, at + pause(1) + pause(2)))
        );
        let leaves = world.leaves();
        assert_eq!(leaves[0].serial, held.serial);
        let problem = leaves[0].problem.as_deref().unwrap();
        assert!(
            problem.contains("the issuer's certificate ended"),
            "{problem}"
        );
        assert_eq!(*renewed.borrow(), 0);
    }

    #[test]
    fn what_the_mesh_file_says_of_their_life_holds_for_those_issued_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let (lives, said) = (CertificateLives::default(), CertificateDays::default());
        let folder = Folder::of(dir.path(), None);
        let authority = Authority::open(folder, lives, said, metrics, clock::now()).unwrap();
        let life = |name: &str| {
            let name = ServiceName::new(name).unwrap();
            let identity = Identity::Member(TrustDomain::default(), name);
            let leaf = authority.credentials(&identity).unwrap();
            between(leaf.issued_at, leaf.not_after)
        };
        assert_eq!(life("a"), days(90));
        authority.set_days(Some(7));
        assert_eq!((life("a"), life("b")), (days(90), days(7)));
        authority.set_days(None);
        assert_eq!(life("c"), days(90));
    }
}
