//! A client that does what Envoy's documentation says, against random views and random timing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    Interest, Memo, Name, Payload, Request, Response, Session, Variant, stories, track::Answer,
};
use crate::resource::{ResourceType, View};

use ResourceType::{Cluster, ClusterLoadAssignment, RouteConfiguration};

const CLUSTERS: [&str; 4] = ["a", "b", "c", "d"];

/// One state of the server: versions of clusters (0: absent) and of their endpoints, and the cluster
/// that the one route names.
#[derive(Debug, Clone)]
struct State {
    clusters: [u8; 4],
    endpoints: [u8; 4],
    route: usize,
}

impl State {
    /// The route's cluster always exists.
    fn view(&self) -> Arc<View> {
        let version = |number: u8| number.to_string();
        let mut resources = Vec::new();
        for (index, name) in CLUSTERS.iter().enumerate() {
            let cluster = match index == self.route {
                true => self.clusters[index].max(1),
                false => self.clusters[index],
            };
            if cluster > 0 {
                resources.push((Cluster, *name, version(cluster)));
                resources.push((ClusterLoadAssignment, *name, version(self.endpoints[index])));
            }
        }
        resources.push((RouteConfiguration, "r", CLUSTERS[self.route].to_string()));
        let resources: Vec<_> = resources
            .iter()
            .map(|(kind, name, version)| (*kind, *name, version.as_str()))
            .collect();
        stories::view(&resources)
    }
}

fn states() -> impl Strategy<Value = State> {
    let versions = || prop::array::uniform4(0_u8..3);
    (versions(), versions(), 0_usize..4).prop_map(|(clusters, endpoints, route)| State {
        clusters,
        endpoints,
        route,
    })
}

#[derive(Debug, Clone)]
enum Event {
    /// The server's state changes.
    Change(State),
    /// The client handles the next response in flight, and rejects it if so.
    Deliver { reject: bool },
    /// The server handles the client's next request in flight.
    Serve,
    /// The server loses patience.
    Patience,
    /// The connection breaks, and the client comes back with what it has.
    Reconnect,
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => states().prop_map(Event::Change),
        6 => Just(Event::Deliver { reject: false }),
        1 => Just(Event::Deliver { reject: true }),
        6 => Just(Event::Serve),
        1 => Just(Event::Patience),
        1 => Just(Event::Reconnect),
    ]
}

/// Envoy as far as the protocol sees it.
struct Client {
    variant: Variant,
    known: HashMap<ResourceType, BTreeMap<String, String>>,
    /// Endpoints that it has asked for.
    asked: BTreeSet<String>,
    nonces: BTreeSet<String>,
    /// Version of the newest response that it accepted, by type.
    versions: HashMap<ResourceType, String>,
    /// Endpoints that it had when it accepted the newest of them.
    had: BTreeSet<String>,
    /// What responses said that the client rejected, by nonce.
    refused: HashMap<String, Vec<(String, String)>>,
    /// What the newest response said, where the server knows that it was rejected.
    rejected: HashMap<ResourceType, Vec<(String, String)>>,
    /// A connection's first route is answered at once; later ones wait for what they need.
    routed: bool,
    requests: VecDeque<Request>,
}

impl Client {
    fn new(variant: Variant) -> Self {
        let mut client = Self {
            variant,
            known: HashMap::new(),
            asked: BTreeSet::new(),
            nonces: BTreeSet::new(),
            versions: HashMap::new(),
            had: BTreeSet::new(),
            refused: HashMap::new(),
            rejected: HashMap::new(),
            routed: false,
            requests: VecDeque::new(),
        };
        client.request(Cluster, "", None, &[], &[]);
        client.request(RouteConfiguration, "", None, &["r".into()], &[]);
        client
    }

    /// A new stream, on which it says what it has.
    fn come_back(&mut self) {
        self.requests.clear();
        self.nonces.clear();
        self.refused.clear();
        self.rejected.clear();
        let asked: Vec<Name> = self.asked.iter().map(|name| (**name).into()).collect();
        let wanted = [
            (Cluster, Vec::new()),
            (ClusterLoadAssignment, asked),
            (RouteConfiguration, vec!["r".into()]),
        ];
        for (kind, names) in wanted {
            let interest = match self.variant {
                Variant::Delta => Interest::Changes {
                    subscribe: names,
                    unsubscribe: Vec::new(),
                    known: self
                        .known
                        .get(&kind)
                        .into_iter()
                        .flatten()
                        .map(|(name, version)| ((**name).into(), (**version).into()))
                        .collect(),
                },
                Variant::StateOfTheWorld => Interest::Names {
                    names,
                    version: match kind == ClusterLoadAssignment && self.lost_since() {
                        true => String::new(),
                        false => self.versions.get(&kind).cloned().unwrap_or_default(),
                    },
                },
            };
            self.requests
                .push_back(stories::request(kind, "", None, interest));
        }
    }

