//! Owner of what callers without a proxy share.

use std::sync::{Arc, Mutex, PoisonError};

use policy::{time::Now, units::ServiceName};
use tokio::{sync::watch, time::Instant};

use super::{Breakers, Counted, NotCounted, Report, Selection, Unanswered, Wanted, board::Board};
use crate::{catalog::Revision, clock, compile::Unhealthy};

/// For callers without a proxy.
pub struct Callers {
    /// None before the first call: who has proxies everywhere pays nothing.
    board: Mutex<Option<Board>>,
    server: String,
    revisions: watch::Receiver<Arc<Revision>>,
    unhealthy: watch::Receiver<Arc<Unhealthy>>,
    began: Instant,
}

impl Callers {
    /// By the mesh in force and by what is known of endpoints' health.
    pub fn new(
        revisions: watch::Receiver<Arc<Revision>>,
        unhealthy: watch::Receiver<Arc<Unhealthy>>,
    ) -> Self {
        Self {
            board: Mutex::default(),
            // After a restart breakers begin anew: tickets from before it are somebody else's.
            server: format!("{:08x}", fastrand::u32(..)),
            revisions,
            unhealthy,
            began: Instant::now(),
        }
    }

    /// Which instance is to be called.
    ///
    /// # Errors
    /// Why none is.
    pub fn select(&self, wanted: &Wanted) -> Result<Selection, Unanswered> {
        let unhealthy = Arc::clone(&self.unhealthy.borrow());
        self.with(|board, now| board.select(wanted, &unhealthy, now, &mut || fastrand::u64(..)))
    }

    /// What became of calls.
    ///
    /// # Errors
    /// One that belongs to nothing in this mesh: then none was taken.
    pub fn take(&self, reports: &[Report]) -> Result<Counted, NotCounted> {
        self.with(|board, now| board.take(reports, now))
    }

    /// Breakers of a service, where callers without a proxy asked for it.
    pub fn breakers(&self, service: &ServiceName) -> Option<Breakers> {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.as_ref()?.shown(service)
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Board, Now) -> T) -> T {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let mesh = Arc::clone(&self.revisions.borrow().mesh);
        let now = clock::both(self.began.elapsed());
        let new = || Board::new(&self.server, Arc::clone(&mesh), now);
        let board = board.get_or_insert_with(new);
        board.follow(&mesh, now);
        use_it(board, now)
    }
}
