//! The mesh as it is wanted: what the files say, or what was applied; what the API wrote beside it; and the
//! operations that people laid over it. All of it is one revision, so every server and every Envoy follows. Pure.

mod canary;
mod file;
mod operation;
mod overlay;
mod overrides;
mod status;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use policy::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    canary::{Start, Verb, carry_out},
    file::FileContent,
    operation::{By, Kind, Operation},
    overrides::{OverrideStatus, Said, end_override, override_service, overrides},
    status::{CanaryStatus, OperationStatus, statuses},
};
use crate::mesh::Place;

/// Why what was asked for may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The files say it.
    #[error(
        "{path} is the file's ({}): change it there, and it is in force at once; nothing was changed",
        place.as_ref().map_or_else(|| file.clone(), ToString::to_string)
    )]
    Owned {
        /// The first path that they say.
        path: String,
        /// Where.
        place: Option<Place>,
        /// The path of `--config`.
        file: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// Not as things stand.
    #[error("{0}")]
    Conflict(String),
    /// Never.
    #[error("{0}")]
    Invalid(String),
    /// Not now.
    #[error("{0}")]
    Frozen(String),
}

/// What lies over the base.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// The content of the files that the base is of, or that a rollback holds back. None: the store says what is
    /// wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What the API wrote where the files say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Value>,
    /// What people do with canaries, by service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub operations: BTreeMap<String, Operation>,
    /// What people say of services until a time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Said>,
    /// The revision that a rollback holds in force until the files' content changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u64>,
}

impl Layers {
    /// What lies over the files, whatever they say.
    #[must_use]
    pub fn over_files(&self) -> Self {
        Self {
            file: None,
            pinned: None,
            ..self.clone()
        }
    }
}

/// A mesh as it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// All of it in one document: what is served.
    document: Arc<str>,
    /// What the files or an apply say, where the document says more.
    base: Option<Arc<str>>,
    layers: Layers,
}

impl Desired {
    /// Nothing but a document.
    pub fn of(document: Arc<str>) -> Self {
        Self {
            document,
            base: None,
            layers: Layers::default(),
        }
    }

    /// As it was kept.
    pub fn kept(document: Arc<str>, base: Option<Arc<str>>, layers: Layers) -> Self {
        Self {
            document,
            base,
            layers,
        }
    }

    /// All of it in one document.
    pub fn document(&self) -> &Arc<str> {
        &self.document
    }

    /// What lies over the base.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// What the files or an apply say, where the document says more.
    pub fn base(&self) -> Option<&Arc<str>> {
        self.base.as_ref()
    }

    /// What is wanted once the files say something else. What the API wrote stays where they say nothing;
    /// operations stay as long as their canary is written as it was; a rollback's time is over.
    pub fn after_files(&self, file: &FileContent) -> Self {
        let over = self.layers.over_files();
        let is_nothing = over == Layers::default();
        let layers = Layers {
            file: Some(file.mark().to_string()),
            ..over
        };
        if is_nothing {
            // Nothing to be laid over a document that may be large.
            return Self {
                document: Arc::clone(file.document()),
                base: None,
                layers,
            };
        }
        Editor {
            base: tree(file.document()),
            layers,
            file: None,
        }
        .finish()
    }

    /// The files alone.
    pub fn of_files(file: &FileContent) -> Self {
        Self {
            document: Arc::clone(file.document()),
            base: None,
            layers: Layers {
                file: Some(file.mark().to_string()),
                ..Layers::default()
            },
        }
    }

    /// A revision that shall be in force again, as it was with what people had done with canaries. What they say of
    /// services until a time is a matter of now: overrides stay as they are. Where files say what is wanted it is
    /// pinned, unless it is what they say.
    pub fn again(
        &self,
        revision: u64,
        current: &Self,
        file: Option<&FileContent>,
        now: WallTime,
    ) -> Self {
        let mut again = self.under(&current.layers.overrides, now);
        let mark = file.map(|file| file.mark().to_string());
        let is_theirs = self.layers.pinned.is_none() && self.layers.file == mark;
        again.layers.pinned = match &mark {
            Some(_) if is_theirs => None,
            Some(_) => self.layers.pinned.or(Some(revision)),
            None => None,
        };
        again.layers.file = mark;
        again
    }

    /// The same with these overrides over it, as far as they act.
    fn under(&self, overrides: &BTreeMap<String, Said>, now: WallTime) -> Self {
        if self.layers.overrides == *overrides {
            return self.clone();
        }
        let mut editor = Editor {
            base: tree(self.base.as_ref().unwrap_or(&self.document)),
            layers: Layers {
                overrides: overrides.clone(),
                ..self.layers.clone()
            },
            file: None,
        };
        editor.forget_ended(now);
        editor.finish()
    }
}

