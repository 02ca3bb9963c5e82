//! Who is asked, whose reports count, and what is known of each endpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::SocketAddr,
    sync::Arc,
};

use policy::{time::Now, units::ServiceName};

use super::{
    assign::{self, Task},
    known::{Known, Speaker, Times, Verdict},
};
use crate::{
    compile::{Unhealthy, checked},
    mesh::{Endpoint, Mesh, Service},
    resource::NodeKey,
};

/// What a report says of one cluster: each address, and whether it is healthy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// As it was named in the task.
    pub cluster: String,
    /// What was asked there.
    pub addresses: Vec<(SocketAddr, bool)>,
}

/// An endpoint of which something else is known than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its service.
    pub service: ServiceName,
    /// Its id.
    pub endpoint: String,
    /// What was known.
    pub from: Verdict,
    /// What is known now; None when it is gone, or nobody is to ask it any more.
    pub to: Option<Verdict>,
    /// `node.id` of those who say so.
    pub by: Vec<Arc<str>>,
}

/// A stream of an Envoy that may be asked.
#[derive(Debug)]
struct Stream {
    node: NodeKey,
    name: Arc<str>,
    task: Arc<Task>,
}

/// All that is known, and who is asked.
#[derive(Debug)]
pub struct State {
    mesh: Arc<Mesh>,
    streams_max: usize,
    next_stream: u64,
    streams: BTreeMap<u64, Stream>,
    /// Neither other gateways are there than were asked, nor other endpoints to ask about.
    is_asked: bool,
    /// Of each service that has a health check, by endpoint id.
    known: BTreeMap<ServiceName, BTreeMap<String, Known>>,
    unhealthy: Arc<Unhealthy>,
}

impl State {
    /// Nothing is known yet.
    pub fn new(mesh: Arc<Mesh>, streams_max: usize, now: Now) -> Self {
        Self {
            known: known(&mesh, now),
            mesh,
            streams_max,
            next_stream: 0,
            streams: BTreeMap::new(),
            is_asked: true,
            unhealthy: Arc::default(),
        }
    }

    /// Ids of unhealthy endpoints.
    pub fn unhealthy(&self) -> &Arc<Unhealthy> {
        &self.unhealthy
    }

    pub(super) fn known(&self, service: &ServiceName, endpoint: &str) -> Option<&Known> {
        self.known.get(service)?.get(endpoint)
    }

    /// An Envoy may be asked: the stream's number, and what it is asked at once. None when there are too
    /// many. Gateways share their work, so what they are asked comes with [`Self::assign`].
    pub fn open(&mut self, node: NodeKey) -> Option<(u64, Arc<Task>)> {
        if self.streams.len() >= self.streams_max {
            return None;
        }
        let number = self.next_stream;
        self.next_stream += 1;
        let task = match is_gateway(&self.mesh, &node) {
            true => {
                self.is_asked = false;
                Arc::default()
            }
            false => Arc::new(assign::own(&self.mesh, &node)),
        };
        let stream = Stream {
            name: node.id.as_str().into(),
            node,
            task: Arc::clone(&task),
        };
        self.streams.insert(number, stream);
        Some((number, task))
    }

    /// An Envoy cannot be asked any more. What it said stays good for its time: that it is gone says
    /// nothing of the endpoints. But gateways look whether there is still somebody where a sidecar was.
    pub fn close(&mut self, number: u64, now: Now) {
        let Some(stream) = self.streams.remove(&number) else {
            return;
        };
        if is_gateway(&self.mesh, &stream.node) {
            self.is_asked = false;
            return;
        }
        for service in stream.task.keys() {
            for (_, known) in self.known.get_mut(service).into_iter().flatten() {
                self.is_asked &= !known.leave(number, now);
            }
        }
    }

    /// Whether gateways must be asked anew.
    pub fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Shares the work among the gateways that are there: what each is asked from now on, where that is
    /// something else than before.
    pub fn assign(&mut self) -> Vec<(u64, Arc<Task>)> {
        self.is_asked = true;
        let gateways: Vec<(u64, &NodeKey)> = self
            .streams
            .iter()
            .filter(|(_, stream)| is_gateway(&self.mesh, &stream.node))
            .map(|(number, stream)| (*number, &stream.node))
            .collect();
        let is_silent = |service: &ServiceName, endpoint: &str| {
            let known = self.known(service, endpoint);
            known.is_some_and(|known| known.is_silent)
        };
        let tasks = assign::by_gateways(&self.mesh, &gateways, is_silent);
        self.ask(tasks)
    }

    fn ask(&mut self, tasks: BTreeMap<u64, Task>) -> Vec<(u64, Arc<Task>)> {
        let mut changed = Vec::new();
        for (number, task) in tasks {
            let Some(stream) = self.streams.get_mut(&number) else {
                continue;
            };
            if *stream.task != task {
                stream.task = Arc::new(task);
                changed.push((number, Arc::clone(&stream.task)));
            }
        }
        changed
    }

    /// Another mesh is in force: what Envoys are asked from now on, where that is something else, and
    /// endpoints of which nothing is to be known any more.
    pub fn follow(&mut self, mesh: Arc<Mesh>, now: Now) -> (Vec<(u64, Arc<Task>)>, Vec<Change>) {
        let before = mem::replace(&mut self.mesh, mesh);
        let differing = before.services.differing(&self.mesh.services);
        let mut tasks = BTreeMap::new();
        for (number, stream) in &self.streams {
            let was_gateway = is_gateway(&before, &stream.node);
            if is_gateway(&self.mesh, &stream.node) {
                continue;
            }
            if was_gateway || differing.contains(&*stream.node.cluster) {
                tasks.insert(*number, assign::own(&self.mesh, &stream.node));
            }
        }
        let mut asked = self.ask(tasks);
        let gone = self.forget(&before, now);
        asked.extend(self.assign());
        (asked, gone)
    }

