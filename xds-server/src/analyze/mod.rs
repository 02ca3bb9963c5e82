//! What is legal in a mesh, and most likely a mistake. A pure function of the mesh and an instant; a new
//! rule is a [`Rule`] in [`RULES`] and a function in [`analyze`].

mod breaker;
mod calendar;
mod canary;
mod classes;
mod covers;
mod gateways;
mod headers;
mod past;
mod redirects;
mod refusals;
mod retries;
mod services;
mod shares;
mod windows;
mod zones;

use std::fmt::{self, Display};

pub use past::FESTIVAL_PAST;
use policy::time::WallTime;
use serde::Serialize;

use crate::mesh::Mesh;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot work as it is written.
    Error,
    /// It most likely does not do what its author meant.
    Warning,
    /// Worth knowing; nothing is wrong.
    Info,
}

impl Severity {
    /// As people and scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One kind of finding. Its code never changes, so that scripts may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Such as `festivals-over`.
    pub code: &'static str,
    /// Of all its findings.
    pub severity: Severity,
    /// What it finds, for the reference.
    pub finds: &'static str,
    /// What is to be done about it in general, for the reference.
    pub fix: &'static str,
}

/// One thing found in a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which rule found it.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Where in the mesh file, such as `services.order-service.canary`.
    pub path: String,
    /// What is the case, with its names and numbers.
    pub sentence: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    /// A finding of `rule` at `path`.
    pub fn new(
        rule: &Rule,
        path: impl Into<String>,
        sentence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            code: rule.code,
            severity: rule.severity,
            path: path.into(),
            sentence: sentence.into(),
            fix: fix.into(),
        }
    }
}

impl Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.severity.as_str();
        write!(
            formatter,
            "{severity}[{}] {}: {} ({})",
            self.code, self.path, self.sentence, self.fix
        )
    }
}

/// Every rule, in the reference's order.
pub const RULES: &[&Rule] = &[
    &services::WITHOUT_ENDPOINTS,
    &services::CALLS_WITHOUT_ENDPOINTS,
    &services::WITHOUT_APPLICATION,
    &services::ENDPOINT_TWICE,
    &services::UNREACHED,
    &services::PLAINTEXT,
    &canary::WITHOUT_ENDPOINTS,
    &canary::WITHOUT_STABLE,
    &canary::COMPLETE,
    &canary::NOT_STICKY,
    &canary::RAMP_FROZEN,
    &refusals::ALL_REFUSED,
    &shares::OF_EACH_CALLER,
    &breaker::NEVER_TRIPS,
    &breaker::ALL_MUST_FAIL,
    &breaker::HEALTH_CHECK_SLOWER,
    &retries::MULTIPLY,
    &retries::WORST_CASE,
    &retries::NEVER_BEGIN,
    &gateways::ROUTE_SHADOWED,
    &gateways::ROUTE_NEVER_MATCHES,
    &redirects::LOOP,
    &gateways::WITHOUT_ROUTES,
    &gateways::ANY_HOST,
    &headers::NEVER_ARRIVES,
    &classes::NEVER_MATCHES,
    &classes::SHADOWED,
    &classes::UNKNOWN,
    &windows::OVERLAP,
    &windows::OUTRANKED,
    &windows::DATE_TWICE,
    &zones::WINDOW_ZONE_EMPTY,
    &zones::FAILOVER_REGION_EMPTY,
    &calendar::FESTIVALS_OVER,
    &past::FESTIVAL_PAST,
    &calendar::HOLIDAYS_OVER,
    &calendar::WINDOW_OVER,
    &calendar::NEXT_YEAR_EMPTY,
    &calendar::NPCI_PEAK_DIFFERS,
];

/// All that is found in `mesh` at `now`: errors first, then in the order of rules.
pub fn analyze(mesh: &Mesh, now: WallTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    services::look(mesh, &mut findings);
    canary::look(mesh, now, &mut findings);
    breaker::look(mesh, &mut findings);
    refusals::look(mesh, &mut findings);
    shares::look(mesh, &mut findings);
    retries::look(mesh, &mut findings);
    gateways::look(mesh, &mut findings);
    redirects::look(mesh, &mut findings);
    headers::look(mesh, &mut findings);
    classes::look(mesh, &mut findings);
    windows::look(mesh, now, &mut findings);
    zones::look(mesh, &mut findings);
    calendar::festivals_over(mesh, now, &mut findings);
    past::look(mesh, now, &mut findings);
    calendar::holidays_over(mesh, now, &mut findings);
    calendar::windows_over(mesh, now, &mut findings);
    calendar::next_year_empty(mesh, now, &mut findings);
    calendar::npci_peak_differs(mesh, &mut findings);
    let place = |finding: &Finding| RULES.iter().position(|rule| rule.code == finding.code);
    findings.sort_by_key(|finding| (finding.severity, place(finding)));
    findings
}

/// So many findings of one rule are told one by one.
const TOLD_MAX: usize = 20;

/// What people are told of [`analyze`]'s findings: of a rule that found very many the first, and how many
/// more there are.
pub fn bounded(findings: &[Finding]) -> Vec<Finding> {
    let mut told = Vec::new();
    for of_one_rule in findings.chunk_by(|left, right| left.code == right.code) {
        told.extend(of_one_rule.iter().take(TOLD_MAX).cloned());
        let more = of_one_rule.len().saturating_sub(TOLD_MAX);
        if let Some(last) = of_one_rule.last().filter(|_| more > 0) {
            told.push(Finding {
                path: String::new(),
                sentence: format!("and {more} more of these"),
                fix: "mend those that are told, and look again".into(),
                ..last.clone()
            });
        }
    }
    told
}

#[cfg(test)]
mod tests;
