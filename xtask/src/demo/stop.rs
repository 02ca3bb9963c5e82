//! Ctrl-C. While the mesh is being built and shown it ends this process, and the kernel ends all that
//! it started; afterwards it is awaited, and everything is ended in order.
#![allow(unsafe_code, reason = "signals")]

use std::{
    mem::MaybeUninit,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Result, ensure};

/// Exit code of a process that was interrupted, as shells count it.
const INTERRUPTED: i32 = 130;

#[derive(Default)]
struct Shared {
    awaited: AtomicBool,
    /// What is to be done before this process ends.
    clean_up: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    came: Mutex<bool>,
    told: Condvar,
}

/// A signal that is going to come.
pub struct Stop(Arc<Shared>);

impl Stop {
    /// Takes SIGINT and SIGTERM over. Call it before any other thread begins: threads inherit it.
    pub fn on_ctrl_c() -> Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `set` is made by sigemptyset before it is read; all calls get live pointers.
        let (set, result) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            libc::sigaddset(&raw mut set, libc::SIGINT);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            let result =
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            (set, result)
        };
        ensure!(result == 0, "signals cannot be taken over");
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            let mut signal = 0;
            // SAFETY: both pointers are live.
            unsafe { libc::sigwait(&raw const set, &raw mut signal) };
            if !for_thread.awaited.load(Ordering::SeqCst) {
                eprintln!("interrupted");
                let clean_up = for_thread
                    .clean_up
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(clean_up) = clean_up {
                    clean_up();
                }
                std::process::exit(INTERRUPTED);
            }
            *for_thread
                .came
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = true;
            for_thread.told.notify_all();
        });
        Ok(Self(shared))
    }

    /// What else is to be done where the signal ends this process: what it started does not end with it.
    pub fn clean_up_with(&self, clean_up: impl FnOnce() + Send + 'static) {
        let mut kept = self
            .0
            .clean_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Box::new(clean_up));
    }

    /// Waits for the signal.
    pub fn wait(&self) {
        self.0.awaited.store(true, Ordering::SeqCst);
        let mut came = self.0.came.lock().unwrap_or_else(PoisonError::into_inner);
        while !*came {
            came = self
                .0
                .told
                .wait(came)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
