//! The answers to those who are about to call.

use std::collections::BTreeMap;

use policy::{
    breaker::BreakerState,
    canary::DrawSource,
    decision::{Decision, Reason, Rules, Verdict, override_of, traffic_of},
    names,
    time::WallTime,
    timetable::Traffic,
    units::{ServiceName, VersionLabel},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::pick::{Picked, Table};
use crate::{mesh::MutualTls, text::address};

/// Call this one.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Selection {
    #[serde(flatten)]
    decided: Decided,
    /// Where to connect.
    pub address: String,
    /// Whom.
    pub instance: Instance,
    /// Whether it demands a certificate of this mesh: `strict`, `permissive`, or `off`.
    pub mtls: &'static str,
    /// To be sent along.
    pub headers: BTreeMap<&'static str, String>,
    /// To be given back with the result; none where no breaker wants to know.
    pub ticket: Option<String>,
    /// Why, one sentence each, in the order of the decision.
    pub reasons: Vec<String>,
}

/// An instance to be called.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "SelectedInstance")]
pub struct Instance {
    /// Its id.
    pub id: String,
    host: String,
    port: u16,
    region: Option<String>,
    zone: Option<String>,
    version: Option<String>,
    weight: u32,
    /// 0 is used first.
    priority: usize,
}

/// Do not call.
#[derive(Debug, Clone, Serialize)]
pub struct Refused {
    #[serde(flatten)]
    decided: Decided,
    /// 503 by a breaker or where there is nobody, 429 by a limit or by shedding.
    #[serde(skip)]
    pub status: u16,
    /// `breaker_open`, `breaker_half_open`, `shed`, `limit`, or `no_instance`.
    pub reason: &'static str,
    /// The value of `x-mumbai-reason`; none where no proxy would set it.
    #[serde(skip)]
    pub header: Option<&'static str>,
    /// Not before.
    pub retry_after_seconds: u32,
    /// Why, one sentence each, in the order of the decision.
    pub reasons: Vec<String>,
}

/// No answer.
#[derive(Debug, Clone)]
pub enum Unanswered {
    /// By the rules of the mesh.
    Refused(Box<Refused>),
    /// There is no such service.
    NoService(ServiceName),
}

/// What holds of a call, whether it is let through or not.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Decided {
    service: String,
    traffic_state: &'static str,
    window: Option<String>,
    festival: Option<String>,
    multiplier: f64,
    class: String,
    /// The canary's label or `stable`; none where no version was chosen.
    version: Option<String>,
    /// What a rule that only observes would have refused it for.
    would_be_refused: Option<&'static str>,
}

impl Decided {
    pub(super) fn of(
        rules: &Rules,
        traffic: &Traffic,
        service: &ServiceName,
        decision: &Decision<'_>,
    ) -> Self {
        let own = traffic_of(traffic, decision.service);
        let timetable = rules.timetable();
        let window = own.window.and_then(|index| timetable.windows().get(index));
        let festival = own
            .festival
            .and_then(|index| timetable.festivals().get(index));
        Self {
            service: service.to_string(),
            traffic_state: own.state.as_str(),
            window: window.map(|window| window.name().to_string()),
            festival: festival.map(|festival| festival.name.to_string()),
            multiplier: own.multiplier.as_f64(),
            class: decision.class.to_string(),
            version: decision.version_header.map(str::to_string),
            would_be_refused: decision.observed.map(Reason::as_str),
        }
    }
}

/// Where nobody is there: a while in which somebody may come.
const NO_INSTANCE_RETRY_SECONDS: u32 = 1;

impl Refused {
    /// By a rule. None where it is let through.
    pub(super) fn by_rule(
        decided: Decided,
        verdict: &Verdict<'_>,
        mut reasons: Vec<String>,
    ) -> Option<Self> {
        let Verdict::Refuse {
            status,
            reason,
            retry_after_seconds,
            ..
        } = verdict
        else {
            return None;
        };
        reasons.push(format!(
            "refused: {}; ask again after {retry_after_seconds} s",
            reason.as_str()
        ));
        Some(Self {
            decided,
            status: *status,
            reason: reason.as_str(),
            header: Some(reason.as_str()),
            retry_after_seconds: *retry_after_seconds,
            reasons,
        })
    }

    /// Since nobody is there.
    pub(super) fn no_instance(decided: Decided, reasons: Vec<String>) -> Self {
        Self {
            decided,
            status: 503,
            reason: "no_instance",
            header: None,
            retry_after_seconds: NO_INSTANCE_RETRY_SECONDS,
            reasons,
        }
    }
}

