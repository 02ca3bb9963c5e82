//! One request: decided when its headers arrive, accounted once when it ends.

use std::{rc::Rc, time::Duration};

use policy::{
    breaker::{Admission, BreakerRules, Completion, RefusalReason, Ticket},
    decision::{
        CellId, Decision, Environment, LimitId, Reason, RequestView, ServiceId, Verdict, decide,
    },
    limit::Rate,
    names,
    outcome::{Outcome, ResponseFacts},
    time::MonoTime,
    timetable::Traffic,
    traffic_class::{CONTENT_TYPE, RefusalBody},
};

use crate::{
    headers::RequestHeaders,
    host,
    plugin::Plugin,
    shared::{End, Ruled},
};

const RESPONSE_CODE: &str = "response\0code";
const RESPONSE_FLAGS: &str = "response\0flags";
const GRPC_STATUS: &str = "grpc-status";

/// What Envoy shall do with what it called about.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Action {
    /// Go on.
    Continue = 0,
    /// Go no further.
    Pause = 1,
}

/// A request's way through the configuration that was in force when it arrived.
pub struct Request {
    plugin: Option<Rc<Plugin>>,
    account: Option<Account>,
    response: Response,
}

/// What was seen of the response as it passed.
struct Response {
    status: Option<u16>,
    /// Its last part did.
    complete: bool,
    /// What it says of itself as a response of gRPC: in its trailers, or in its headers when nothing
    /// follows them. Envoy's own attribute is derived from the HTTP status when there is none, so it is
    /// no witness.
    grpc_status: Option<u32>,
}

/// What must be settled when the request ends.
struct Account {
    service: ServiceId,
    since: MonoTime,
    admitted: Option<(CellId, Ticket)>,
    is_grpc: bool,
    /// What the client is told of the decision, where it is told.
    debug: Option<String>,
}

/// Breakers and randomness of this Envoy.
struct HostEnvironment<'p> {
    plugin: &'p Plugin,
    service: ServiceId,
    now: MonoTime,
    traffic: &'p Traffic,
}

impl Environment for HostEnvironment<'_> {
    fn random(&mut self) -> u64 {
        host::random()
    }

    fn admit(&mut self, id: CellId, rules: &BreakerRules) -> Admission {
        let Some(cell) = self.plugin.rules.cell(id) else {
            return Admission::Refused {
                reason: RefusalReason::BreakerOpen,
                retry_after: Duration::from_secs(1),
            };
        };
        let ruled = Ruled::new(cell, rules);
        let (admission, transition) = self.plugin.cells.admit(id, ruled, self.now);
        if let Some(transition) = transition {
            self.plugin
                .breaker_changed(self.service, cell, transition, self.traffic);
        }
        admission
    }

    fn take(&mut self, id: LimitId, rate: Rate) -> Result<(), Duration> {
        let limit = self.plugin.rules.limit(id);
        limit.map_or(Ok(()), |limit| {
            self.plugin.cells.take(limit, rate, self.now)
        })
    }

    fn give_back(&mut self, id: LimitId, rate: Rate) {
        if let Some(limit) = self.plugin.rules.limit(id) {
            self.plugin.cells.give_back(limit, rate);
        }
    }
}

impl Request {
    /// Before it arrives.
    pub const NONE: Self = Self {
        plugin: None,
        account: None,
        response: Response::NONE,
    };

    /// A request arrives while this configuration is in force.
    pub fn begin(&mut self, plugin: Option<Rc<Plugin>>) {
        self.plugin = plugin;
    }

    pub fn on_request_headers(&mut self) -> Action {
        let Some(plugin) = &self.plugin else {
            return Action::Continue;
        };
        let now = plugin.arrival();
        let headers = RequestHeaders::fetch();
        let service = plugin.service(&headers);
        plugin.with_traffic(now.wall, |traffic| {
            let mut environment = HostEnvironment {
                plugin,
                service,
                now: now.mono,
                traffic,
            };
            let request = RequestView {
                service,
                headers: &headers,
            };
            let decision = decide(&plugin.rules, traffic, &request, &mut environment);
            plugin.meters.begin(&decision);
            let (action, admitted) = apply(&decision, traffic, &headers);
            self.account = Some(Account {
                service,
                since: now.mono,
                admitted,
                is_grpc: headers.is_grpc(),
                debug: (plugin.rules.debug_headers()).then(|| decision.summary(traffic)),
            });
            action
        })
    }

