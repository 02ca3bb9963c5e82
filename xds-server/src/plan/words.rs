//! What differs between two meshes, in words: one sentence for every difference of their trees, whatever
//! it is. What people speak of most has sentences of its own.

use policy::time::{CivilZone, WallTime, parse_instant};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::tree::{identity, route_name, tree};
use crate::{
    differences::{Difference, Lists, Step, differences},
    mesh::Mesh,
    text::{self, counted},
};

/// One change of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Change")]
pub struct Told {
    /// Where in the mesh file, with elements of lists by their names.
    pub path: String,
    /// The same, step by step.
    #[serde(skip)]
    pub(super) names: Vec<String>,
    /// What it means.
    pub sentence: String,
    /// What is there now; null for nothing.
    pub before: Value,
    /// What would be there.
    pub after: Value,
}

/// Every change from one mesh to another, as they are now; none exactly if they are equal then.
pub fn words(before: &Mesh, after: &Mesh, now: WallTime) -> Vec<Told> {
    let (before, after) = (before.as_of(now), after.as_of(now));
    let [old, new] = [tree(&before), tree(&after)];
    let found = differences(&old, &new, Lists::ByElement(&identity));
    if found.is_empty() && before != after {
        let sentence = "conditions that must all hold are written in another order";
        return vec![Told {
            path: String::new(),
            names: Vec::new(),
            sentence: sentence.into(),
            before: Value::Null,
            after: Value::Null,
        }];
    }
    let whole = Whole {
        before: &old,
        after: &new,
        zone: after.timetable.zone(),
    };
    found.into_iter().map(|one| whole.told(one)).collect()
}

/// Both trees, for what stands beside a difference.
struct Whole<'v> {
    before: &'v Value,
    after: &'v Value,
    /// In which people are told instants.
    zone: &'v CivilZone,
}

