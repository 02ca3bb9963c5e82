//! `mumbai-mesh check`.

mod environment;

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use self::environment::Environment;
use super::{
    Findings,
    output::{Output, printable, show},
    remote::Credentials,
};
use crate::{
    check::{Group, Item, Level, sort},
    text::counted,
};

/// Look at this machine and at the running mesh, and say what is wrong, each with what to do about it.
///
/// Looked at: ports, clocks, files and programs of this machine; the mesh in force (what was refused, what is most
/// likely a mistake, whether its calendar ends, where its peak hours differ from NPCI's), the store, certificates,
/// endpoints, and what each connected Envoy made of what it was sent.
///
/// Exit codes: 0 nothing to do, 79 errors or warnings were found.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mumbai-mesh check\n  mumbai-mesh check --admin 127.0.0.1:9901      # and an Envoy's clock and version\n  mumbai-mesh check -o json | jq '.items[] | select(.level == \"error\")'"
)]
pub(super) struct Check {
    /// The server to ask. Where none answers, this machine is looked at alone.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Admin interface of an Envoy to look at as well; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Vec<String>,
    /// The state dir that a server on this machine uses, or would.
    #[arg(long, value_name = "DIR", default_value = ".mumbai-mesh")]
    state_dir: PathBuf,
    /// A mesh file or folder that no server serves yet: it is looked at too.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What a server says of itself.
#[derive(Debug, Deserialize)]
struct Served {
    version: String,
    now_unix_millis: i64,
    filter_sha256: String,
    items: Vec<Item>,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut environment = Environment::default();
        let served = environment.ask(&self.server, &self.credentials);
        environment.server(&self.server, served.as_ref());
        environment.limits();
        environment.state_dir(&self.state_dir);
        environment.filter(served.as_ref().map(|served| &*served.filter_sha256));
        environment.envoy_program();
        for address in &self.admin {
            environment.envoy(address)?;
        }
        if let Some(config) = self.config {
            environment.mesh_file(&config);
        }
        let mut items = environment.items;
        items.extend(served.into_iter().flat_map(|served| served.items));
        sort(&mut items);
        show(&json!({"items": items}), self.output, |_| table(&items))?;
        match items.iter().any(|item| item.level <= Level::Warning) {
            true => Err(Findings.into()),
            false => Ok(()),
        }
    }
}

fn table(items: &[Item]) -> String {
    let mut text = String::new();
    let mut last: Option<Group> = None;
    for item in items {
        if last != Some(item.group) {
            let blank = if last.is_some() { "\n" } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{blank}{}", item.group.name());
            last = Some(item.group);
        }
        let (level, code) = (item.level.name(), &item.code);
        let sentence = printable(&item.sentence);
        let _ = match item.level {
            Level::Ok => writeln!(text, "  {level:<8} {sentence}"),
            _ => writeln!(text, "  {level:<8} [{code}] {sentence}"),
        };
        if !item.fix.is_empty() {
            let _ = writeln!(text, "           fix: {}", printable(&item.fix));
        }
    }
    let of = |level: Level| items.iter().filter(|item| item.level == level).count();
    let (errors, warnings) = (of(Level::Error), of(Level::Warning));
    let summary = match errors + warnings {
        0 => "nothing to do".into(),
        _ => format!(
            "{}, {}",
            counted(errors, "error"),
            counted(warnings, "warning")
        ),
    };
    let _ = writeln!(text, "\n{summary}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_apart_and_each_finding_has_its_fix() {
        let mut items = vec![
            Item::of(
                (Group::Proxies, Level::Error),
                "proxy-rejects",
                "edge rejects CDS: bad\u{1b}[2J",
                "mend it",
            ),
            Item::ok(Group::Environment, "server", "it answers"),
            Item::of(
                (Group::Environment, Level::Warning),
                "clock",
                "2 s apart",
                "set it",
            ),
        ];
        sort(&mut items);
        let shown = table(&items);
        let wanted = "environment\n  warning  [clock] 2 s apart\n           fix: set it\n  ok       it answers\n\n\
                      proxies\n  error    [proxy-rejects] edge rejects CDS: bad\u{fffd}[2J\n           fix: mend it\n\n\
                      1 error, 1 warning\n";
        assert_eq!(shown, wanted);
        assert!(table(&[]).ends_with("nothing to do\n"));
    }
}
