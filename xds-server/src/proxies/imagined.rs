//! Nodes for tests: each asks for all of some types, is sent a view, and says something to it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use policy::time::WallTime;
use prometheus::Registry;

use crate::{
    discovery::{Interest, Request, Response, Session, Variant},
    fleet::{Caller, Event, Fleet, NodeInfo, StreamStatus},
    metrics::{Metrics, Service},
    resource::{ResourceType, View},
};

/// What a node says to a response.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    Nothing,
    Accepts,
    Rejects(&'static str),
}

/// 2026-11-08T18:30+05:30: when nodes connect. A second later they are sent what they asked for, and
/// a second later they answer.
pub(crate) fn connected() -> WallTime {
    WallTime::from_unix_seconds(1_794_142_800)
}

pub(crate) fn sent() -> WallTime {
    connected().saturating_add(Duration::from_secs(1))
}

pub(crate) fn answered() -> WallTime {
    connected().saturating_add(Duration::from_secs(2))
}

/// A stream of a node that asked for these types.
pub(crate) fn stream(
    id: &str,
    cluster: &str,
    view: &Arc<View>,
    types: &[(ResourceType, Says)],
) -> Arc<StreamStatus> {
    let mut talk = Talk::begin(id, cluster, Variant::Delta, view);
    for (kind, says) in types {
        talk.ask(*kind, subscribe(&["*"], &[]));
        match says {
            Says::Nothing => {}
            Says::Accepts => talk.answer(*kind, None),
            Says::Rejects(words) => talk.answer(*kind, Some(words)),
        }
    }
    talk.status
}

/// Delta: what a node wants, and what it kept from an earlier stream.
pub(crate) fn subscribe(names: &[&str], kept: &[(&str, &str)]) -> Interest {
    let kept = kept.iter();
    Interest::Changes {
        subscribe: names.iter().map(|name| (*name).into()).collect(),
        unsubscribe: Vec::new(),
        known: kept
            .map(|(name, version)| ((*name).into(), (*version).into()))
            .collect(),
    }
}

/// State of the world: what a node wants.
pub(crate) fn all(names: &[&str]) -> Interest {
    Interest::Names {
        names: names.iter().map(|name| (*name).into()).collect(),
        version: String::new(),
    }
}

fn info(id: &str, cluster: &str) -> NodeInfo {
    NodeInfo {
        id: id.into(),
        cluster: cluster.into(),
        user_agent: "envoy".into(),
        version: "1.40.0".into(),
        zone: "mumbai-west".into(),
        ..NodeInfo::default()
    }
}

/// A stream, and what is noted of it.
pub(crate) struct Talk {
    pub(crate) status: Arc<StreamStatus>,
    session: Session,
    /// The newest response and the newest names, by type.
    newest: HashMap<ResourceType, (Option<Response>, Interest)>,
}

impl Talk {
    pub(crate) fn begin(id: &str, cluster: &str, variant: Variant, view: &Arc<View>) -> Self {
        Self::of(info(id, cluster), variant, view)
    }

    /// An Envoy of this version.
    pub(crate) fn begin_as(id: &str, cluster: &str, version: &str, view: &Arc<View>) -> Self {
        let node = NodeInfo {
            version: version.into(),
            ..info(id, cluster)
        };
        Self::of(node, Variant::Delta, view)
    }

    fn of(node: NodeInfo, variant: Variant, view: &Arc<View>) -> Self {
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let place = Arc::new(Fleet::new(metrics, 1)).admit().unwrap();
        let caller = Caller {
            node,
            variant,
            service: Service::Aggregated,
            peer: Some(([127, 0, 0, 1], 4711).into()),
        };
        Self {
            status: place.taken(caller, connected()),
            session: Session::new(Arc::default(), variant, place.number, Arc::clone(view)),
            newest: HashMap::new(),
        }
    }

    pub(crate) fn ask(&mut self, kind: ResourceType, interest: Interest) {
        let names = match &interest {
            Interest::Names { .. } => interest.clone(),
            Interest::Changes { .. } => subscribe(&[], &[]),
        };
        let newest = self.newest.remove(&kind).and_then(|(newest, _)| newest);
        self.newest.insert(kind, (newest, names));
        self.send(kind, Bytes::new(), None, interest, Event::Asked);
    }

    pub(crate) fn see(&mut self, view: &Arc<View>) {
        let mut responses = Vec::new();
        self.session.on_view(Arc::clone(view), &mut responses);
        self.note(responses);
    }

    /// A view that was published with this number.
    pub(crate) fn see_as(&mut self, update: u64, view: &Arc<View>) {
        self.session.number(update);
        self.see(view);
    }

    /// Answers the newest response, if there is one.
    pub(crate) fn answer(&mut self, kind: ResourceType, error: Option<&str>) {
        let Some((Some(response), names)) = self.newest.get(&kind).cloned() else {
            return;
        };
        let event = error.map_or(Event::Acked, |_| Event::Nacked);
        self.send(kind, response.nonce.into(), error, names, event);
    }

    fn send(
        &mut self,
        kind: ResourceType,
        nonce: Bytes,
        error: Option<&str>,
        interest: Interest,
        event: Event,
    ) {
        let request = Request {
            kind,
            nonce,
            error: error.map(Into::into),
            asked: interest.into(),
        };
        let mut responses = Vec::new();
        self.session.on_request(request, &mut responses).unwrap();
        let at = match event {
            Event::Asked => connected(),
            _ => answered(),
        };
        self.status
            .note(kind, event, self.session.status_of(kind).unwrap(), at);
        self.note(responses);
    }

    fn note(&mut self, responses: Vec<Response>) {
        for kind in self.session.noted() {
            let status = self.session.status_of(kind).unwrap();
            self.status.refresh(kind, status);
        }
        for response in responses {
            let kind = response.payload.kind;
            let status = self.session.status_of(kind).unwrap();
            self.status.note(kind, Event::Sent(100), status, sent());
            self.newest.get_mut(&kind).unwrap().0 = Some(response);
        }
    }
}
