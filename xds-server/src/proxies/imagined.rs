//! Nodes for tests: each asks for all of some types, is sent a view, and says something to it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use policy::time::WallTime;
use prometheus::Registry;

use crate::{
    discovery::{Interest, Request, Session, Variant},
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
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    let place = Arc::new(Fleet::new(metrics, 1)).admit().unwrap();
    let caller = Caller {
        node: NodeInfo {
            id: id.into(),
            cluster: cluster.into(),
            user_agent: "envoy".into(),
            version: "1.40.0".into(),
            zone: "mumbai-west".into(),
            ..NodeInfo::default()
        },
        variant: Variant::Delta,
        service: Service::Aggregated,
        peer: Some(([127, 0, 0, 1], 4711).into()),
    };
    let status = place.taken(caller, connected());
    let memo = Arc::default();
    let mut session = Session::new(memo, Variant::Delta, place.number, Arc::clone(view));
    for (kind, says) in types {
        ask(&mut session, &status, *kind, *says);
    }
    status
}

fn ask(session: &mut Session, status: &StreamStatus, kind: ResourceType, says: Says) {
    let all = request(kind, Bytes::new(), None, &["*"]);
    let mut responses = Vec::new();
    session.on_request(all, &mut responses).unwrap();
    let note = |session: &Session, event, at| {
        status.note(kind, event, session.status_of(kind).unwrap(), at);
    };
    note(session, Event::Asked, connected());
    let Some(response) = responses.pop() else {
        return;
    };
    note(session, Event::Sent(100), sent());
    let (error, event) = match says {
        Says::Nothing => return,
        Says::Accepts => (None, Event::Acked),
        Says::Rejects(words) => (Some(words), Event::Nacked),
    };
    let answer = request(kind, response.nonce.into(), error, &[]);
    session.on_request(answer, &mut responses).unwrap();
    note(session, event, answered());
}

fn request(kind: ResourceType, nonce: Bytes, error: Option<&str>, names: &[&str]) -> Request {
    let interest = Interest::Changes {
        subscribe: names.iter().map(|name| (*name).into()).collect(),
        unsubscribe: Vec::new(),
        known: Vec::new(),
    };
    Request {
        kind,
        nonce,
        error: error.map(Into::into),
        asked: interest.into(),
    }
}