    /// Whether it gave endpoints up that it had when it accepted its version, and asks for them anew. In the state of
    /// the world its first request then reads as if it had them still, and no server can tell: a client that
    /// is to end well must not say that version.
    fn lost_since(&self) -> bool {
        let endpoints = self.known.get(&ClusterLoadAssignment);
        let has = |name: &String| endpoints.is_some_and(|known| known.contains_key(name));
        let mut asked = self.asked.iter();
        asked.any(|name| self.had.contains(name) && !has(name))
    }

    /// The server handles a request, which may be a rejection of its newest response.
    fn served(
        &mut self,
        request: Request,
        session: &mut Session,
        in_flight: &mut VecDeque<Response>,
    ) -> Result<(), TestCaseError> {
        let kind = request.kind;
        let nonce = String::from_utf8_lossy(&request.nonce).into_owned();
        if nonce.is_empty() {
            // It asks, and what it asks for it is told.
            self.rejected.remove(&kind);
        }
        let mut responses = Vec::new();
        // A rejection that was overtaken by a newer response is none.
        let answer = session.on_request(request, &mut responses).unwrap();
        if let Some(said) = self.refused.remove(&nonce)
            && answer == Answer::Nack
        {
            self.rejected.insert(kind, said);
        }
        self.are_not_rejected_again(&responses)?;
        in_flight.extend(responses);
        Ok(())
    }

    /// What was rejected is not sent again until something changed.
    fn are_not_rejected_again(&mut self, responses: &[Response]) -> Result<(), TestCaseError> {
        for response in responses {
            let said = said(&response.payload);
            let kind = response.payload.kind;
            let rejected = self.rejected.remove(&kind);
            prop_assert!(
                rejected.as_ref() != Some(&said),
                "{kind:?} {said:?} was rejected already"
            );
        }
        Ok(())
    }

    fn request(
        &mut self,
        kind: ResourceType,
        nonce: &str,
        error: Option<&str>,
        add: &[String],
        remove: &[String],
    ) {
        let interest = match self.variant {
            Variant::Delta => Interest::Changes {
                subscribe: add.iter().map(|name| (**name).into()).collect(),
                unsubscribe: remove.iter().map(|name| (**name).into()).collect(),
                known: Vec::new(),
            },
            Variant::StateOfTheWorld => Interest::Names {
                names: match kind {
                    ClusterLoadAssignment => {
                        self.asked.iter().map(|name| (**name).into()).collect()
                    }
                    RouteConfiguration => vec!["r".into()],
                    _ => Vec::new(),
                },
                version: String::new(),
            },
        };
        self.requests
            .push_back(stories::request(kind, nonce, error, interest));
    }

    fn deliver(&mut self, response: &Response, reject: bool) -> Result<(), TestCaseError> {
        let (nonce, response) = (response.nonce.clone(), &response.payload);
        let names: BTreeSet<&str> = response.resources.iter().map(|one| &*one.name).collect();
        prop_assert_eq!(names.len(), response.resources.len(), "a name twice");
        prop_assert!(self.nonces.insert(nonce.clone()), "a nonce twice");
        if reject {
            self.refused.insert(nonce.clone(), said(response));
            self.request(response.kind, &nonce, Some("rejected"), &[], &[]);
            return Ok(());
        }
        self.versions
            .insert(response.kind, response.version.to_string());
        let known = self.known.entry(response.kind).or_default();
        if self.variant == Variant::StateOfTheWorld && response.kind == Cluster {
            known.clear();
        }
        for resource in &response.resources {
            known.insert(resource.name.to_string(), resource.version.to_string());
        }
        for name in &response.removed {
            known.remove(&**name);
        }
        if response.kind == ClusterLoadAssignment {
            self.had = known.keys().cloned().collect();
        }
        if response.kind == Cluster {
            self.follow_clusters();
        }
        if response.kind == RouteConfiguration {
            self.routed = true;
        }
        self.request(response.kind, &nonce, None, &[], &[]);
        Ok(())
    }

    /// Asks for the endpoints of its clusters, as Envoy does before it acknowledges them.
    fn follow_clusters(&mut self) {
        let wanted: BTreeSet<String> = self.known[&Cluster].keys().cloned().collect();
        let add: Vec<String> = wanted.difference(&self.asked).cloned().collect();
        let remove: Vec<String> = self.asked.difference(&wanted).cloned().collect();
        if add.is_empty() && remove.is_empty() {
            return;
        }
        let endpoints = self.known.entry(ClusterLoadAssignment).or_default();
        endpoints.retain(|name, _| wanted.contains(name));
        self.asked = wanted;
        self.request(ClusterLoadAssignment, "", None, &add, &remove);
    }

