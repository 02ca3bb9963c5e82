//! Memory that one client filled and left goes back to the system: the allocator alone would keep it, since
//! it lies in thousands of small pieces among what others use.
#![allow(unsafe_code, reason = "malloc_trim")]

use std::sync::{Mutex, PoisonError};

/// What a client must have filled, so that looking for it is worth the while.
const WORTH_BYTES: usize = 1024 * 1024;

/// Dropped after what a client filled: gives it back, if it was much.
#[derive(Debug, Default)]
pub struct GiveBack {
    most: usize,
}

impl GiveBack {
    /// The client fills so much now.
    pub fn filled(&mut self, bytes: usize) {
        self.most = self.most.max(bytes);
    }
}

impl Drop for GiveBack {
    fn drop(&mut self) {
        if self.most >= WORTH_BYTES
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(trim);
        }
    }
}

/// One at a time.
fn trim() {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it touches only what is free, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
