//! The rules of the protocol, one story each, told to one stream. Each names the section of Envoy's page "xDS REST
//! and gRPC protocol" whose rule it proves, in our own words.

mod answers;
mod order;
mod rejections;
mod subscriptions;

use std::{collections::HashMap, sync::Arc};

use super::{Interest, Memo, Request, Response, Session, Variant};
use crate::resource::{Resource, ResourceType, View};

use ResourceType::{Cluster, ClusterLoadAssignment, Listener, RouteConfiguration};

/// A view of resources. A route's version says which clusters it names: `to a and b`.
pub(super) fn view(resources: &[(ResourceType, &str, &str)]) -> Arc<View> {
    let resources = resources.iter().map(|(kind, name, version)| {
        let resource = Resource::new(*kind, name, version, b"");
        let clusters = match *kind {
            RouteConfiguration => version.trim_start_matches("to ").split(" and "),
            _ => "".split(" and "),
        };
        let clusters = clusters.filter(|name| !name.is_empty()).map(Arc::from);
        (*kind, Arc::new(resource.naming(clusters.collect())))
    });
    Arc::new(View::new(resources.collect()))
}

/// A stream of that node.
pub(super) fn session(variant: Variant, view: &Arc<View>) -> Session {
    Session::new(Arc::new(Memo::default()), variant, 0xa1, Arc::clone(view))
}

/// What a client says, as the session takes it.
pub(super) fn request(
    kind: ResourceType,
    nonce: &str,
    error: Option<&str>,
    interest: Interest,
) -> Request {
    Request {
        kind,
        nonce: bytes::Bytes::copy_from_slice(nonce.as_bytes()),
        error: error.map(str::to_string),
        asked: interest.into(),
    }
}

/// A stream and its client's side of the bookkeeping.
struct Stream {
    session: Session,
    nonces: HashMap<ResourceType, String>,
    delta: bool,
}

impl Stream {
    fn new(variant: Variant, view: &Arc<View>) -> Self {
        Self {
            session: session(variant, view),
            nonces: HashMap::new(),
            delta: variant == Variant::Delta,
        }
    }

    fn sotw(view: &Arc<View>) -> Self {
        Self::new(Variant::StateOfTheWorld, view)
    }

    fn delta(view: &Arc<View>) -> Self {
        Self::new(Variant::Delta, view)
    }

    fn noted(&mut self, responses: Vec<Response>) -> Vec<Response> {
        for response in &responses {
            self.nonces
                .insert(response.payload.kind, response.nonce.clone());
        }
        responses
    }

    /// State of the world: asks for exactly these names, answering the newest response.
    fn ask(&mut self, kind: ResourceType, names: &[&str]) -> Vec<Response> {
        let nonce = self.nonces.get(&kind).cloned().unwrap_or_default();
        self.send(kind, &nonce, None, names_of(names, ""))
    }

    /// Delta: subscribes and unsubscribes, answering nothing.
    fn change(&mut self, kind: ResourceType, add: &[&str], remove: &[&str]) -> Vec<Response> {
        self.send(kind, "", None, changes(add, remove, &[]))
    }

    fn send(
        &mut self,
        kind: ResourceType,
        nonce: &str,
        error: Option<&str>,
        interest: Interest,
    ) -> Vec<Response> {
        let mut responses = Vec::new();
        let request = request(kind, nonce, error, interest);
        self.session.on_request(request, &mut responses).unwrap();
        self.noted(responses)
    }

    /// Answers the newest response of a type, wanting what it wanted.
    fn answer(&mut self, kind: ResourceType, names: &[&str], error: Option<&str>) -> Vec<Response> {
        let nonce = self.nonces[&kind].clone();
        self.answer_to(&nonce, kind, names, error)
    }

    /// The same, of any response.
    fn answer_to(
        &mut self,
        nonce: &str,
        kind: ResourceType,
        names: &[&str],
        error: Option<&str>,
    ) -> Vec<Response> {
        let interest = match self.delta {
            true => changes(&[], &[], &[]),
            false => names_of(names, ""),
        };
        self.send(kind, nonce, error, interest)
    }

    fn see(&mut self, view: &Arc<View>) -> Vec<Response> {
        let mut responses = Vec::new();
        self.session.on_view(Arc::clone(view), &mut responses);
        self.noted(responses)
    }

    fn lose_patience(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        self.session.on_patience_over(&mut responses);
        self.noted(responses)
    }
}

fn names_of(names: &[&str], version: &str) -> Interest {
    Interest::Names {
        names: names.iter().map(|name| (*name).into()).collect(),
        version: version.to_string(),
    }
}

fn changes(add: &[&str], remove: &[&str], known: &[(&str, &str)]) -> Interest {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
    let known = known.iter();
    Interest::Changes {
        subscribe: texts(add),
        unsubscribe: texts(remove),
        known: known
            .map(|(name, version)| ((*name).into(), (*version).into()))
            .collect(),
    }
}

/// `cluster a,b -c`: what a response says, for comparing.
fn told(responses: &[Response]) -> Vec<String> {
    responses.iter().map(one_told).collect()
}

fn one_told(response: &Response) -> String {
    let response = &response.payload;
    let kind = match response.kind {
        Cluster => "cds",
        ClusterLoadAssignment => "eds",
        Listener => "lds",
        RouteConfiguration => "rds",
        _ => "other",
    };
    let mut words: Vec<String> = vec![kind.into()];
    words.extend(
        response
            .resources
            .iter()
            .map(|one| format!("{}@{}", one.name, one.version)),
    );
    words.extend(response.removed.iter().map(|name| format!("-{name}")));
    words.join(" ")
}

/// What a gateway of one service knows, and what it knows when a canary came.
fn without_and_with_canary() -> (Arc<View>, Arc<View>) {
    let without = view(&[
        (Cluster, "s", "1"),
        (ClusterLoadAssignment, "s", "1"),
        (Listener, "l", "1"),
        (RouteConfiguration, "l", "to s"),
    ]);
    let with = view(&[
        (Cluster, "s", "1"),
        (Cluster, "s|v2", "1"),
        (ClusterLoadAssignment, "s", "1"),
        (ClusterLoadAssignment, "s|v2", "1"),
        (Listener, "l", "1"),
        (RouteConfiguration, "l", "to s and s|v2"),
    ]);
    (without, with)
}

/// A gateway that has been served and has acknowledged everything.
fn served(variant: Variant, view: &Arc<View>, endpoints: &[&str]) -> Stream {
    let mut stream = Stream::new(variant, view);
    let wanted: [(ResourceType, &[&str]); 4] = [
        (Cluster, &[]),
        (ClusterLoadAssignment, endpoints),
        (Listener, &[]),
        (RouteConfiguration, &["l"]),
    ];
    for (kind, names) in wanted {
        let responses = match stream.delta {
            true => stream.change(kind, names, &[]),
            false => stream.ask(kind, names),
        };
        assert_eq!(responses.len(), 1);
        stream.answer(kind, names, None);
    }
    stream
}
