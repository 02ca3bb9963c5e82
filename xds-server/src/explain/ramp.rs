//! Where a canary's ramp stands, and when it steps next.

use policy::{
    canary::{Schedule, Step},
    decision::{Decision, Rules},
    time::WallTime,
};

use super::shown;
use crate::text::mode;

/// A ramp at one instant.
pub(super) struct Standing<'r> {
    rules: &'r Rules,
    schedule: &'r Schedule,
    /// All that it would take.
    steps: usize,
    start: WallTime,
    at: WallTime,
    /// Windows and festivals for which it stands still.
    frozen_by: Vec<String>,
}

impl<'r> Standing<'r> {
    /// That of the canary of a request's service, if it ramps.
    pub(super) fn of(rules: &'r Rules, decision: &Decision<'_>, at: WallTime) -> Option<Self> {
        let canary = rules.service(decision.service)?.canary.as_ref()?;
        let ramp = canary.split.weight.ramp()?;
        let names = rules.timetable().frozen_by(&canary.split.freeze_during, at);
        Some(Self {
            rules,
            schedule: rules.schedule(canary.ramp()?)?,
            steps: ramp.steps().len(),
            start: ramp.start(),
            at,
            frozen_by: names.into_iter().map(ToString::to_string).collect(),
        })
    }

    fn shown(&self, at: WallTime) -> String {
        self.rules.timetable().zone().rfc3339(at)
    }

    pub(super) fn sentence(&self) -> String {
        let taken = self.schedule.taken(self.at);
        let stands = if self.at < self.start {
            format!("its ramp starts at {}", self.shown(self.start))
        } else {
            format!("its ramp has taken {taken} of {} steps", self.steps)
        };
        let frozen = match self.frozen_by.join(", ") {
            // What has taken its last step stands still anyway.
            names if names.is_empty() || taken == self.steps => String::new(),
            names => format!(", and stands still for {names}"),
        };
        let next = match self.schedule.next_after(self.at) {
            Some(Step { from, weight }) => format!("; {weight} from {} on", self.shown(from)),
            None if taken < self.steps => {
                "; freeze_during leaves it no time for the next one in four years".into()
            }
            None => String::new(),
        };
        format!("{stands}{frozen}{next}")
    }

    fn told(&self) -> shown::Ramp {
        let next = self.schedule.next_after(self.at);
        shown::Ramp {
            start: self.shown(self.start),
            steps_taken: self.schedule.taken(self.at),
            steps: self.steps,
            frozen_by: self.frozen_by.clone(),
            next: next.map(|step| shown::Next {
                at: self.shown(step.from),
                weight: step.weight.percent(),
            }),
        }
    }
}

/// A canary's weight and its ramp, for programs.
pub(super) fn canary(
    rules: &Rules,
    decision: &Decision<'_>,
    at: WallTime,
) -> Option<shown::Canary> {
    let drawn = decision.canary.as_ref()?;
    let canary = rules.service(decision.service)?.canary.as_ref()?;
    let ramp = Standing::of(rules, decision, at).map(|standing| standing.told());
    Some(shown::Canary {
        version: canary.split.version.to_string(),
        weight: drawn.weight.percent(),
        bucket: drawn.draw.bucket,
        fallback: canary.split.fallback.as_str(),
        mode: mode(canary.split.observe),
        ramp,
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        explain::{Explanation, Question, explain},
        mesh::{Defaults, read},
    };
    use policy::time::WallTime;
    use serde_json::json;

    const MESH: &str = "\
peak_hours: {noon: {start: 10, end: 13}}
services:
  order-service:
    sidecar: false
    endpoints:
      - {host: 127.0.0.1, port: 8081, version: v1}
      - {host: 127.0.0.1, port: 8082, version: v2}
    canary:
      version: v2
      sticky_by: {header: x-user-id}
      freeze_during: [peak]
      ramp: {start: 2026-11-25T09:00+05:30, steps: [5, 60], every: 1h}
";

    fn at(time: &str) -> Explanation {
        let question = Question {
            service: Some("order-service".into()),
            at: Some(format!("2026-11-25T{time}+05:30")),
            headers: vec!["x-user-id:user-42".into()],
            ..Question::default()
        };
        let mesh = read(MESH, &Defaults::default()).unwrap();
        explain(&mesh, &question, WallTime::from_unix_millis(0)).unwrap()
    }

    #[test]
    fn a_ramps_next_step_is_foretold() {
        for (time, version, weight, sentence) in [
            (
                "08:00",
                "stable",
                0,
                "its ramp starts at 2026-11-25T09:00:00+05:30; 5 % from 2026-11-25T09:00:00+05:30 on",
            ),
            (
                "09:30",
                "stable",
                5,
                "its ramp has taken 1 of 2 steps; 60 % from 2026-11-25T13:00:00+05:30 on",
            ),
            (
                "10:00",
                "stable",
                5,
                "its ramp has taken 1 of 2 steps, and stands still for noon; 60 % from 2026-11-25T13:00:00+05:30 on",
            ),
            ("13:00", "v2", 60, "its ramp has taken 2 of 2 steps"),
        ] {
            let told = at(time);
            assert_eq!(told.version.as_deref(), Some(version), "{time}");
            assert!(
                told.reasons.iter().any(|reason| reason == sentence),
                "{time}: {:#?}",
                told.reasons
            );
            let told = told.canary.unwrap().weight;
            assert!((told - f64::from(weight)).abs() < 1e-9, "{time}: {told}");
        }
        let next = at("10:00").canary.unwrap().ramp.unwrap().next.unwrap();
        assert_eq!(
            serde_json::to_value(next).unwrap(),
            json!({"at": "2026-11-25T13:00:00+05:30", "weight": 60.0})
        );
    }
}
