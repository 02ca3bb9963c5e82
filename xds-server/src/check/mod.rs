//! What a person should know of a running mesh, in groups, each finding with what to do about it. Pure: whoever
//! asks brings what there is to look at.

mod proxies;
mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use policy::time::{WallTime, format_duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analyze::{Finding, Severity},
    compile::Unhealthy,
    fleet::StreamStatus,
    mesh::Mesh,
    pki::authority::Shown,
};

/// What is looked at together.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "CheckGroup")]
pub enum Group {
    /// Where the command runs: ports, clocks, files.
    Environment,
    /// What the mesh says, and what of it was refused.
    Configuration,
    /// Where revisions are kept.
    Store,
    /// Those that the mesh's authority issued.
    Certificates,
    /// Of services, as far as their health is known.
    Endpoints,
    /// Connected Envoys.
    Proxies,
}

impl Group {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Configuration => "configuration",
            Self::Store => "store",
            Self::Certificates => "certificates",
            Self::Endpoints => "endpoints",
            Self::Proxies => "proxies",
        }
    }
}

/// How much something matters, the worst first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "CheckLevel")]
pub enum Level {
    /// It does not work.
    Error,
    /// It works less well than it could, or will not for long.
    Warning,
    /// Worth knowing.
    Info,
    /// As it should be.
    Ok,
}

impl Level {
    /// As people and scripts read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Ok => "ok",
        }
    }
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
            Severity::Info => Self::Info,
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CheckItem")]
pub struct Item {
    /// With what it is shown.
    pub group: Group,
    /// How it is.
    pub level: Level,
    /// Stable, for scripts.
    pub code: String,
    /// What is the case, with its names and numbers.
    pub sentence: String,
    /// What to do about it; empty where nothing is to be done.
    pub fix: String,
}

impl Item {
    /// Something that is as it should be.
    pub fn ok(group: Group, code: &str, sentence: impl Into<String>) -> Self {
        Self::of((group, Level::Ok), code, sentence, "")
    }

    /// What `analyze` found in a mesh; `file` is where that is, if it is not the one in force.
    pub fn found(finding: Finding, file: Option<&str>) -> Self {
        let path = Some(finding.path).filter(|path| !path.is_empty());
        let places = file.map(String::from).into_iter().chain(path);
        let sentence: Vec<String> = places.chain([finding.sentence]).collect();
        let level = (Group::Configuration, finding.severity.into());
        Self::of(level, finding.code, sentence.join(": "), finding.fix)
    }

    /// Something else.
    pub fn of(
        (group, level): (Group, Level),
        code: &str,
        sentence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            group,
            level,
            code: code.into(),
            sentence: sentence.into(),
            fix: fix.into(),
        }
    }
}

/// All that a server can be asked about.
pub struct Seen<'s> {
    /// The mesh in force.
    pub mesh: &'s Mesh,
    /// Its revision.
    pub revision: u64,
    /// What was offered since and refused, a sentence each.
    pub refused: Vec<String>,
    /// What is wrong with the files of `--resources`, a sentence each.
    pub resource_problems: Vec<String>,
    /// Why the store did not take the newest write.
    pub store_problem: Option<String>,
    /// All certificates of the authority.
    pub certificates: &'s [Shown],
    /// Endpoints that are known to be unhealthy.
    pub unhealthy: &'s Unhealthy,
    /// All open streams.
    pub streams: &'s [Arc<StreamStatus>],
    /// SHA-256 of the filter that is served, lower-case hex.
    pub filter_sha256: &'s str,
    /// Now.
    pub now: WallTime,
}

/// All that is found: group by group, the worst of each first.
pub fn check(seen: &Seen<'_>) -> Vec<Item> {
    let mut items = Vec::new();
    server::configuration(seen, &mut items);
    server::store(seen, &mut items);
    server::certificates(seen, &mut items);
    server::endpoints(seen, &mut items);
    proxies::look(seen, &mut items);
    sort(&mut items);
    items
}

/// Group by group, the worst of each first.
pub fn sort(items: &mut [Item]) {
    items.sort_by_key(|item| (item.group, item.level));
}

/// Of one kind so many are told one by one.
const SHOWN_MAX: usize = 20;

/// Puts items of one kind in; what is too many is told as a number, with where the rest is shown.
fn put_bounded(items: &mut Vec<Item>, mut found: Vec<Item>, elsewhere: &str) {
    let more = found.len().saturating_sub(SHOWN_MAX);
    found.truncate(SHOWN_MAX);
    let last = found.last().filter(|_| more > 0).map(|last| {
        let sentence = format!("{more} more of these");
        Item::of((last.group, last.level), &last.code, sentence, elsewhere)
    });
    items.extend(found);
    items.extend(last);
}

/// Time that went by; none when the clock was set back.
fn since(earlier: WallTime, now: WallTime) -> std::time::Duration {
    let millis = now.unix_millis().saturating_sub(earlier.unix_millis());
    // To the second: nobody needs more.
    std::time::Duration::from_secs(u64::try_from(millis / 1_000).unwrap_or_default())
}

fn ago(earlier: WallTime, now: WallTime) -> String {
    format_duration(since(earlier, now))
}