/// A document that was read before it was kept.
fn tree(document: &str) -> Value {
    serde_json::from_str(document).unwrap_or_default()
}

/// Changes what is wanted.
pub struct Editor<'f> {
    base: Value,
    layers: Layers,
    /// What the files say, if they say what is wanted.
    file: Option<(&'f FileContent, Value)>,
}

impl<'f> Editor<'f> {
    /// Without files the store says what is wanted, and what was written beside them becomes part of that.
    pub fn new(desired: &Desired, file: Option<&'f FileContent>) -> Self {
        let mut base = tree(desired.base.as_ref().unwrap_or(&desired.document));
        let mut layers = desired.layers.clone();
        layers.file = file.map(|file| file.mark().to_string());
        if file.is_none() {
            layers.pinned = None;
            if let Some(written) = layers.written.take() {
                overlay::lay_over(&mut base, &written);
            }
        }
        Self {
            base,
            layers,
            file: file.map(|file| (file, tree(file.document()))),
        }
    }

    /// What is wanted, but for operations.
    fn written(&self) -> Value {
        let mut tree = self.base.clone();
        if let Some(written) = &self.layers.written {
            overlay::lay_over(&mut tree, written);
        }
        tree
    }

    /// Writes a value at a path, or takes it away.
    ///
    /// # Errors
    /// [`Refusal::Owned`] where the files say something; [`Refusal::Conflict`] where a pinned revision does.
    pub fn put(&mut self, path: &[&str], value: Option<Value>) -> Result<(), Refusal> {
        let Some((file, said)) = &self.file else {
            overlay::put(&mut self.base, path, value);
            return Ok(());
        };
        if overlay::says(said, path) {
            return Err(file.owns(path));
        }
        if let Some(pinned) = self.layers.pinned
            && overlay::says(&self.base, path)
        {
            let path = path.join(".");
            return Err(Refusal::Conflict(format!(
                "{path} is part of revision {pinned}, which a rollback holds in force until {} changes; \
                 nothing was changed",
                file.path()
            )));
        }
        let mut written = self.layers.written.take().unwrap_or_default();
        overlay::put(&mut written, path, value);
        let is_empty = written.as_object().is_none_or(serde_json::Map::is_empty);
        self.layers.written = (!is_empty).then_some(written);
        Ok(())
    }

    /// Puts a whole document in the place of what is wanted: of all that the API ever wrote, where there are files.
    ///
    /// # Errors
    /// [`Refusal::Owned`] for what the files say otherwise.
    pub fn apply(&mut self, document: Value) -> Result<(), Refusal> {
        let Some((file, said)) = &self.file else {
            self.base = document;
            return Ok(());
        };
        let both = overlay::lay_over(&mut said.clone(), &document);
        if let Some(first) = both.iter().find(|both| !both.same) {
            let path: Vec<&str> = first.path.iter().map(String::as_str).collect();
            return Err(file.owns(&path));
        }
        self.layers.written = Some(document);
        Ok(())
    }

    /// What is wanted now.
    pub fn finish(mut self) -> Desired {
        let mut tree = self.base.clone();
        if let Some(written) = self.layers.written.take() {
            let both = overlay::lay_over(&mut tree, &written);
            let mut kept = written;
            for said in &both {
                let path: Vec<&str> = said.path.iter().map(String::as_str).collect();
                overlay::put(&mut kept, &path, None);
            }
            let is_empty = kept.as_object().is_none_or(serde_json::Map::is_empty);
            self.layers.written = (!is_empty).then_some(kept);
        }
        self.layers.operations.retain(|service, operation| {
            let path = ["services", service, "canary"];
            overlay::at(&tree, &path).is_some_and(|canary| *canary == operation.of)
        });
        for (service, operation) in &self.layers.operations {
            let path = ["services", service, "canary"];
            overlay::put(&mut tree, &path, Some(operation.applied()));
        }
        let is_there = |service: &String| overlay::at(&tree, &["services", service]).is_some();
        self.layers.overrides.retain(|service, _| is_there(service));
        for (service, said) in &self.layers.overrides {
            let path = ["services", service, "override"];
            overlay::put(&mut tree, &path, Some(said.written()));
        }
        let base = (tree != self.base).then(|| self.base.to_string().into());
        Desired {
            document: tree.to_string().into(),
            base,
            layers: self.layers,
        }
    }
}
