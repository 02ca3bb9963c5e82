//! What is asked of the registry, decided over what is there and what was asked just before: all of it goes into
//! the store as one revision.

use std::{collections::BTreeMap, sync::Arc};

use policy::{time::Now, units::ServiceName};

use super::{
    Ask, Believed, Instance, InstanceId, Phase, State,
    merge::{LeftOut, is_at, left_out, warning},
    state::{Becomes, moved},
};
use crate::{
    mesh::{Endpoint, Mesh, Registration, Service, Standing},
    store::StoreError,
};

/// What somebody asks for.
#[derive(Debug, Clone)]
pub enum Wish {
    /// An instance is there.
    Register(Box<Registration>),
    /// It is about to leave.
    Drain(InstanceId),
    /// It is gone.
    Deregister(InstanceId),
    /// Those that vanished will not come back.
    Release {
        /// Of which service.
        service: ServiceName,
        /// This one alone.
        id: Option<String>,
    },
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Whose instances are others than before; none where all was so already.
    pub changed: Vec<InstanceId>,
    /// Whether the instance was not there before.
    pub is_new: bool,
    /// What is legal and most likely not meant.
    pub warnings: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// No such service.
    #[error("service: no service is named {name:?} (known services: {known})")]
    NoService {
        /// As it was called.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Nobody of this name has registered.
    #[error(
        "no instance {0} is registered (it may have expired): register it with PUT /api/v1/instances/{0}"
    )]
    Unknown(InstanceId),
    /// The mesh file says it.
    #[error("{path} belongs to the mesh file: change it there")]
    File {
        /// Where.
        path: String,
    },
    /// It cannot be so.
    #[error("{field}: {why}")]
    Invalid {
        /// What is wrong.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// Nothing is held back.
    #[error("{0}: nobody has vanished, so there is nothing to release")]
    NotVanished(String),
    /// It stands otherwise than the caller believes.
    #[error("If-Match: {0} stands otherwise; look at it and decide anew; nothing was changed")]
    Otherwise(InstanceId),
    /// The store does not take it.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The server ends.
    #[error("the server is stopping")]
    Stopping,
}

/// Wishes that go together.
pub(super) struct Batch<'s> {
    state: &'s State,
    /// As the file says it.
    mesh: &'s Mesh,
    now: Now,
    pending: BTreeMap<InstanceId, Option<Instance>>,
}

impl<'s> Batch<'s> {
    pub(super) fn new(state: &'s State, mesh: &'s Mesh, now: Now) -> Self {
        Self {
            state,
            mesh,
            now,
            pending: BTreeMap::new(),
        }
    }

    /// What instances are to become by all wishes, and what else is due.
    pub(super) fn changes(mut self, due: Vec<Becomes>) -> Vec<Becomes> {
        for (id, becomes) in due {
            // What somebody asked for counts.
            self.pending.entry(id).or_insert(becomes);
        }
        self.pending.into_iter().collect()
    }

