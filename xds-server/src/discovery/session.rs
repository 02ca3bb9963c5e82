//! One stream: its subscriptions, and the order between them when the view changes.
//!
//! Make before break: clusters first, without taking any away; then what they need; then, once the
//! client has answered for those, what names them; and only when that is answered too, removals.
//! Nobody waits for ever: [`Session::on_patience_over`] goes on with what a client left unanswered. `order` walks
//! through that, `held` knows what waits because of what a client rejected.

mod held;
mod order;

use std::{mem, sync::Arc};

use held::lift_what_is_asked_for;
use order::{MADE, may_answer};

use super::{
    Memo, Name, Payload, Request, RequestError, Variant,
    position::Removals,
    track::{Answer, Status, Track},
};
use crate::resource::{ResourceType, View};

use ResourceType::{
    Cluster, ClusterLoadAssignment, ExtensionConfig, Listener, RouteConfiguration, Secret,
};

/// A response to send.
#[derive(Debug, Clone)]
pub struct Response {
    /// Unique: no other stream of this server has it either.
    pub nonce: String,
    /// What it says.
    pub payload: Arc<Payload>,
}

/// How far the current view has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Clusters, endpoints, secrets: things that others name.
    Make,
    /// Listeners, routes, filters: things that name them.
    Use,
    /// Removals.
    Break,
    /// All is told.
    Settled,
}

/// What other streams of the same node have done about the view that this one tells. On ADS there are
/// none to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Others {
    /// They were told what this stream's resources name, and accepted it.
    pub made: bool,
    /// They use nothing any more that the view does not have.
    pub used: bool,
    /// Clusters that were rejected there, and of which the node has no version: see [`Held`].
    pub missing: Arc<[Name]>,
    /// They hold something back because of such a cluster, and go on using what the view may not have.
    pub holding: bool,
    /// Where the endpoints are that new clusters of this stream need.
    pub endpoints: Endpoints,
}

/// What other streams of the same node have of the endpoints of the new clusters that this one told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoints {
    /// No other stream has endpoints: there is none to wait for.
    NotThere,
    /// Some are not accepted yet.
    Awaited,
    /// All were answered for.
    Answered,
}

impl Default for Others {
    /// Nobody to wait for.
    fn default() -> Self {
        Self {
            made: true,
            used: true,
            missing: Arc::default(),
            holding: false,
            endpoints: Endpoints::NotThere,
        }
    }
}

/// Types whose change lets Envoy ask again for what it has of another one.
fn named_by(kind: ResourceType) -> &'static [ResourceType] {
    match kind {
        ClusterLoadAssignment => &[Cluster],
        Secret => &[Cluster, Listener],
        RouteConfiguration | ExtensionConfig => &[Listener],
        _ => &[],
    }
}

/// Bytes of all names that one stream may want, over all types.
pub const STREAM_NAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One stream of one node.
#[derive(Debug)]
pub struct Session {
    memo: Arc<Memo>,
    variant: Variant,
    /// Number of the stream among all of this server.
    stream: u64,
    view: Arc<View>,
    /// Of the view, among all that were published.
    update: u64,
    tracks: Vec<(ResourceType, Box<Track>)>,
    phase: Phase,
    /// The furthest phase since a change began, and how often that moved: see [`step`](Self::step).
    reached: (Phase, u64),
    others: Others,
    /// Told new clusters, whose endpoints the client must have before a route names them.
    warming: Vec<Arc<Payload>>,
    /// Of those: names that nobody was told of yet, where the endpoints are on other streams.
    new_clusters: Vec<Name>,
    /// Types whose status changed though nothing was sent or answered.
    noted: Vec<ResourceType>,
    nonces: u64,
}

impl Session {
    /// A stream that has said nothing yet, of a node with this view.
    pub fn new(memo: Arc<Memo>, variant: Variant, stream: u64, view: Arc<View>) -> Self {
        Self {
            memo,
            variant,
            stream,
            view,
            update: 0,
            tracks: Vec::new(),
            phase: Phase::Settled,
            reached: (Phase::Settled, 0),
            others: Others::default(),
            warming: Vec::new(),
            new_clusters: Vec::new(),
            noted: Vec::new(),
            nonces: 0,
        }
    }