    /// Upgrades and event streams last as long as they are used: their breaker judges them by how they
    /// began.
    pub fn on_response_headers(&mut self, end: bool) -> Action {
        let status = host::response_header(":status");
        self.response.status = status.as_deref().and_then(status_code);
        self.response.complete = end;
        let (Some(plugin), Some(account)) = (&self.plugin, &mut self.account) else {
            return Action::Continue;
        };
        if account.is_grpc {
            let status = host::response_header(GRPC_STATUS);
            self.response.grpc_status = status.as_deref().and_then(number);
        }
        if let Some(decision) = &account.debug {
            host::set_response_header(names::HEADER_DECISION, decision);
        }
        if let Some((id, ticket)) = account.admitted
            && self.response.is_open_ended(plugin, id, ticket)
        {
            account.admitted = None;
            let begun = ResponseFacts::begun();
            let now = host::monotonic();
            settle(plugin, account.service, (id, ticket), &begun, None, now);
        }
        Action::Continue
    }

    pub fn on_response_body(&mut self, size: usize, end: bool) -> Action {
        if size > 0 {
            self.response.grpc_status = None;
        }
        self.response.complete = end;
        Action::Continue
    }

    pub fn on_response_trailers(&mut self) -> Action {
        self.response.complete = true;
        if self.account.as_ref().is_some_and(|account| account.is_grpc)
            && let Some(status) = host::response_trailer(GRPC_STATUS)
        {
            self.response.grpc_status = number(&status);
        }
        Action::Continue
    }

    /// Comes exactly once, however the request ended. From then on it is as if it had never been.
    pub fn on_done(&mut self) {
        self.settle_account();
        self.plugin = None;
        self.account = None;
        self.response = Response::NONE;
    }

    /// One that never had headers has no account and counts nowhere.
    fn settle_account(&self) {
        let (Some(plugin), Some(account)) = (&self.plugin, &self.account) else {
            return;
        };
        plugin.pace.stir();
        let facts = self.response.facts();
        let now = host::monotonic();
        let time = now.saturating_since(account.since);
        if let Some(admitted) = account.admitted {
            settle(plugin, account.service, admitted, &facts, Some(time), now);
        }
        let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let status = facts.status_label();
        plugin.meters.end(account.service, status, milliseconds);
    }
}

/// Carries a decision out.
fn apply(
    decision: &Decision<'_>,
    traffic: &Traffic,
    client: &RequestHeaders,
) -> (Action, Option<(CellId, Ticket)>) {
    match &decision.verdict {
        Verdict::Refuse {
            status,
            reason,
            retry_after_seconds,
            body,
        } => {
            let seconds = *retry_after_seconds;
            refuse(*status, *reason, seconds, *body, client.is_grpc());
            (Action::Pause, None)
        }
        Verdict::Proceed { cell, ticket } => {
            set_headers(decision, traffic, client);
            (Action::Continue, (*cell).zip(*ticket))
        }
    }
}

#[cold]
fn refuse(status: u16, reason: Reason, seconds: u32, body: Option<&RefusalBody>, is_grpc: bool) {
    let seconds = seconds.to_string();
    let line = format!("refused: {}\n", reason.as_str());
    let (content_type, body) = match body {
        Some(own) => (&*own.content_type, &*own.body),
        None => ("text/plain", line.as_str()),
    };
    let headers = [
        (names::HEADER_REASON, reason.as_str()),
        (names::HEADER_RETRY_AFTER, seconds.as_str()),
        (CONTENT_TYPE, content_type),
    ];
    // gRPC clients are told it in a header, where the line's end would be encoded.
    let body = match is_grpc {
        true => body.trim_end(),
        false => body,
    };
    host::respond(status, reason.grpc_status(), &headers, body);
}