impl Selection {
    pub(super) fn of(
        decided: Decided,
        picked: &Picked<'_>,
        mtls: MutualTls,
        headers: BTreeMap<&'static str, String>,
        ticket: Option<String>,
        reasons: Vec<String>,
    ) -> Self {
        let endpoint = picked.endpoint;
        Self {
            decided,
            address: address(&endpoint.host.to_string(), endpoint.port),
            instance: Instance {
                id: endpoint.id.clone(),
                host: endpoint.host.to_string(),
                port: endpoint.port,
                region: endpoint.region.clone(),
                zone: endpoint.zone.as_ref().map(ToString::to_string),
                version: endpoint.version.as_ref().map(ToString::to_string),
                weight: endpoint.weight,
                priority: picked.priority,
            },
            mtls: mtls.as_str(),
            headers,
            ticket,
            reasons,
        }
    }
}

/// Why it was decided so; `breaker` is the state of the one that was asked.
pub(super) fn reasons(
    rules: &Rules,
    traffic: &Traffic,
    decision: &Decision<'_>,
    breaker: Option<BreakerState>,
    at: WallTime,
) -> Vec<String> {
    let own = traffic_of(traffic, decision.service);
    let zone = rules.timetable().zone();
    let names = match &own.window_header {
        Some(_) => {
            let timetable = rules.timetable();
            let festival = own.festival.and_then(|at| timetable.festivals().get(at));
            let window = own.window.and_then(|at| timetable.windows().get(at));
            let festival = festival.map(|festival| festival.name.to_string());
            let window = window.map(|window| window.name().to_string());
            let names: Vec<String> = festival.into_iter().chain(window).collect();
            format!(" ({})", names.join(", "))
        }
        None => String::new(),
    };
    let mut reasons = vec![
        format!("{}: {}{names}", zone.rfc3339(at), own.state.as_str()),
        format!("class {}", decision.class),
    ];
    if let Some(kind) = override_of(traffic, decision.service) {
        let service = rules.service(decision.service);
        let until = service.and_then(|service| service.overridden);
        let until = until.map_or_else(String::new, |said| {
            format!(" until {}", zone.rfc3339(said.until))
        });
        let (kind, acts) = (kind.as_str(), kind.sentence());
        reasons.push(format!("override {kind}: it {acts}{until}"));
    }
    reasons.extend(decision.shed.map(|draw| {
        let (percent, class) = (draw.percent.percent(), decision.class);
        let bucket = draw.bucket;
        format!("{percent} % of class {class} are shed now: drawn was {bucket} of 10000")
    }));
    reasons.extend(canary(rules, decision));
    if let Some(observed) = decision.observed {
        let observed = observed.as_str();
        reasons.push(format!(
            "would be refused ({observed}) by a rule that only observes"
        ));
    }
    if let (Verdict::Proceed { cell: Some(id), .. }, Some(state)) = (&decision.verdict, breaker)
        && let Some(cell) = rules.cell(*id)
    {
        let version = cell.version.as_ref();
        let version = version.map_or(names::STABLE, VersionLabel::as_str);
        let probe = match state {
            BreakerState::HalfOpen => "; this call is one of its probes",
            BreakerState::Open | BreakerState::Closed => "",
        };
        let class = &cell.class;
        reasons.push(format!("breaker of {version} for {class}: {state}{probe}"));
    }
    reasons
}

fn canary(rules: &Rules, decision: &Decision<'_>) -> Option<String> {
    let split = &rules.service(decision.service)?.canary.as_ref()?.split;
    let canary = decision.canary.as_ref()?;
    let (weight, version) = (canary.weight.percent(), &split.version);
    let how = match (canary.draw.source, canary.draw.bucket) {
        (DrawSource::Key, Some(bucket)) => {
            let by = split.sticky_by.as_ref();
            let by = by.map_or_else(String::new, |header| format!(" by {header}"));
            format!("bucket {bucket} of 10000{by}")
        }
        _ => "no key to go by: drawn at random".into(),
    };
    let chosen = canary.version.map_or(names::STABLE, VersionLabel::as_str);
    let fell_back = match canary.fell_back {
        true => format!("; the breaker of {version} is open, so stable stands in for it"),
        false => String::new(),
    };
    Some(format!(
        "canary {version} at {weight} %: {how}, so {chosen}{fell_back}"
    ))
}

/// How the instance was found.
pub(super) fn picked(table: &Table, picked: Option<&Picked<'_>>) -> Vec<String> {
    let mut sentences = Vec::new();
    let (out, named) = &table.left_out;
    if *out > 0 {
        let more = match out.saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (all, named) = (table.all, named.join(", "));
        sentences.push(format!("{out} of {all} instances left out: {named}{more}"));
    }
    if table.panics {
        sentences
            .push("too few are healthy (panic_threshold): their health is not looked at".into());
    }
    sentences.push(match picked {
        None if table.all == 0 => "nobody serves this version".into(),
        None => "nobody takes requests".into(),
        Some(Picked { endpoint, priority }) => {
            let zone = endpoint.zone.as_ref();
            let zone = zone.map_or_else(String::new, |zone| format!(" in {zone}"));
            let (id, weight) = (&endpoint.id, endpoint.weight);
            format!("drawn by weight: {id}{zone}, priority {priority}, weight {weight}")
        }
    });
    sentences
}
