//! `GET /api/v1/events`: what changes, as it changes, by server-sent events (HTML Living Standard, section 9.2).
//! Whoever connects is told how everything stands, so that nothing is lost between two connections; who reads
//! slowly is told the newest of each, not all that came between.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State as Extract,
    http::StatusCode,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde_json::{Value, json};
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    broadcast::{self, error::RecvError},
    watch,
};

use super::{
    State,
    answer::{Answer, Media},
    problem,
    problems::MeshDetail,
    routes::Told,
};
use crate::{
    catalog::{Refusal, Revision},
    compile::Unhealthy,
    explain::rfc3339,
    raw::{FileProblem, RawState},
    registry::{Alarm, InstancesBecame},
};

/// Who listens at once: each takes a connection for as long as it likes.
const LISTENERS_MAX: usize = 64;
/// A line that says nothing goes out so often, so that whoever stands between does not end the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the description says.
pub(super) const TOLD: Told = Told::new(
    "What changes, as it changes.",
    "Events are revision, refused, resources, resource_problems, unhealthy, alarm and instances, each with JSON. Whoever \
     connects is told first how everything stands; instances tells only what becomes of them from then on (by service, \
     the first hundred ids; missed: true says that there was more than could be told, and /api/v1/instances has all). \
     alarm names instances that fell silent too many at once, by service, until nobody is left.",
)
.or(&[503]);

/// Server-sent events.
pub(super) struct Events;

impl Media for Events {
    const TYPE: &'static str = "text/event-stream";
    const SAYS: &'static str = "Server-sent events, until somebody ends it.";
}

/// Places of those who listen.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(LISTENERS_MAX))
}

/// What one listener follows.
struct Listener {
    revisions: watch::Receiver<Arc<Revision>>,
    /// The newest that was told: instances come and go without another one.
    told: Option<u64>,
    refusal: watch::Receiver<Option<Arc<Refusal>>>,
    raw: watch::Receiver<Arc<RawState>>,
    problems: watch::Receiver<Arc<Vec<FileProblem>>>,
    unhealthy: watch::Receiver<Arc<Unhealthy>>,
    alarm: watch::Receiver<Arc<Alarm>>,
    became: broadcast::Receiver<Option<Arc<InstancesBecame>>>,
    /// Not told yet.
    due: VecDeque<(&'static str, Value)>,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn events(Extract(state): Extract<State>) -> Answer<Events> {
    let Ok(place) = Arc::clone(&state.listeners).try_acquire_owned() else {
        let said =
            format!("{LISTENERS_MAX} listen already; end one of those, or ask /api/v1/revisions");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &said).into();
    };
    let mut listener = Listener {
        revisions: state.revisions.clone(),
        told: None,
        refusal: state.refusal.clone(),
        raw: state.raw.clone(),
        problems: state.resource_problems.clone(),
        unhealthy: state.health.unhealthy(),
        alarm: state.instances.alarm(),
        became: state.instances.became(),
        due: VecDeque::new(),
        _place: place,
    };
    listener.tell_all();
    let events = futures_util::stream::unfold(listener, |mut listener| async {
        let (name, data) = listener.next().await?;
        let event = Event::default().event(name).data(data.to_string());
        Some((Ok::<_, Infallible>(event), listener))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Answer::made(events.into_response())
}

impl Listener {
    /// How everything stands.
    fn tell_all(&mut self) {
        let all = [
            self.revision(),
            self.refused(),
            self.resources(),
            self.resource_problems(),
            self.unhealthy(),
            self.alarm(),
        ];
        self.due.extend(all);
    }

    /// The next event; none when the server ends.
    async fn next(&mut self) -> Option<(&'static str, Value)> {
        if let Some(due) = self.due.pop_front() {
            return Some(due);
        }
        loop {
            return tokio::select! {
                changed = self.revisions.changed() => {
                    changed.ok()?;
                    if self.told == Some(self.revisions.borrow_and_update().number) {
                        continue;
                    }
                    Some(self.revision())
                }
                changed = self.refusal.changed() => changed.ok().map(|()| self.refused()),
                changed = self.raw.changed() => changed.ok().map(|()| self.resources()),
                changed = self.problems.changed() => changed.ok().map(|()| self.resource_problems()),
                changed = self.unhealthy.changed() => changed.ok().map(|()| self.unhealthy()),
                changed = self.alarm.changed() => changed.ok().map(|()| self.alarm()),
                became = self.became.recv() => instances(became),
            };
        }
    }

    fn revision(&mut self) -> (&'static str, Value) {
        let revision = self.revisions.borrow_and_update();
        self.told = Some(revision.number);
        let zone = revision.mesh.timetable.zone();
        let data = json!({
            "revision": revision.number,
            "accepted_at": rfc3339(zone, revision.accepted_at),
            "mesh": revision.mesh.name,
        });
        ("revision", data)
    }

    fn refused(&mut self) -> (&'static str, Value) {
        let zone = self.revisions.borrow().mesh.timetable.zone().clone();
        let refusal = self.refusal.borrow_and_update();
        let problems = refusal.iter().flat_map(|refusal| &refusal.problems);
        let problems: Vec<MeshDetail> = problems.map(MeshDetail::from).collect();
        let at = refusal.as_ref().map(|refusal| rfc3339(&zone, refusal.at));
        ("refused", json!({"at": at, "problems": problems}))
    }

    fn resources(&mut self) -> (&'static str, Value) {
        let revision = self.raw.borrow_and_update().revision();
        ("resources", json!({"revision": revision}))
    }

    fn resource_problems(&mut self) -> (&'static str, Value) {
        let problems = self.problems.borrow_and_update();
        ("resource_problems", json!({"problems": **problems}))
    }

    fn unhealthy(&mut self) -> (&'static str, Value) {
        let unhealthy = self.unhealthy.borrow_and_update();
        let services = unhealthy.0.iter();
        let services: BTreeMap<&str, Vec<&String>> = services
            .map(|(name, ids)| (name.as_str(), ids.iter().collect()))
            .collect();
        ("unhealthy", json!({"services": services}))
    }

    fn alarm(&mut self) -> (&'static str, Value) {
        let alarm = self.alarm.borrow_and_update();
        let vanished: BTreeMap<&str, _> = alarm
            .iter()
            .map(|(service, vanished)| (service.as_str(), vanished))
            .collect();
        ("alarm", json!({"vanished": vanished}))
    }
}

/// What became of instances; none when the server ends.
fn instances(
    became: Result<Option<Arc<InstancesBecame>>, RecvError>,
) -> Option<(&'static str, Value)> {
    let data = match became {
        Ok(Some(became)) => serde_json::to_value(&*became).unwrap_or_default(),
        Ok(None) | Err(RecvError::Lagged(_)) => json!({"missed": true}),
        Err(RecvError::Closed) => return None,
    };
    Some(("instances", data))
}
