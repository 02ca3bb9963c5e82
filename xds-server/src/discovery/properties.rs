//! Random subscriptions against a client that is as simple as can be: after each exchange it has exactly
//! what it wants and what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::{Interest, Name, Response, Session, Variant, stories};
use crate::resource::{ResourceType, View};

use ResourceType::{Cluster, RouteConfiguration};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "*"];
/// The last one is a wildcard and no resource.
const RESOURCES: usize = 4;

/// Versions of the resources; 0 where there is none.
type World = [u8; RESOURCES];

#[derive(Debug, Clone)]
enum Event {
    /// Delta: names to subscribe to and to unsubscribe from. State of the world: the first list is all
    /// that is wanted.
    Ask(Vec<usize>, Vec<usize>),
    Change(World),
    /// An answer to the newest response, that says nothing else.
    Answer {
        error: bool,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let names = || prop::collection::vec(0..NAMES.len(), 0..4);
    let event = prop_oneof![
        3 => (names(), names()).prop_map(|(add, remove)| Event::Ask(add, remove)),
        3 => prop::array::uniform4(0_u8..3).prop_map(Event::Change),
        2 => any::<bool>().prop_map(|error| Event::Answer { error }),
    ];
    prop::collection::vec(event, 1..40)
}

fn view(kind: ResourceType, world: World) -> std::sync::Arc<View> {
    let versions: Vec<String> = world.iter().map(u8::to_string).collect();
    let there = (0..RESOURCES).filter(|index| world[*index] > 0);
    let resources: Vec<_> = there
        .map(|index| (kind, NAMES[index], versions[index].as_str()))
        .collect();
    stories::view(&resources)
}

struct Client {
    kind: ResourceType,
    variant: Variant,
    session: Session,
    asked_once: bool,
    named_once: bool,
    wild: bool,
    names: BTreeSet<String>,
    has: BTreeMap<String, String>,
    nonce: String,
}

impl Client {
    fn new(kind: ResourceType, variant: Variant, world: World) -> Self {
        Self {
            kind,
            variant,
            session: stories::session(variant, &view(kind, world)),
            asked_once: false,
            named_once: false,
            wild: false,
            names: BTreeSet::new(),
            has: BTreeMap::new(),
            nonce: String::new(),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wild || self.names.contains(name)
    }

    /// The protocol's rules for what is wanted, as its documentation states them.
    fn want(&mut self, add: &[&str], remove: &[&str]) {
        let first = !std::mem::replace(&mut self.asked_once, true);
        let full_state = self.kind.is_full_state();
        let star = add.contains(&"*");
        let named = add
            .iter()
            .filter(|name| **name != "*")
            .map(ToString::to_string);
        match self.variant {
            Variant::StateOfTheWorld => {
                self.names = named.collect();
                self.wild = star || (add.is_empty() && full_state && !self.named_once);
                self.named_once |= !add.is_empty();
            }
            Variant::Delta => {
                for name in remove {
                    self.wild &= *name != "*";
                    self.names.remove(*name);
                }
                self.wild |= star || (first && add.is_empty() && full_state);
                self.names.extend(named);
            }
        }
        let kept = |name: &String| self.wild || self.names.contains(name);
        self.has = std::mem::take(&mut self.has)
            .into_iter()
            .filter(|(name, _)| kept(name))
            .collect();
    }

    fn ask(&mut self, add: &[&str], remove: &[&str]) -> Result<(), TestCaseError> {
        self.want(add, remove);
        let names = |names: &[&str]| names.iter().map(|name| Name::from(*name)).collect();
        let interest = match self.variant {
            Variant::StateOfTheWorld => Interest::Names {
                names: names(add),
                version: String::new(),
            },
            Variant::Delta => Interest::Changes {
                subscribe: names(add),
                unsubscribe: names(remove),
                known: Vec::new(),
            },
        };
        let nonce = std::mem::take(&mut self.nonce);
        self.send(&nonce, None, interest)
    }

    /// Says to the newest response that it was taken or not, and wants what it wanted.
    fn answer(&mut self, error: bool) -> Result<(), TestCaseError> {
        if self.nonce.is_empty() {
            return Ok(());
        }
        let star = self.wild && self.named_once;
        let names = self.names.iter().map(|name| Name::from(&**name));
        let interest = match self.variant {
            Variant::StateOfTheWorld => Interest::Names {
                names: names.chain(star.then(|| "*".into())).collect(),
                version: String::new(),
            },
            Variant::Delta => Interest::Changes {
                subscribe: Vec::new(),
                unsubscribe: Vec::new(),
                known: Vec::new(),
            },
        };
        let nonce = std::mem::take(&mut self.nonce);
        self.send(&nonce, error.then_some("no"), interest)
    }

    fn send(
        &mut self,
        nonce: &str,
        error: Option<&str>,
        interest: Interest,
    ) -> Result<(), TestCaseError> {
        let mut responses = Vec::new();
        let request = stories::request(self.kind, nonce, error, interest);
        self.session.on_request(request, &mut responses).unwrap();
        self.take(&responses)
    }

    fn see(&mut self, world: World) -> Result<(), TestCaseError> {
        let mut responses = Vec::new();
        self.session.on_view(view(self.kind, world), &mut responses);
        self.take(&responses)
    }

    fn take(&mut self, responses: &[Response]) -> Result<(), TestCaseError> {
        for response in responses {
            let payload = &response.payload;
            if self.variant == Variant::StateOfTheWorld && self.kind.is_full_state() {
                self.has.clear();
            }
            for one in &payload.resources {
                prop_assert!(self.wants(&one.name), "{} is not wanted", one.name);
                self.has
                    .insert(one.name.to_string(), one.version.to_string());
            }
            for name in &payload.removed {
                self.has.remove(&**name);
            }
            self.nonce.clone_from(&response.nonce);
        }
        Ok(())
    }

    fn has_what_it_wants(&self, world: World) -> Result<(), TestCaseError> {
        let there = (0..RESOURCES).filter(|index| world[*index] > 0);
        let wanted: BTreeMap<String, String> = there
            .map(|index| (NAMES[index].to_string(), world[index].to_string()))
            .filter(|(name, _)| self.wants(name))
            .collect();
        let mut has = self.has.clone();
        if self.variant == Variant::StateOfTheWorld && !self.kind.is_full_state() {
            // There is no word for removals: a client keeps what is gone.
            has.retain(|name, _| wanted.contains_key(name));
        }
        // Of what it rejected it may have been told its older version instead, or nothing.
        let status = self.session.status_of(self.kind);
        let refused = status.map(|status| Arc::clone(&status.refused));
        let mut wanted = wanted;
        for refused in refused.iter().flat_map(|refused| refused.iter()) {
            prop_assert_eq!(
                wanted.get(&*refused.name).map(|now| &**now),
                Some(&*refused.version)
            );
            has.remove(&*refused.name);
            wanted.remove(&*refused.name);
        }
        prop_assert_eq!(has, wanted);
        Ok(())
    }
}

fn play(kind: ResourceType, variant: Variant, events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut world = [1; RESOURCES];
    let mut client = Client::new(kind, variant, world);
    let named =
        |indices: &[usize]| -> Vec<&str> { indices.iter().map(|index| NAMES[*index]).collect() };
    for event in events {
        match event {
            Event::Ask(add, remove) => client.ask(&named(&add), &named(&remove))?,
            Event::Change(next) => {
                world = next;
                client.see(world)?;
            }
            Event::Answer { error } => client.answer(error)?,
        }
        // Removals wait until what came before was answered, or until patience is over.
        let mut client_settled = 0;
        while client.session.is_waiting() && client_settled < 4 {
            client.answer(false)?;
            let mut responses = Vec::new();
            client.session.on_patience_over(&mut responses);
            client.take(&responses)?;
            client_settled += 1;
        }
        prop_assert!(!client.session.is_waiting(), "it waits for ever");
        client.has_what_it_wants(world)?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_state_of_the_world_client_has_what_it_wants_of_a_full_state_type(events in events()) {
        play(Cluster, Variant::StateOfTheWorld, events)?;
    }

    #[test]
    fn a_state_of_the_world_client_has_what_it_wants_of_a_named_type(events in events()) {
        play(RouteConfiguration, Variant::StateOfTheWorld, events)?;
    }

    #[test]
    fn a_delta_client_has_what_it_wants_of_a_full_state_type(events in events()) {
        play(Cluster, Variant::Delta, events)?;
    }

    #[test]
    fn a_delta_client_has_what_it_wants_of_a_named_type(events in events()) {
        play(RouteConfiguration, Variant::Delta, events)?;
    }
}