impl Whole<'_> {
    fn told(&self, mut one: Difference) -> Told {
        if let ["services", _, "override" | "canary", ..] = one.path.names().as_slice() {
            self.localize(&mut one.before);
            self.localize(&mut one.after);
        }
        let sentence = self.sentence(&one).unwrap_or_else(|| general(&one));
        let names = one.path.names().into_iter().map(str::to_string);
        Told {
            names: names.collect(),
            path: one.path.to_string(),
            sentence,
            before: one.before,
            after: one.after,
        }
    }

    /// Instants with the offset of the mesh's zone: when an override ends, when a ramp begins.
    fn localize(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Ok(at) = parse_instant(text) {
                    *text = self.zone.rfc3339(at);
                }
            }
            Value::Object(fields) => fields.values_mut().for_each(|field| self.localize(field)),
            _ => {}
        }
    }

    /// None where the general one says all.
    fn sentence(&self, one: &Difference) -> Option<String> {
        let names = one.path.names();
        match names.as_slice() {
            ["services", service] => Some(member(one, service, "service")),
            ["gateways", gateway] => Some(member(one, gateway, "gateway")),
            ["services", service, "endpoints", id] => Some(self.endpoint(one, service, id)),
            ["services", service, "endpoints", id, rest @ ..] if !id.is_empty() => {
                let change = part(one, rest.len());
                Some(format!("{service}: endpoint {id}: {change}"))
            }
            ["services", service, "canary", rest @ ..] => self.canary(one, service, rest),
            ["services", service, "override", rest @ ..] => self.overridden(one, service, rest),
            ["gateways", gateway, "routes", route, rest @ ..] if !route.is_empty() => {
                Some(routed(one, gateway, route, rest))
            }
            ["peak_hours", name, rest @ ..] => Some(self.window(one, name, rest)),
            [list @ ("festivals" | "holidays"), name, rest @ ..] if !name.is_empty() => {
                Some(day(one, list, name, rest))
            }
            ["freeze", "during", _] => Some(frozen(one)),
            ["mesh", "trust_domain"] => Some(format!(
                "trust domain {}: every Envoy gets a certificate of another identity, and Envoys whose \
                 bootstrap has the old one are no longer served by TLS",
                change(one)
            )),
            _ => None,
        }
    }

    fn endpoint(&self, one: &Difference, service: &str, id: &str) -> String {
        let (what, shown) = match (&one.before, &one.after) {
            (gone, Value::Null) => ("goes", gone),
            (_, new) => ("appears", new),
        };
        let of = |field: &str| shown[field].as_str();
        let mut words = format!("{service}: endpoint {id}");
        let address = address(shown);
        if address != id {
            words = format!("{words} {address}");
        }
        for field in ["version", "zone"] {
            if let Some(value) = of(field) {
                words = format!("{words}, {field} {value}");
            }
        }
        let only = match what {
            "goes" if self.after["services"][service]["endpoints"] == Value::Array(Vec::new()) => {
                ": it was the last one"
            }
            _ => "",
        };
        format!("{words} {what}{only}")
    }

    fn canary(&self, one: &Difference, service: &str, rest: &[&str]) -> Option<String> {
        let label = |whole: &Value| {
            let version = &whole["services"][service]["canary"]["version"];
            version.as_str().unwrap_or_default().to_string()
        };
        let (was, is) = (label(self.before), label(self.after));
        Some(match (rest, &one.before, &one.after) {
            ([], _, Value::Null) => {
                format!("{service}: canary {was} ends; all users go to stable")
            }
            ([], _, new) => format!("{service}: canary {is} begins, {}", weight(new)),
            (["weight"], Value::Null, to) => format!("{service}: canary {is} now at {to} %"),
            (["weight"], from, Value::Null) => {
                format!("{service}: canary {is} no longer at fixed {from} %")
            }
            (["weight"], from, to) => format!("{service}: canary {is} {from} % -> {to} %"),
            (["ramp"], Value::Null, new) => {
                format!("{service}: canary {is} by a ramp of {}", shown(new))
            }
            (["version"], ..) => {
                format!("{service}: canary {was} -> {is}, another version for its users")
            }
            (["resumed"], from, to) if from.as_u64() < to.as_u64() => format!(
                "{service}: canary {is} is resumed: those whom its breaker sent to stable come back to it"
            ),
            (["resumed"], ..) => {
                format!("{service}: canary {is} is as it was before it was resumed")
            }
            _ => return None,
        })
    }

    fn overridden(&self, one: &Difference, service: &str, rest: &[&str]) -> Option<String> {
        let after = &self.after["services"][service]["override"];
        let kind = |said: &Value| said["kind"].as_str().unwrap_or_default().to_string();
        let until = |said: &Value| said["until"].as_str().unwrap_or_default().to_string();
        Some(match (rest, &one.before, &one.after) {
            ([], was, Value::Null) => format!(
                "{service}: override {} ends before its time ({})",
                kind(was),
                until(was)
            ),
            ([], _, is) => format!("{service}: override {} until {}", kind(is), until(is)),
            (["kind"], was, is) => {
                format!("{service}: override {} -> {}", shown(was), shown(is))
            }
            (["until"], was, is) => format!(
                "{service}: override {} until {} instead of {}",
                kind(after),
                shown(is),
                shown(was)
            ),
            _ => return None,
        })
    }

    fn window(&self, one: &Difference, name: &str, rest: &[&str]) -> String {
        let hours = |whole: &Value| {
            let window = &whole["peak_hours"][name];
            let at = |field: &str| window[field].as_str().unwrap_or_default().to_string();
            format!("{}-{}", at("start"), at("end"))
        };
        let (was, is) = (hours(self.before), hours(self.after));
        match (rest, &one.before, &one.after) {
            ([], _, Value::Null) => format!("peak hours `{name}` {was} go"),
            ([], ..) => format!("peak hours `{name}` {is} appear"),
            (["start" | "end"], ..) => format!("peak hours `{name}` {was} -> {is}"),
            _ => format!("peak hours `{name}`: {}", part(one, rest.len())),
        }
    }
}

fn member(one: &Difference, name: &str, kind: &str) -> String {
    let count = |value: &Value, field: &str| value[field].as_array().map_or(0, Vec::len);
    let (what, value) = match &one.after {
        Value::Null => ("goes", &one.before),
        new => ("appears", new),
    };
    let parts = match kind {
        "gateway" => counted(count(value, "routes"), "route"),
        _ => counted(count(value, "endpoints"), "endpoint"),
    };
    format!("{name}: the {kind} {what}, with {parts}")
}

