//! What the log says of instances: a line for each service and for what became of its instances, however many
//! they are.

use std::collections::BTreeMap;

use policy::units::ServiceName;
use tracing::{error, info, warn};

use super::{Instance, InstanceId, Phase, State};
use crate::store::Change;

/// Ids that a line names.
const NAMED_MAX: usize = 5;

/// What became of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Became {
    Registered,
    Returned,
    Draining,
    Expired,
    Vanished,
    Gone,
}

/// Tells what a revision makes of what is known.
pub(super) fn tell(state: &State, changes: &[Change]) {
    for ((service, became), ids) in told(state, changes) {
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
