//! What people do with a canary that somebody else wrote: it lies over what is written, and ends when that changes.

use policy::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An operation that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// The canary as it is written; with other fields the operation is over.
    pub of: Value,
    /// What.
    pub kind: Kind,
    /// How often the canary was resumed, beside what is written.
    #[serde(default)]
    pub resumed: u32,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, in milliseconds since 1970.
    at: i64,
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The weight stays where it was.
    Paused {
        /// In percent.
        weight: Value,
        /// The step of its ramp at which it stands; none before the first.
        step: Option<usize>,
    },
    /// Nobody is sent to it; the label stays.
    Aborted,
    /// It goes on.
    Resumed {
        /// As its ramp runs now; none without one.
        ramp: Option<RampAgain>,
    },
}

/// A ramp that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RampAgain {
    /// RFC 3339.
    pub start: String,
    /// The first step, of those that are written.
    pub from: usize,
}

/// Who operates, when and why.
#[derive(Debug, Clone)]
pub struct By {
    /// A token's name.
    pub author: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: WallTime,
}

impl Operation {
    pub(super) fn new(of: Value, kind: Kind, resumed: u32, by: &By) -> Self {
        Self {
            of,
            kind,
            resumed,
            by: by.author.clone(),
            reason: by.reason.clone(),
            at: by.at.unix_millis(),
        }
    }

    /// When.
    pub fn at(&self) -> WallTime {
        WallTime::from_unix_millis(self.at)
    }

    /// `paused`, `aborted` or `resumed`.
    pub fn word(&self) -> &'static str {
        match self.kind {
            Kind::Paused { .. } => "paused",
            Kind::Aborted => "aborted",
            Kind::Resumed { .. } => "resumed",
        }
    }

    /// How often the canary was resumed in all.
    pub(super) fn resumed_in_all(&self) -> u32 {
        resumed(&self.of).saturating_add(self.resumed)
    }

    /// The canary as it is served.
    pub(super) fn applied(&self) -> Value {
        let mut canary = self.of.clone();
        let Some(fields) = canary.as_object_mut() else {
            return canary;
        };
        let times = self.resumed_in_all();
        if times > 0 {
            fields.insert("resumed".into(), times.into());
        }
        let mut fix = |weight: Value| {
            fields.shift_remove("ramp");
            fields.insert("weight".into(), weight);
        };
        match &self.kind {
            Kind::Paused { weight, .. } => fix(weight.clone()),
            Kind::Aborted => fix(json!(0)),
            Kind::Resumed { ramp: None } => {}
            Kind::Resumed { ramp: Some(again) } => {
                if let Some(ramp) = fields.get_mut("ramp").and_then(Value::as_object_mut) {
                    ramp.insert("start".into(), json!(again.start));
                    if let Some(steps) = ramp.get_mut("steps").and_then(Value::as_array_mut) {
                        let last = steps.len().saturating_sub(1);
                        steps.drain(..again.from.min(last));
                    }
                }
            }
        }
        canary
    }
}

/// How often a canary was resumed, as it is written.
pub(super) fn resumed(canary: &Value) -> u32 {
    let times = canary["resumed"].as_u64();
    times
        .and_then(|times| times.try_into().ok())
        .unwrap_or_default()
}