    /// Takes a request; puts what must be sent now into `out`, in this order.
    ///
    /// # Errors
    /// When it cannot be served: the stream should end.
    pub fn on_request(
        &mut self,
        request: Request,
        out: &mut impl Extend<Response>,
    ) -> Result<Answer, RequestError> {
        let kind = request.kind;
        let (answer, repeated) = self.take(request)?;
        self.hold();
        // An answer to this request never takes away what a change under way still needs.
        let removals = match self.phase {
            Phase::Settled => Removals::Tell,
            Phase::Make | Phase::Use | Phase::Break => Removals::Hold,
        };
        if self.phase == Phase::Settled || may_answer(kind, self.phase) {
            self.tell(kind, removals, out);
        }
        if repeated && let Some(track) = self.track_mut(kind) {
            track.repeatable = false;
        }
        self.advance(false, out);
        Ok(answer)
    }

    /// Notes the number of the view that is there, or comes next: whoever reads a rejection then knows which view it is
    /// of.
    pub fn number(&mut self, update: u64) {
        self.update = update;
    }

    /// Takes a new view; puts what must be sent now into `out`. Further responses follow as the client
    /// answers.
    pub fn on_view(&mut self, view: Arc<View>, out: &mut impl Extend<Response>) {
        if Arc::ptr_eq(&self.view, &view) {
            return;
        }
        let before = mem::replace(&mut self.view, view);
        let is_first = self.phase == Phase::Settled;
        for (kind, track) in &mut self.tracks {
            // What was rejected before holds up only what needs it now.
            track.rejected = false;
            track.see(self.view.collection(*kind));
            let mut named_by = named_by(*kind).iter();
            track.repeatable |= named_by
                .any(|kind| !Arc::ptr_eq(before.collection(*kind), self.view.collection(*kind)));
        }
        self.hold();
        if is_first {
            self.warming.clear();
        }
        self.phase = Phase::Make;
        for kind in MADE {
            self.tell(kind, Removals::Hold, out);
        }
        if self.all_done() {
            // The common case: endpoints changed, and nothing else waits for them.
            self.phase = Phase::Settled;
        } else if is_first {
            self.begin();
        }
        self.advance(false, out);
    }

    /// Notes what other streams of the node have done about the newest view, and goes on if it was
    /// them that was waited for.
    pub fn on_others(&mut self, others: Others, out: &mut impl Extend<Response>) {
        let was_holding = self.others.holding;
        self.others = others;
        let changed = self.hold();
        // What was held is told in its order, and then what had to stay because of it goes.
        if self.phase == Phase::Settled && (changed || was_holding != self.others.holding) {
            self.phase = Phase::Make;
            self.begin();
        }
        self.advance(false, out);
    }

    /// Notes it before a view is told: see [`on_view`](Self::on_view).
    pub fn expect(&mut self, others: Others) {
        self.others = others;
    }

    /// Types whose status changed though nothing was sent or answered, since this was asked last.
    pub fn noted(&mut self) -> Vec<ResourceType> {
        mem::take(&mut self.noted)
    }

    /// Whether something waits for the client's answer. The caller then gives it some time for each
    /// [`step`](Self::step), and calls [`on_patience_over`](Self::on_patience_over).
    pub fn is_waiting(&self) -> bool {
        self.phase != Phase::Settled
    }

    /// Another number whenever a change begins, or comes further than it ever was: other changes that come meanwhile
    /// make nobody wait longer.
    pub fn step(&self) -> u64 {
        self.reached.1
    }

    /// Clusters that the client was told and did not have, since this was asked last: their endpoints come on other
    /// streams of the node.
    pub fn new_clusters(&mut self) -> Vec<Name> {
        mem::take(&mut self.new_clusters)
    }

    /// Whether the client has, or was told, a resource.
    pub fn has(&self, kind: ResourceType, name: &str) -> bool {
        let track = self.track(kind);
        track.is_some_and(|track| track.status.position.has(name))
    }

    /// What is being told.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Goes on although the client did not answer: further than it came already.
    pub fn on_patience_over(&mut self, out: &mut impl Extend<Response>) {
        let was_in_use = self.phase == Phase::Make && self.reached.0 == Phase::Use;
        self.advance(true, out);
        if was_in_use && self.phase == Phase::Use {
            self.advance(true, out);
        }
    }

    /// What the client made of one type.
    pub fn status_of(&self, kind: ResourceType) -> Option<&Status> {
        self.track(kind).map(|track| &track.status)
    }

    /// Bytes of the names that the client wants, over all types.
    pub fn name_bytes(&self) -> usize {
        let tracks = self.tracks.iter();
        let bytes = tracks.map(|(_, track)| track.status.position.name_bytes());
        bytes.sum()
    }

    fn track(&self, kind: ResourceType) -> Option<&Track> {
        let mut tracks = self.tracks.iter();
        tracks.find_map(|(known, track)| (*known == kind).then_some(&**track))
    }

