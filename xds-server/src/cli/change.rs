//! What all commands that change the mesh have in common.

use std::{path::Path, time::Duration};

use anyhow::bail;
use clap::Args;
use policy::time::parse_duration;
use serde_json::Value;

use super::{
    output::{Output, printable, show},
    plan::answered,
    remote::{ANSWER_WITHIN, Credentials},
};
use crate::mesh::plain;

/// How a change is made.
#[derive(Debug, Args)]
pub(super) struct How {
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Only try: say what would change.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Wait until every connected proxy has acknowledged the change or one has rejected it; then it is rolled back.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s",
        value_parser = wait
    )]
    wait: Option<Duration>,
    /// Pass a freeze of the mesh; say why with --reason.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why: kept in the history and in the audit log.
    #[arg(long, value_name = "WHY")]
    reason: Option<String>,
    /// Only while this revision is in force.
    #[arg(long, value_name = "REVISION")]
    if_match: Option<u64>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&wait) {
        true => Ok(wait),
        false => Err("from 1s to 10m".into()),
    }
}

impl How {
    /// Asks for a change; what the server says.
    ///
    /// # Errors
    /// Why nothing was changed, or what was rejected.
    pub(super) fn ask(
        &self,
        path: &str,
        more: &[(&'static str, String)],
        body: &[u8],
        file: Option<&Path>,
    ) -> anyhow::Result<Value> {
        let mut query = more.to_vec();
        let mut put = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
        put("dry_run", self.dry_run.then(|| "true".into()));
        put("force", self.force.then(|| "true".into()));
        put("reason", self.reason.clone());
        put("wait", self.wait.map(policy::time::format_duration));
        let patience = ANSWER_WITHIN + self.wait.unwrap_or_default();
        let answer = self.credentials.post_believing(
            &self.server,
            path,
            &query,
            body,
            self.if_match,
            patience,
        )?;
        answered(&self.server, answer, file)
    }

    /// Shows what a change came to.
    ///
    /// # Errors
    /// When proxies have not answered in time.
    pub(super) fn tell(
        &self,
        answer: &Value,
        table: impl FnOnce(&Value) -> String,
    ) -> anyhow::Result<()> {
        show(answer, self.output, table)?;
        if answer["wait"]["state"] == "timeout" {
            let names: Vec<String> = answer["wait"]["unanswered"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|name| Some(printable(name.as_str()?)))
                .collect();
            bail!(
                "revision {} is in force, and these proxies have not answered yet: {}",
                answer["revision"],
                names.join(", ")
            );
        }
        Ok(())
    }
}

/// What was changed, in words.
pub(super) fn table(answer: &Value) -> String {
    let mut text = String::new();
    for one in answer["mesh"].as_array().into_iter().flatten() {
        text += &plain(one["sentence"].as_str().unwrap_or_default());
        text.push('\n');
    }
    let revision = &answer["revision"];
    text += &match (&answer["dry_run"], &answer["changed"]) {
        (Value::Bool(true), _) => format!("nothing was changed: revision {revision} is in force\n"),
        (_, Value::Bool(false)) => format!("nothing new: revision {revision} is in force\n"),
        _ => format!("revision {revision} is in force\n"),
    };
    if answer["wait"]["state"] == "acknowledged" {
        let proxies = answer["wait"]["proxies"].as_u64().unwrap_or_default();
        let s = if proxies == 1 {
            ("y", "has")
        } else {
            ("ies", "have")
        };
        let servers = answer["wait"]["servers"].as_u64();
        let of = servers.map_or_else(String::new, |servers| format!(" of {servers} servers"));
        let s = format!("{}{of} {}", s.0, s.1);
        text += &format!("{proxies} connected prox{s} acknowledged it\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_told_in_words_with_its_revision_and_who_has_it() {
        let answer = json!({
            "revision": 7, "changed": true, "mesh": [{"sentence": "a: \u{1b}b"}],
            "wait": {"state": "acknowledged", "proxies": 1},
        });
        let told = table(&answer);
        assert!(
            told.ends_with("\nrevision 7 is in force\n1 connected proxy has acknowledged it\n"),
            "{told}"
        );
        assert!(!told.contains('\u{1b}'));
        assert_eq!(
            table(&json!({"revision": 7, "changed": false, "mesh": []})),
            "nothing new: revision 7 is in force\n"
        );
    }
}
