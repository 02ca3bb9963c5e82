//! What is told of instances, in the log and to who listens: a line for each service and for what became of its
//! instances, however many they are.

use std::collections::BTreeMap;

use policy::units::ServiceName;
use serde::Serialize;
use tracing::{error, info, warn};

use super::{Instance, InstanceId, Phase, State, state::Instances};
use crate::store::Change;

/// Ids that a line names.
const NAMED_MAX: usize = 5;
/// Ids that who listens is told.
const LISTED_MAX: usize = 100;

/// What became of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// They are new, or were said anew under another state.
    Registered,
    /// They are up again.
    Returned,
    /// They are about to leave.
    Draining,
    /// They fell silent.
    Expired,
    /// They fell silent, too many at once.
    Vanished,
    /// They were deregistered, released or forgotten.
    Gone,
}

/// What one revision made of instances of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstancesBecame {
    /// Of the log of instances.
    pub revision: u64,
    /// Whose they are.
    pub service: String,
    /// What became of them.
    pub became: Became,
    /// By id, the first hundred.
    pub instances: Vec<String>,
    /// How many more.
    pub left_off: usize,
}

/// Instances of a service that vanished together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vanished {
    /// How many.
    pub count: usize,
    /// By id, the first hundred.
    pub instances: Vec<String>,
}

/// Who vanished, by service, until they come back, are deregistered or released.
pub type Alarm = BTreeMap<ServiceName, Vanished>;

/// Those of a service that vanished; none where nobody did.
pub(super) fn vanished(instances: &Instances) -> Option<Vanished> {
    let vanished = instances
        .iter()
        .filter(|(_, held)| held.instance.phase == Phase::Vanished);
    let count = vanished.clone().count();
    (count > 0).then(|| Vanished {
        count,
        instances: vanished
            .take(LISTED_MAX)
            .map(|(id, _)| id.clone())
            .collect(),
    })
}

/// Tells what a revision makes of what is known: the log, and who listens by what is returned.
pub(super) fn tell(state: &State, revision: u64, changes: &[Change]) -> Vec<InstancesBecame> {
    let told = told(state, changes);
    write_down(&told);
    let became = |((service, became), ids): ((ServiceName, Became), Vec<InstanceId>)| {
        let left_off = ids.len().saturating_sub(LISTED_MAX);
        InstancesBecame {
            revision,
            service: service.to_string(),
            became,
            instances: ids.into_iter().take(LISTED_MAX).map(|id| id.id).collect(),
            left_off,
        }
    };
    told.into_iter().map(became).collect()
}

fn write_down(told: &Told) {
    for ((service, became), ids) in told {
        let count = ids.len();
        let named: Vec<&str> = ids.iter().take(NAMED_MAX).map(|id| &*id.id).collect();
        let ids = named.join(", ");
        match became {
            Became::Registered => info!(%service, count, ids, "instances registered"),
            Became::Returned => info!(%service, count, ids, "instances are back"),
            Became::Draining => info!(%service, count, ids, "instances are draining"),
            Became::Expired => warn!(%service, count, ids, "instances fell silent and expired"),
            Became::Vanished => error!(
                %service,
                count,
                ids,
                "ALARM: too many instances fell silent at once: they stay, as unhealthy, until they come back, are \
                 deregistered, or `mumbai-mesh instance release --service {service}`"
            ),
            Became::Gone => info!(%service, count, ids, "instances are gone"),
        }
    }
}

type Told = BTreeMap<(ServiceName, Became), Vec<InstanceId>>;

fn told(state: &State, changes: &[Change]) -> Told {
    let mut told = Told::new();
    for change in changes {
        let Some(id) = InstanceId::of_key(&change.key) else {
            continue;
        };
        let was = state.held(&id).map(|held| held.instance.phase);
        let value = change.value.as_deref();
        let is = value.and_then(|value| Instance::of_kept(&id.id, value));
        let became = match (was, is.map(|is| is.phase)) {
            (Some(_), None) => Became::Gone,
            (None, None) => continue,
            (None, Some(_)) => Became::Registered,
            (Some(was), Some(is)) if was == is => continue,
            (Some(_), Some(Phase::Up)) => Became::Returned,
            (Some(_), Some(Phase::Draining)) => Became::Draining,
            (Some(_), Some(Phase::Expired)) => Became::Expired,
            (Some(_), Some(Phase::Vanished)) => Became::Vanished,
        };
        told.entry((id.service.clone(), became))
            .or_default()
            .push(id);
    }
    told
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use policy::time::{MonoTime, Now, WallTime};

    use super::*;

    #[test]
    fn what_became_of_instances_is_told_by_service_and_bounded() {
        let kept = |phase: &str| -> Arc<str> {
            format!(
                r#"{{"host":"10.0.0.1","port":80,"weight":1,"ttl_millis":2000,"phase":"{phase}","since":5}}"#
            )
            .into()
        };
        let orders = ServiceName::new("orders").unwrap();
        let change = |id: &str, phase: Option<&str>| Change {
            key: InstanceId {
                service: orders.clone(),
                id: id.into(),
            }
            .key(),
            value: phase.map(kept),
        };
        let now = Now {
            wall: WallTime::from_unix_millis(0),
            mono: MonoTime::from_nanos(0),
        };
        let mut state = State::new(None);
        let mut turn = |revision, changes: &[Change]| {
            let told = tell(&state, revision, changes);
            state.apply(revision, changes, now);
            let alarm = vanished(state.instances(&orders));
            (told, alarm)
        };
        let ids: Vec<String> = (0..150).map(|number| format!("o-{number:03}")).collect();
        let all = |phase| ids.iter().map(|id| change(id, phase)).collect::<Vec<_>>();
        let (told, alarm) = turn(1, &all(Some("up")));
        let [one] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(
            (one.became, one.instances.len(), one.left_off),
            (Became::Registered, 100, 50)
        );
        assert_eq!(alarm, None);
        let (told, alarm) = turn(2, &all(Some("vanished")));
        assert_eq!((told[0].became, told[0].revision), (Became::Vanished, 2));
        assert_eq!(alarm.unwrap().count, 150);
        let (told, alarm) = turn(3, &[change("o-007", Some("up")), change("o-008", None)]);
        let told: Vec<_> = told
            .iter()
            .map(|one| (one.became, &*one.instances[0]))
            .collect();
        assert_eq!(told, [(Became::Returned, "o-007"), (Became::Gone, "o-008")]);
        assert_eq!(alarm.unwrap().count, 148);
    }
}
