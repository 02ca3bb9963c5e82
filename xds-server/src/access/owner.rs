//! Owner of the tokens while a server runs: it follows their file, and decides who passes.

use std::{path::Path, sync::Arc};

use tokio::sync::watch;
use tracing::{error, info};

use super::{Caller, FileError, Gate, Need, Refusal, Request, TokenFile, Tokens};
use crate::{clock, file_events::FileEvents};

/// Who may do what.
pub struct Access {
    file: TokenFile,
    gate: Gate,
    tokens: watch::Sender<Arc<Tokens>>,
}

impl Access {
    /// By the tokens of a state dir.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub fn open(state_dir: &Path, gate: Gate) -> Result<Self, FileError> {
        let file = TokenFile::of(state_dir);
        let tokens = watch::Sender::new(Arc::new(file.load()?));
        Ok(Self { file, gate, tokens })
    }

    /// Whether there are no tokens.
    pub fn is_without_tokens(&self) -> bool {
        self.tokens.borrow().is_empty()
    }

    /// Who asks, if they may have what they ask for.
    ///
    /// # Errors
    /// Why they may not.
    pub fn pass(&self, request: &Request<'_>, need: Need) -> Result<Caller, Refusal> {
        let tokens = Arc::clone(&self.tokens.borrow());
        self.gate.pass(&tokens, request, need, clock::now())
    }

    /// Follows the file for ever; end it by dropping it. While it cannot be used, the tokens that were good
    /// last are: whoever can break the file could as well make tokens.
    pub async fn run(&self) {
        let mut events = FileEvents::of_folder(self.file.folder());
        let mut told: Option<String> = None;
        let mut stamp = None;
        let mut is_first = true;
        loop {
            events.next().await;
            let found = self.file.stamp();
            if found == stamp && !is_first {
                continue;
            }
            is_first = false;
            stamp = found;
            let file = self.file.clone();
            let Ok(loaded) = tokio::task::spawn_blocking(move || file.load()).await else {
                continue;
            };
            match loaded {
                Ok(tokens) => {
                    told = None;
                    let count = tokens.iter().count();
                    let is_new = self.tokens.send_if_modified(|known| {
                        let differs = **known != tokens;
                        if differs {
                            *known = Arc::new(tokens);
                        }
                        differs
                    });
                    if is_new {
                        info!(tokens = count, "tokens taken up");
                    }
                }
                Err(problem) => {
                    let problem = problem.to_string();
                    if told.as_ref() != Some(&problem) {
                        error!(%problem, "the tokens cannot be read; those that were good last stay in force");
                        told = Some(problem);
                    }
                }
            }
        }
    }
}