    /// Keeps what is known of endpoints that are still there.
    fn forget(&mut self, before: &Mesh, now: Now) -> Vec<Change> {
        let mut old = mem::replace(&mut self.known, known(&self.mesh, now));
        for (name, endpoints) in &mut self.known {
            let (Some(known), Some(was), Some(is)) = (
                old.get_mut(name),
                before.services.get(name),
                self.mesh.services.get(name),
            ) else {
                continue;
            };
            let was: BTreeMap<&str, &Endpoint> = by_id(was);
            for (id, endpoint) in by_id(is) {
                let stayed = was.get(id).is_some_and(|was| is_same(was, endpoint));
                if stayed && let Some(known) = known.remove(id) {
                    endpoints.insert(id.into(), known);
                }
            }
        }
        let gone = old.into_iter().flat_map(|(service, endpoints)| {
            let of = move |(endpoint, known): (String, Known)| Change {
                service: service.clone(),
                endpoint,
                from: known.verdict,
                to: None,
                by: Vec::new(),
            };
            endpoints.into_iter().map(of)
        });
        let gone: Vec<Change> = gone
            .filter(|change| change.from != Verdict::Unknown)
            .collect();
        self.note(&gone);
        gone
    }

    /// Takes a report: only what the stream was asked counts.
    pub fn report(&mut self, stream: u64, report: &[Heard], now: Now) -> Vec<Change> {
        let Some(stream_of) = self.streams.get(&stream) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        for Heard { cluster, addresses } in report {
            let asked = checked(cluster).and_then(|name| stream_of.task.get_key_value(&name));
            let Some((service, group)) = asked else {
                continue;
            };
            let Some(endpoints) = self.known.get_mut(service) else {
                continue;
            };
            let times = Times::of(&group.check);
            for (address, healthy) in addresses {
                for id in group.targets.get(address).into_iter().flatten() {
                    let Some(known) = endpoints.get_mut(id) else {
                        continue;
                    };
                    let by = Speaker {
                        stream,
                        node: &stream_of.name,
                        question: group.question,
                    };
                    known.hear(by, *healthy, now, times);
                    changes.extend(changed(service, id, known, now));
                }
            }
        }
        self.note(&changes);
        changes
    }

    /// Lets words go that are too old. Where a sidecar has fallen silent, gateways must be asked anew.
    pub fn tick(&mut self, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        for (service, endpoints) in &mut self.known {
            let has_sidecars = self
                .mesh
                .services
                .get(service)
                .is_some_and(|one| one.sidecar);
            for (id, known) in endpoints {
                changes.extend(changed(service, id, known, now));
                self.is_asked &= !(known.listen(now) && has_sidecars);
            }
        }
        self.note(&changes);
        changes
    }

    /// Takes changes into what callers are told.
    fn note(&mut self, changes: &[Change]) {
        let is_told = |change: &&Change| {
            change.from == Verdict::Unhealthy || change.to == Some(Verdict::Unhealthy)
        };
        let services: BTreeSet<&ServiceName> = changes
            .iter()
            .filter(is_told)
            .map(|change| &change.service)
            .collect();
        if services.is_empty() {
            return;
        }
        let mut unhealthy = Unhealthy::clone(&self.unhealthy);
        for service in services {
            let known = self.known.get(service).into_iter().flatten();
            let ids: BTreeSet<String> = known
                .filter(|(_, known)| known.verdict == Verdict::Unhealthy)
                .map(|(id, _)| id.clone())
                .collect();
            match ids.is_empty() {
                true => unhealthy.0.remove(service),
                false => unhealthy.0.insert(service.clone(), Arc::new(ids)),
            };
        }
        self.unhealthy = Arc::new(unhealthy);
    }
}

fn changed(service: &ServiceName, id: &str, known: &mut Known, now: Now) -> Option<Change> {
    let from = known.judge(now)?;
    Some(Change {
        service: service.clone(),
        endpoint: id.into(),
        from,
        to: Some(known.verdict),
        by: known.by(),
    })
}

fn is_gateway(mesh: &Mesh, node: &NodeKey) -> bool {
    let name = ServiceName::new(&node.cluster);
    name.is_ok_and(|name| mesh.gateways.contains_key(&name))
}

fn by_id(service: &Service) -> BTreeMap<&str, &Endpoint> {
    let endpoints = service.endpoints.iter();
    endpoints.map(|one| (one.id.as_str(), one)).collect()
}

/// Whether it is asked at the same place as before.
fn is_same(before: &Endpoint, now: &Endpoint) -> bool {
    (&before.host, before.port, before.app_port) == (&now.host, now.port, now.app_port)
}

/// All endpoints that have a health check; nothing is known of them.
fn known(mesh: &Mesh, now: Now) -> BTreeMap<ServiceName, BTreeMap<String, Known>> {
    let checked = mesh.services.iter();
    let checked = checked.filter(|(_, service)| service.health_check.is_some());
    checked
        .map(|(name, service)| {
            let ids = service.endpoints.iter().map(|endpoint| endpoint.id.clone());
            let known = ids.map(|id| (id, Known::new(now)));
            (name.clone(), known.collect())
        })
        .collect()
}
