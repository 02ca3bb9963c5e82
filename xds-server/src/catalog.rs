//! Owner of the desired mesh: which revision is in force, and what was refused since.

use std::sync::Arc;

use policy::time::WallTime;
use tokio::sync::watch;

use crate::mesh::{Mesh, MeshProblem};

/// A mesh that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Counts up from 1 within this process.
    pub number: u64,
    /// When it was accepted.
    pub accepted_at: WallTime,
    /// What it says.
    pub mesh: Arc<Mesh>,
}

/// A change that was refused: the revision before it stays in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// When it was read.
    pub at: WallTime,
    /// Every problem found.
    pub problems: Vec<MeshProblem>,
}

/// What became of an offered mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force as this revision.
    Accepted(u64),
    /// It says what is in force already.
    Unchanged,
    /// It was refused.
    Refused,
}

/// Writes are `&mut`: one task owns the catalog, everyone else watches.
#[derive(Debug)]
pub struct Catalog {
    revisions: watch::Sender<Arc<Revision>>,
    refusal: watch::Sender<Option<Arc<Refusal>>>,
}

impl Catalog {
    /// Starts from a mesh and, when that is not what the file says, from the refusal of the file.
    pub fn new(mesh: Mesh, refusal: Option<Refusal>, now: WallTime) -> Self {
        let first = Revision {
            number: 1,
            accepted_at: now,
            mesh: Arc::new(mesh),
        };
        Self {
            revisions: watch::Sender::new(Arc::new(first)),
            refusal: watch::Sender::new(refusal.map(Arc::new)),
        }
    }

    /// Follows revisions.
    pub fn revisions(&self) -> watch::Receiver<Arc<Revision>> {
        self.revisions.subscribe()
    }

    /// Follows the refusal that is outstanding, if one is.
    pub fn refusal(&self) -> watch::Receiver<Option<Arc<Refusal>>> {
        self.refusal.subscribe()
    }

    /// Takes what a source read: all of it or nothing.
    pub fn offer(&mut self, offered: Result<Mesh, Vec<MeshProblem>>, now: WallTime) -> Outcome {
        let mesh = match offered {
            Ok(mesh) => mesh,
            Err(problems) => {
                let refusal = Refusal { at: now, problems };
                self.refusal.send_replace(Some(Arc::new(refusal)));
                return Outcome::Refused;
            }
        };
        self.refusal
            .send_if_modified(|refusal| refusal.take().is_some());
        let current = Arc::clone(&self.revisions.borrow());
        if *current.mesh == mesh {
            return Outcome::Unchanged;
        }
        let number = current.number + 1;
        self.revisions.send_replace(Arc::new(Revision {
            number,
            accepted_at: now,
            mesh: Arc::new(mesh),
        }));
        Outcome::Accepted(number)
    }
}

#[cfg(test)]
mod tests {
    use policy::{reader::Problem, time::CivilZone, timetable::Timetable};

    use super::*;

    fn mesh(name: &str) -> Mesh {
        let zone = CivilZone::new("UTC", "UTC0").unwrap();
        Mesh {
            name: name.into(),
            ..Mesh::empty(Timetable::new(zone, Vec::new(), Vec::new()))
        }
    }

    fn refused() -> Result<Mesh, Vec<MeshProblem>> {
        let problem = Problem {
            path: "services".into(),
            message: "wrong".into(),
            hint: None,
        };
        Err(vec![problem.into()])
    }

    #[test]
    fn a_refused_change_leaves_the_revision_in_force_and_is_visible_until_a_good_one() {
        let now = WallTime::from_unix_millis(0);
        let mut catalog = Catalog::new(mesh("first"), None, now);
        let (revisions, refusal) = (catalog.revisions(), catalog.refusal());

        assert_eq!(catalog.offer(refused(), now), Outcome::Refused);
        assert_eq!(revisions.borrow().mesh.name, "first");
        assert!(refusal.borrow().is_some());

        assert_eq!(catalog.offer(Ok(mesh("first")), now), Outcome::Unchanged);
        assert!(refusal.borrow().is_none());
        assert_eq!(catalog.offer(Ok(mesh("second")), now), Outcome::Accepted(2));
        assert_eq!(revisions.borrow().number, 2);
    }
}