    fn track_mut(&mut self, kind: ResourceType) -> Option<&mut Track> {
        let mut tracks = self.tracks.iter_mut();
        tracks.find_map(|(known, track)| (*known == kind).then_some(&mut **track))
    }

    /// Takes a request in, without answering it.
    fn take(&mut self, request: Request) -> Result<(Answer, bool), RequestError> {
        let (kind, variant) = (request.kind, self.variant);
        let (memo, view) = (Arc::clone(&self.memo), Arc::clone(&self.view));
        let nonce = self.number_of(&request.nonce);
        let place = self.tracks.iter().position(|(known, _)| *known == kind);
        let (_, track) = match place {
            Some(place) => &mut self.tracks[place],
            None => {
                let track = Track::new(memo.fresh(kind, variant));
                self.tracks.push_mut((kind, Box::new(track)))
            }
        };
        let first = !track.status.position.has_begun();
        let answers_newest = !first && nonce == Some(track.nonce);
        let was_waiting = track.status.waiting;
        // A rejection said once more asks for nothing, nor does an answer said twice.
        let may_repeat = track.repeatable && !kind.is_full_state();
        let mut repeated = answers_newest && !was_waiting && request.error.is_none() && may_repeat;
        if let Some(older) = nonce
            && request.error.is_none()
            && (track.seen..track.nonce).contains(&older)
        {
            track.seen = older;
        }
        let answer = match answers_newest && was_waiting {
            true => track.answered(request.error),
            false => Answer::None,
        };
        let asked = request.asked;
        let changes = match variant {
            // A request that answers an older response was overtaken: a newer one follows.
            Variant::StateOfTheWorld if !(first || answers_newest || request.nonce.is_empty()) => {
                false
            }
            Variant::StateOfTheWorld => first || repeated || asked.fingerprint != track.fingerprint,
            Variant::Delta => first || !asked.is_empty,
        };
        if changes {
            track.fingerprint = asked.fingerprint;
            let from = &track.status.position;
            let to = memo.asked(from, &asked, repeated, view.collection(kind))?;
            let wants_the_same = from.wants_the_same(&to);
            repeated &= wants_the_same;
            track.moved(to);
            if !wants_the_same && variant == Variant::StateOfTheWorld && kind.is_full_state() {
                // Other names make another full state.
                track.lift(|_| false);
            }
            lift_what_is_asked_for(track, &asked)?;
            if first && let Some(version) = track.status.position.resumed() {
                let version = Arc::clone(version);
                track.status.sent = Arc::clone(&version);
                track.status.acked = version;
            }
            if self.name_bytes() > STREAM_NAME_BYTES_MAX {
                return Err(RequestError::TooManyNameBytes);
            }
        }
        Ok((answer, repeated))
    }

    fn tell(&mut self, kind: ResourceType, removals: Removals, out: &mut impl Extend<Response>) {
        let memo = Arc::clone(&self.memo);
        let collection = self.offered(kind);
        let removals = self.removals(kind, removals);
        let (update, nonce) = (self.update, self.nonces + 1);
        let Some(track) = self.track_mut(kind) else {
            return;
        };
        if !track.status.position.has_begun() || track.is_done(&collection) {
            return;
        }
        let told = memo.told(&track.status.position, &collection, removals);
        if let Some(payload) = &told.payload {
            let before = Arc::clone(&track.status.position);
            track.sent((update, nonce), payload, &before);
            // What others name and the client has already may change as often as it likes: nothing waits for that.
            if !kind.is_named_by_others() || !payload.new.is_empty() {
                track.gate = nonce;
            }
        }
        let is_moved = !Arc::ptr_eq(&track.status.position, &told.to);
        track.moved(told.to);
        let nothing_left = removals == Removals::Tell || {
            let position = &track.status.position;
            memo.told(position, &collection, Removals::Tell)
                .payload
                .is_none()
        };
        track.done = nothing_left.then(|| Arc::clone(&collection));
        let Some(payload) = told.payload else {
            let is_mended = nothing_left && track.is_mended();
            if (is_mended || is_moved) && !self.noted.contains(&kind) {
                self.noted.push(kind);
            }
            return;
        };
        self.nonces = nonce;
        out.extend([Response {
            nonce: format!("{:x}.{nonce}", self.stream),
            payload: Arc::clone(&payload),
        }]);
        self.follow_up(&payload);
    }

    /// The number of a nonce of this stream; None for a nonce of any other, or for nonsense.
    fn number_of(&self, nonce: &[u8]) -> Option<u64> {
        let (stream, number) = std::str::from_utf8(nonce).ok()?.split_once('.')?;
        let ours = u64::from_str_radix(stream, 16).ok()? == self.stream;
        ours.then(|| number.parse().ok())?
    }
}
