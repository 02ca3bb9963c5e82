//! `mumbai-mesh analyze`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{
    BadData, Findings, UsageError,
    output::{Output, print, show},
};
use crate::{
    analyze::{FESTIVAL_PAST, Finding, Severity, analyze, bounded},
    clock,
    mesh::{Document, MeshProblem, Place, plain},
    reference::rule_reference,
    settings::{self, ConfigPath},
    source::Loader,
};

/// The code of what makes a mesh file unusable.
const INVALID: &str = "invalid";

/// Say what is wrong with a mesh file, and what most likely is. No server is asked.
///
/// Exit codes: 0 nothing to do, 65 the file cannot be used, 79 errors or warnings were found.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh analyze mesh.yaml\n  mumbai-mesh analyze config/ -o json | jq '.findings[] | .code'"
)]
pub(super) struct Analyze {
    /// A mesh file, or a folder of them [default: MESH_CONFIG_PATH, else /etc/mesh/config].
    file: Option<PathBuf>,
    /// As of when: RFC 3339 with an offset, seconds optional [default: now].
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Print what there is to find, as Markdown, and look at no file.
    #[arg(long, conflicts_with_all = ["file", "at", "output"])]
    rules: bool,
}

/// A finding and where it is written.
#[derive(Debug, Serialize)]
struct Placed {
    code: &'static str,
    severity: Severity,
    place: Option<Place>,
    path: String,
    sentence: String,
    fix: String,
}

impl Analyze {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.rules {
            print(&rule_reference())?;
            return Ok(());
        }
        let now = match &self.at {
            Some(at) => policy::time::parse_instant(at)
                .map_err(|error| UsageError(format!("at: {error}")))?,
            None => clock::now(),
        };
        let config = ConfigPath::choose(self.file);
        let loaded = Loader::new(config.path()).look();
        let document = loaded.document();
        let mesh = document.mesh(&settings::defaults());
        let is_usable = mesh.is_ok();
        let (all, found): (Vec<Severity>, Vec<Placed>) = match mesh {
            Ok(mesh) => {
                let mut found = analyze(&mesh, now);
                found.retain(|finding| !is_past_elsewhere(finding, &document, config.path()));
                let all = found.iter().map(|finding| finding.severity).collect();
                let placed = |finding| Placed::found(finding, &document);
                (all, bounded(&found).into_iter().map(placed).collect())
            }
            Err(problems) => (
                vec![Severity::Error; problems.len()],
                problems.into_iter().map(Placed::problem).collect(),
            ),
        };
        let name = config.path().display();
        show(&json!({"findings": found}), self.output, |_| {
            format!("{}{name}: {}\n", list(&found), summary(&all))
        })?;
        if !is_usable {
            return Err(BadData(format!("{name} is refused")).into());
        }
        if found
            .iter()
            .any(|found| found.severity <= Severity::Warning)
        {
            return Err(Findings.into());
        }
        Ok(())
    }
}

impl Placed {
    fn found(finding: Finding, document: &Document<'_>) -> Self {
        Self {
            code: finding.code,
            severity: finding.severity,
            place: document.place(&finding.path),
            path: finding.path,
            sentence: finding.sentence,
            fix: finding.fix,
        }
    }

    fn problem(MeshProblem { place, problem }: MeshProblem) -> Self {
        Self {
            code: INVALID,
            severity: Severity::Error,
            place,
            path: problem.path,
            sentence: problem.message,
            fix: problem.hint.unwrap_or_default(),
        }
    }
}

/// Whether it is about the past of a file that is only included: what a calendar holds is its author's
/// business.
fn is_past_elsewhere(finding: &Finding, document: &Document<'_>, named: &Path) -> bool {
    let own = |place: Place| {
        let file = Path::new(&place.file);
        file == named || file.parent() == Some(named)
    };
    finding.code == FESTIVAL_PAST.code && !document.place(&finding.path).is_some_and(own)
}

/// Two lines each: where, how bad, which and what; then what to do.
fn list(findings: &[Placed]) -> String {
    let mut text = String::new();
    for finding in findings {
        if let Some(place) = &finding.place {
            // Writing to a String cannot fail.
            let _ = write!(text, "{place}: ");
        }
        let severity = finding.severity.as_str();
        let _ = write!(text, "{severity}[{}] ", finding.code);
        if !finding.path.is_empty() {
            let _ = write!(text, "{}: ", plain(&finding.path));
        }
        let _ = writeln!(text, "{}", plain(&finding.sentence));
        if !finding.fix.is_empty() {
            let _ = writeln!(text, "    fix: {}", plain(&finding.fix));
        }
    }
    text
}

fn summary(findings: &[Severity]) -> String {
    let of = |severity: Severity| {
        let found = findings.iter().filter(|found| **found == severity);
        match found.count() {
            0 => None,
            1 => Some(format!("1 {}", severity.as_str())),
            // "2 info" has no plural.
            many if severity == Severity::Info => Some(format!("{many} info")),
            many => Some(format!("{many} {}s", severity.as_str())),
        }
    };
    let severities = [Severity::Error, Severity::Warning, Severity::Info];
    let counts: Vec<String> = severities.into_iter().filter_map(of).collect();
    match counts.is_empty() {
        true => "nothing found".into(),
        false => counts.join(", "),
    }
}