    /// A new route to a cluster without endpoints fails requests.
    fn route_leads_somewhere(&self, response: &Response) -> Result<(), TestCaseError> {
        let response = &response.payload;
        let none = BTreeMap::new();
        let endpoints = self.known.get(&ClusterLoadAssignment).unwrap_or(&none);
        for route in response
            .resources
            .iter()
            .filter(|_| response.kind == RouteConfiguration)
        {
            let warm = endpoints.contains_key(&*route.version);
            prop_assert!(
                warm || !self.routed,
                "route to {}, which is not warm",
                route.version
            );
        }
        Ok(())
    }

    /// A cluster that a route names is there.
    fn route_has_its_cluster(&self) -> Result<(), TestCaseError> {
        let none = BTreeMap::new();
        let routes = self.known.get(&RouteConfiguration).unwrap_or(&none);
        let clusters = self.known.get(&Cluster).unwrap_or(&none);
        if let Some(cluster) = routes.get("r") {
            prop_assert!(
                clusters.contains_key(cluster),
                "route to {cluster}: {clusters:?}"
            );
        }
        Ok(())
    }
}

/// What a response says, for comparing.
fn said(payload: &Payload) -> Vec<(String, String)> {
    let resources = payload.resources.iter();
    let resources = resources.map(|one| (one.name.to_string(), one.version.to_string()));
    let removed = payload.removed.iter();
    let removed = removed.map(|name| (name.to_string(), "gone".to_string()));
    resources.chain(removed).collect()
}

fn play(variant: Variant, first: &State, events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut state = first.clone();
    // One memo for every stream of this client: what one learnt, the next is told.
    let memo = Arc::new(Memo::default());
    let open =
        |number, state: &State| Session::new(Arc::clone(&memo), variant, number, state.view());
    let mut session = open(1, &state);
    let mut streams = 1;
    let mut client = Client::new(variant);
    let mut in_flight: VecDeque<Response> = VecDeque::new();
    let mut rejected = false;
    // The connection's first requests are handled before the world moves.
    for _ in 0..2 {
        if let Some(request) = client.requests.pop_front() {
            client.served(request, &mut session, &mut in_flight)?;
        }
    }
    let mut lost_patience = false;
    for event in events {
        match event {
            Event::Change(next) => {
                state = next;
                // What changed and changed back may be told again.
                client.rejected.clear();
                session.on_view(state.view(), &mut in_flight);
            }
            Event::Serve => {
                if let Some(request) = client.requests.pop_front() {
                    client.served(request, &mut session, &mut in_flight)?;
                }
            }
            Event::Deliver { reject } => {
                if let Some(response) = in_flight.pop_front() {
                    rejected |= reject;
                    if !rejected && !lost_patience {
                        client.route_leads_somewhere(&response)?;
                    }
                    client.deliver(&response, reject)?;
                }
            }
            Event::Patience => {
                lost_patience |= session.is_waiting();
                session.on_patience_over(&mut in_flight);
            }
            Event::Reconnect => {
                streams += 1;
                session = open(streams, &state);
                in_flight.clear();
                client.come_back();
                // What it has of the world before is told to no server.
                lost_patience = true;
            }
        }
        if !rejected && !lost_patience {
            client.route_has_its_cluster()?;
        }
    }
    // Everything comes to rest: no loop, whatever was rejected.
    for round in 0.. {
        prop_assert!(round < 500, "no end of messages");
        if let Some(response) = in_flight.pop_front() {
            client.deliver(&response, false)?;
        } else if let Some(request) = client.requests.pop_front() {
            client.served(request, &mut session, &mut in_flight)?;
        } else if session.is_waiting() {
            session.on_patience_over(&mut in_flight);
        } else {
            break;
        }
        if !rejected && !lost_patience {
            client.route_has_its_cluster()?;
        }
    }
    if !rejected {
        let view = state.view();
        for kind in [Cluster, ClusterLoadAssignment, RouteConfiguration] {
            let expected: BTreeMap<String, String> = view
                .resources(kind)
                .map(|resource| (resource.name.to_string(), resource.version.to_string()))
                .collect();
            let known = client.known.get(&kind).cloned().unwrap_or_default();
            prop_assert_eq!(known, expected, "{:?}", kind);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_state_of_the_world_client_ends_with_the_servers_state_and_never_sees_a_dead_route(
        first in states(), events in prop::collection::vec(events(), 0..60),
    ) {
        play(Variant::StateOfTheWorld, &first, events)?;
    }

    #[test]
    fn a_delta_client_ends_with_the_servers_state_and_never_sees_a_dead_route(
        first in states(), events in prop::collection::vec(events(), 0..60),
    ) {
        play(Variant::Delta, &first, events)?;
    }
}