fn address(endpoint: &Value) -> String {
    let host = endpoint["host"].as_str().unwrap_or_default();
    text::address(host, &endpoint["port"])
}

fn weight(canary: &Value) -> String {
    match canary.get("weight") {
        Some(weight) => format!("at {weight} %"),
        None => format!("by a ramp of {}", shown(&canary["ramp"])),
    }
}

fn routed(one: &Difference, gateway: &str, route: &str, rest: &[&str]) -> String {
    let leads = |route: &Value| match route["service"].as_str() {
        Some(service) => format!("to {service}"),
        None => "to a redirect".to_string(),
    };
    match (rest, &one.before, &one.after) {
        ([], gone, Value::Null) => {
            format!("{gateway}: route {route} goes; it led {}", leads(gone))
        }
        ([], _, new) => format!("{gateway}: route {route} appears, {}", leads(new)),
        (["service"], Value::String(from), Value::String(to)) => {
            format!("{gateway}: route {route} now leads to {to} instead of {from}")
        }
        (["service"], Value::Null, Value::String(to)) => {
            format!("{gateway}: route {route} now leads to {to}")
        }
        _ => format!("{gateway}: route {route}: {}", part(one, rest.len())),
    }
}

fn frozen(one: &Difference) -> String {
    match (&one.before, &one.after) {
        (Value::Null, new) => format!("freeze: changes are refused during {}", shown(new)),
        (old, Value::Null) => format!(
            "freeze: changes are no longer refused during {}",
            shown(old)
        ),
        (old, new) => format!(
            "freeze: changes are refused during {} instead of {}",
            shown(new),
            shown(old)
        ),
    }
}

fn day(one: &Difference, list: &str, name: &str, rest: &[&str]) -> String {
    let what = match list {
        "festivals" => "festival",
        _ => "holiday",
    };
    match (rest, &one.after) {
        ([], Value::Null) => format!("{what} {name} goes"),
        ([], new) => match new["end"].as_str() {
            Some(end) => format!("{what} {name} until {end} appears"),
            None => format!("{what} {name} appears"),
        },
        _ => format!("{what} {name}: {}", part(one, rest.len())),
    }
}

/// Whose it is, and what of it.
fn general(one: &Difference) -> String {
    let names = one.path.names();
    let lists = ["services", "gateways", "traffic_classes"];
    match names.as_slice() {
        [list, name, rest @ ..] if lists.contains(list) && !name.is_empty() => {
            let class = match *list {
                "traffic_classes" => "class ",
                _ => "",
            };
            format!("{class}{name}: {}", part(one, rest.len()))
        }
        [] => "the mesh differs".into(),
        all => part(one, all.len()),
    }
}

/// The last steps of a path, and the change there.
fn part(one: &Difference, last: usize) -> String {
    let steps = one.path.steps();
    let from = steps.len().saturating_sub(last);
    let mut field = String::new();
    let mut is_order = false;
    for step in &steps[from..] {
        match step {
            Step::Field(name) if field.is_empty() => field.push_str(name),
            Step::Field(name) => field = format!("{field}.{name}"),
            Step::Element(name) => field = format!("{field} {name}"),
            Step::Index(index) => field = format!("{field}[{index}]"),
            Step::Order => is_order = true,
        }
    }
    let space = if field.is_empty() { "" } else { " " };
    if is_order {
        return format!("{field}{space}in another order: {}", change(one));
    }
    match (&one.before, &one.after) {
        (Value::Null, new) => format!("{field}{space}appears: {}", shown(new)),
        (old, Value::Null) => format!("{field}{space}goes (it was {})", shown(old)),
        _ => format!("{field}{space}{}", change(one)),
    }
}

fn change(one: &Difference) -> String {
    format!("{} -> {}", shown(&one.before), shown(&one.after))
}

/// A value as a line of people holds it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) if text.is_empty() => "\"\"".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(shown).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match name.as_str() {
                "match" => route_name(value),
                _ => format!("{name} {}", shown(value)),
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            fields.join(", ")
        }
        plain => plain.to_string(),
    }
}