/// Sets our headers. A client's copies go, whether or not we have a value of our own.
fn set_headers(decision: &Decision<'_>, traffic: &Traffic, client: &RequestHeaders) {
    if client.may_hold_ours() {
        replace_headers(decision, traffic);
        return;
    }
    let headers = decision.request_headers(traffic);
    headers.for_each(|(name, value)| host::add_request_header(name, value));
}

#[cold]
fn replace_headers(decision: &Decision<'_>, traffic: &Traffic) {
    host::remove_request_header(names::HEADER_CANARY);
    for name in names::REQUEST_HEADERS {
        let mut ours = decision.request_headers(traffic);
        match ours.find(|(ours, _)| *ours == name) {
            Some((_, value)) => host::set_request_header(name, value),
            None => host::remove_request_header(name),
        }
    }
}

/// Tells the breaker that admitted a request how it went.
fn settle(
    plugin: &Plugin,
    service: ServiceId,
    (id, ticket): (CellId, Ticket),
    facts: &ResponseFacts,
    time: Option<Duration>,
    now: MonoTime,
) {
    let Some(cell) = plugin.rules.cell(id) else {
        return;
    };
    let outcome = if facts.refused_by_envoy() && !cell.count_envoy_refusals {
        Outcome::Ignored
    } else {
        facts.judge()
    };
    plugin.with_known_traffic(|traffic| {
        let ruled = Ruled::at(cell, traffic);
        let end = End {
            ticket,
            result: Completion::new(outcome, time, ruled.rules()),
            now,
        };
        if let Some(transition) = plugin.cells.record(id, ruled, end) {
            plugin.breaker_changed(service, cell, transition, traffic);
        }
    });
}

impl Response {
    /// None came yet.
    const NONE: Self = Self {
        status: None,
        complete: false,
        grpc_status: None,
    };

    /// Whether it is the beginning of something that lasts: Envoy shows an upgrade that was agreed to
    /// as 101, whatever the protocol. The content type is looked at only where it matters.
    fn is_open_ended(&self, plugin: &Plugin, id: CellId, ticket: Ticket) -> bool {
        if self.status == Some(101) {
            return true;
        }
        let cell = plugin.rules.cell(id);
        let times_count = cell.is_some_and(|cell| cell.rules.times_calls());
        if !times_count && !ticket.is_probe() {
            return false;
        }
        let kind = host::response_header(CONTENT_TYPE);
        kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
    }

    /// How it went. What was seen of it costs less than Envoy's attributes, which also know of
    /// responses that never came, or that Envoy replaced.
    fn facts(&self) -> ResponseFacts {
        let status = match self.complete {
            true => self.status,
            false => None,
        };
        let status = status.or_else(|| {
            let code = host::integer_property(RESPONSE_CODE)?;
            u16::try_from(code).ok()
        });
        // Whatever happened after the last part of an answer had passed, the upstream had given it in
        // full. An error may be Envoy's own.
        let no_error = status.is_some_and(|status| status < 500) && self.grpc_status.is_none();
        let answered = self.complete && no_error;
        let flags = match answered {
            true => 0,
            false => host::integer_property(RESPONSE_FLAGS).unwrap_or(0),
        };
        ResponseFacts {
            status: status.filter(|code| *code != 0),
            grpc_status: self.grpc_status,
            flags: u64::try_from(flags).unwrap_or(0),
        }
    }
}

/// Three digits, mostly.
fn status_code(text: &[u8]) -> Option<u16> {
    if let [
        hundreds @ b'1'..=b'9',
        tens @ b'0'..=b'9',
        ones @ b'0'..=b'9',
    ] = text
    {
        let digit = |byte: &u8| u16::from(byte - b'0');
        return Some(digit(hundreds) * 100 + digit(tens) * 10 + digit(ones));
    }
    u16::try_from(number(text)?).ok()
}

/// A number: digits, with blanks around them.
fn number(text: &[u8]) -> Option<u32> {
    let (first, rest) = text.trim_ascii().split_first()?;
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    let mut digits = rest.iter();
    digits.try_fold(digit(*first)?, |number, byte| {
        number.checked_mul(10)?.checked_add(digit(*byte)?)
    })
}