    /// Adds what somebody asks for, unless it cannot be.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn take(&mut self, ask: &Ask) -> Result<Done, Refused> {
        if let (Some(believed), Some(id)) = (&ask.believed, ask.wish.id()) {
            let is_so = match (believed, self.get(&id)) {
                (_, None) => false,
                (Believed::Any, Some(_)) => true,
                (Believed::OneOf(tags), Some(instance)) => tags.contains(&instance.tag()),
            };
            if !is_so {
                return Err(Refused::Otherwise(id));
            }
        }
        self.decide(&ask.wish)
    }

    /// Adds a wish, unless it cannot be.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn decide(&mut self, wish: &Wish) -> Result<Done, Refused> {
        match wish {
            Wish::Register(registration) => self.register(registration),
            Wish::Drain(id) => {
                let instance = self.registered(id)?;
                if instance.phase == Phase::Draining {
                    return Ok(Done::default());
                }
                let drained = moved(&instance, Phase::Draining, self.now);
                Ok(self.put(id.clone(), Some(drained)))
            }
            Wish::Deregister(id) => {
                self.registered(id)?;
                Ok(self.put(id.clone(), None))
            }
            Wish::Release { service, id } => self.release(service, id.as_deref()),
        }
    }

    fn put(&mut self, id: InstanceId, becomes: Option<Instance>) -> Done {
        self.pending.insert(id.clone(), becomes);
        Done {
            changed: vec![id],
            ..Done::default()
        }
    }

    fn get(&self, id: &InstanceId) -> Option<Instance> {
        match self.pending.get(id) {
            Some(pending) => pending.clone(),
            None => Some(Instance::clone(&self.state.held(id)?.instance)),
        }
    }

    fn service(&self, name: &ServiceName) -> Result<&'s Service, Refused> {
        self.mesh.services.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.mesh.services.keys().map(ServiceName::as_str).collect();
            Refused::NoService {
                name: name.to_string(),
                known: known.join(", "),
            }
        })
    }

    /// The instance of an id, which the file must not own.
    fn registered(&self, id: &InstanceId) -> Result<Instance, Refused> {
        if let Some(instance) = self.get(id) {
            return Ok(instance);
        }
        let service = self.mesh.services.get(&id.service);
        match service.and_then(|service| said_as(service, id, |one| one.id == id.id)) {
            Some(path) => Err(Refused::File { path }),
            None => Err(Refused::Unknown(id.clone())),
        }
    }

    fn register(&mut self, registration: &Registration) -> Result<Done, Refused> {
        let Registration {
            service: name,
            endpoint,
            ttl,
        } = registration;
        let id = InstanceId {
            service: name.clone(),
            id: endpoint.id.clone(),
        };
        let service = self.service(name)?;
        may_come(service, &id, endpoint)?;
        match left_out(service, self.state.instances(name), endpoint) {
            None | Some(LeftOut::Service) => {}
            Some(LeftOut::Id) => return Err(owned(service, &id, |one| one.id == id.id)),
            Some(LeftOut::Address) => {
                return Err(owned(service, &id, |one| is_at(one, endpoint)));
            }
            Some(why @ LeftOut::Host) => {
                return Err(Refused::Invalid {
                    field: "host",
                    why: format!("{}: {}", endpoint.host, why.sentence()),
                });
            }
        }
        let before = self.get(&id);
        let mut instance = Instance {
            endpoint: endpoint.clone(),
            ttl: *ttl,
            phase: Phase::Up,
            since: self.now.wall,
            keeper: Arc::clone(self.state.me()),
            is_asked: false,
        };
        let mut done = Done {
            is_new: before.is_none(),
            warnings: warning(service, &id, endpoint).into_iter().collect(),
            ..Done::default()
        };
        if let Some(before) = before {
            let is_up = before.phase == Phase::Up && !before.is_asked;
            if is_up {
                instance.since = before.since;
                instance.keeper = Arc::clone(&before.keeper);
            }
            // Whoever says again what is known only beats.
            if is_up && before == instance {
                return Ok(done);
            }
        }
        done.changed = self.leave_place(&id, endpoint);
        self.pending.insert(id.clone(), Some(instance));
        done.changed.push(id);
        Ok(done)
    }

    /// Whoever registers at an address is there, and nobody else is: who was has ended.
    fn leave_place(&mut self, id: &InstanceId, endpoint: &Endpoint) -> Vec<InstanceId> {
        let of = |other: &String| InstanceId {
            service: id.service.clone(),
            id: other.clone(),
        };
        let known = self.state.instances(&id.service).iter();
        let known = known
            .filter(|(other, held)| **other != id.id && is_at(&held.instance.endpoint, endpoint))
            .map(|(other, _)| of(other))
            .filter(|other| !self.pending.contains_key(other));
        let pending = self.pending.iter().filter(|(other, pending)| {
            let is_there = pending
                .as_ref()
                .is_some_and(|one| is_at(&one.endpoint, endpoint));
            *other != id && other.service == id.service && is_there
        });
        let there: Vec<InstanceId> = known
            .chain(pending.map(|(other, _)| other.clone()))
            .collect();
        for other in &there {
            self.pending.insert(other.clone(), None);
        }
        there
    }

    fn release(&mut self, service: &ServiceName, id: Option<&str>) -> Result<Done, Refused> {
        // What is left of a service that is gone may be released too.
        if self.state.instances(service).is_empty() {
            self.service(service)?;
        }
        let mut done = Done::default();
        let wanted = |other: &String| id.is_none_or(|id| id == other);
        for (other, held) in self.state.instances(service) {
            if wanted(other) && held.instance.phase == Phase::Vanished {
                done.changed.push(InstanceId {
                    service: service.clone(),
                    id: other.clone(),
                });
            }
        }
        if done.changed.is_empty() {
            let what = id.map_or_else(|| service.to_string(), |id| format!("{service}/{id}"));
            return Err(Refused::NotVanished(what));
        }
        for id in &done.changed {
            self.pending.insert(id.clone(), None);
        }
        Ok(done)
    }
}

/// Where the file says an endpoint.
fn said_as(
    service: &Service,
    id: &InstanceId,
    is_it: impl Fn(&Endpoint) -> bool,
) -> Option<String> {
    let mut said = service.endpoints.iter();
    let at = said.position(|one| one.standing == Standing::File && is_it(one))?;
    Some(format!("services.{}.endpoints[{at}]", id.service))
}

fn owned(service: &Service, id: &InstanceId, is_it: impl Fn(&Endpoint) -> bool) -> Refused {
    Refused::File {
        path: said_as(service, id, is_it).unwrap_or_else(|| format!("services.{}", id.service)),
    }
}

/// As the mesh file's own check does.
fn may_come(service: &Service, id: &InstanceId, endpoint: &Endpoint) -> Result<(), Refused> {
    let application = endpoint.app_port.or(service.port);
    if service.sidecar && application == Some(endpoint.port) && endpoint.host.is_loopback() {
        return Err(Refused::Invalid {
            field: "port",
            why: format!(
                "{} is the application's own port: the sidecar of {} would call itself (give the sidecar \
                 another port, or say sidecar: false of the service)",
                endpoint.port, id.service
            ),
        });
    }
    Ok(())
}
