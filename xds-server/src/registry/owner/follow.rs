//! The mesh with all instances follows the mesh of the file and the log of instances.

use std::{collections::BTreeSet, sync::Arc};

use policy::units::ServiceName;
use tokio::sync::watch;

use super::{Inner, Registry};
use crate::{
    catalog::Revision,
    mesh::Mesh,
    registry::{
        merge,
        tell::{Alarm, tell, vanished},
    },
    store::{Log, Since, StoreError},
};

impl Registry {
    pub(super) async fn follow_base(&self, mut base: watch::Receiver<Arc<Revision>>) {
        base.mark_changed();
        while base.changed().await.is_ok() {
            let next = Arc::clone(&base.borrow_and_update());
            let mut inner = self.inner();
            if Arc::ptr_eq(&inner.base, &next) {
                continue;
            }
            let services = inner.state.services().iter();
            let mesh = merge::over(&next.mesh, services, Some(&inner.merged.mesh));
            let merged = Revision {
                mesh: Arc::new(mesh),
                ..Revision::clone(&next)
            };
            inner.base = next;
            self.publish(&mut inner, merged);
        }
    }

    fn publish(&self, inner: &mut Inner, merged: Revision) {
        inner.merged = Arc::new(merged);
        self.merged.send_replace(Arc::clone(&inner.merged));
    }

    /// Takes up what the store has beyond what is known.
    pub(super) fn take(&self) -> Result<(), StoreError> {
        let mut inner = self.inner();
        let now = self.now();
        let feed = self.store.feed(Log::Instances);
        match feed.since(inner.state.revision()) {
            Since::Entries(entries) => {
                for entry in entries {
                    let told = tell(&inner.state, entry.revision, &entry.changes);
                    let others = inner.state.apply(entry.revision, &entry.changes, now);
                    self.changed(&mut inner, &others);
                    for one in told {
                        // Nobody may listen.
                        let _ = self.became.send(Some(Arc::new(one)));
                    }
                }
            }
            Since::Unknown => {
                let kept = self.store.load(Log::Instances)?;
                let others = inner.state.load(&kept, now);
                self.changed(&mut inner, &others);
                let _ = self.became.send(None);
            }
        }
        Ok(())
    }

    /// These services have other instances than before.
    pub(super) fn changed(&self, inner: &mut Inner, others: &BTreeSet<ServiceName>) {
        self.alarm.send_if_modified(|alarm| {
            let mut next = Alarm::clone(alarm);
            for name in others {
                match vanished(inner.state.instances(name)) {
                    Some(vanished) => _ = next.insert(name.clone(), vanished),
                    None => _ = next.remove(name),
                }
            }
            let is_other = **alarm != next;
            if is_other {
                *alarm = Arc::new(next);
            }
            is_other
        });
        self.merge(inner, others);
    }

    /// Makes these services anew, where that makes a difference.
    fn merge<'n>(&self, inner: &mut Inner, others: impl IntoIterator<Item = &'n ServiceName>) {
        let mut mesh: Option<Mesh> = None;
        for name in others {
            let Some(base) = inner.base.mesh.services.get(name) else {
                continue;
            };
            let service = merge::with_instances(base, inner.state.instances(name));
            if inner.merged.mesh.services.get(name) == Some(&service) {
                continue;
            }
            let mesh = mesh.get_or_insert_with(|| Mesh::clone(&inner.merged.mesh));
            mesh.services.put(name.clone(), Arc::new(service));
        }
        if let Some(mesh) = mesh {
            let merged = Revision {
                mesh: Arc::new(mesh),
                ..Revision::clone(&inner.merged)
            };
            self.publish(inner, merged);
        }
    }
}
