//! `mumbai-mesh token`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use policy::time::{CivilZone, WallTime, parse_duration};
use serde_json::{Value, json};

use super::{
    UsageError,
    output::{Output, columns, print, show},
    zone,
};
use crate::{
    access::{FileError, Role, Secret, Token as Kept, TokenFile, TokenName, TokensError},
    api, clock, pki,
};

/// Tokens for the API: who may look, change, or do everything.
///
/// They are kept in the server's state dir (tokens.json), as SHA-256; a running server takes changes up at
/// once.
#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Revoke(Revoke),
    Roles(Roles),
}

/// Make a token. It is printed once, and kept nowhere.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  export MUMBAI_MESH_TOKEN=$(mumbai-mesh token create --name ci --role operator --expires 90d)"
)]
struct Create {
    /// Who or what has it; the audit log names it.
    #[arg(long, value_parser = TokenName::new)]
    name: TokenName,
    /// viewer: look; operator: change what is served; admin: everything.
    #[arg(long, value_enum)]
    role: Role,
    /// After which time it is worth nothing, such as 90d or 12h [default: never].
    #[arg(long, value_name = "DURATION", value_parser = life)]
    expires: Option<Duration>,
    #[command(flatten)]
    kept: StateDir,
}

/// List the tokens that there are; never what their owners show.
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    kept: StateDir,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Make a token worth nothing, at once.
#[derive(Debug, Args)]
struct Revoke {
    /// Its name.
    #[arg(value_parser = TokenName::new)]
    name: TokenName,
    #[command(flatten)]
    kept: StateDir,
}

/// Say which role each call of the API needs.
#[derive(Debug, Args)]
struct Roles {
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Args)]
struct StateDir {
    /// The server's state dir.
    #[arg(long, value_name = "DIR", default_value = ".mumbai-mesh")]
    state_dir: PathBuf,
}

/// `90d`, or a duration as everywhere.
fn life(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    let life = match days {
        Some(days) => pki::days(days),
        None => {
            parse_duration(text).map_err(|_| format!("{text:?} must be such as 90d, 12h or 30m"))?
        }
    };
    if (Duration::from_secs(1)..=pki::days(pki::DAYS_MAX)).contains(&life) {
        Ok(life)
    } else {
        Err("from 1s to 36500d".into())
    }
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Create(create) => create.run(),
            Command::List(list) => list.run(),
            Command::Revoke(revoke) => revoke.run(),
            Command::Roles(roles) => roles.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        let secret = Secret::generate()?;
        let now = clock::now();
        let end = self.expires.map(|life| now.saturating_add(life));
        let name = self.name.clone();
        self.kept
            .file()
            .change(|tokens| tokens.add(name, self.role, &secret, now, end))
            .map_err(told)?;
        let until = end.map_or("does not expire".into(), |end| {
            format!("expires at {}", zone().rfc3339(end))
        });
        eprintln!(
            "token {} ({}), {until}; it is shown this once:",
            self.name,
            self.role.as_str()
        );
        print(&format!("{}\n", secret.text()))?;
        Ok(())
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let tokens = self.kept.file().load()?;
        let (now, zone) = (clock::now(), zone());
        let listed = |token| listed(token, &zone, now);
        let all: Vec<Value> = tokens.iter().map(listed).collect();
        show(&json!({"tokens": all}), self.output, |_| {
            let titles = [
                ("NAME", "name"),
                ("ROLE", "role"),
                ("CREATED", "created_at"),
            ];
            table(
                &all,
                &[
                    &titles[..],
                    &[("EXPIRES", "expires_at"), ("STATE", "state")],
                ]
                .concat(),
            )
        })
    }
}

impl Revoke {
    fn run(self) -> anyhow::Result<()> {
        let file = self.kept.file();
        file.change(|tokens| tokens.revoke(&self.name))
            .map_err(told)?;
        eprintln!("token {} is worth nothing any more", self.name);
        Ok(())
    }
}

impl Roles {
    fn run(self) -> anyhow::Result<()> {
        let table_of_routes = api::table();
        let routes: Vec<Value> = table_of_routes
            .iter()
            .map(|entry| {
                json!({
                    "method": entry.method,
                    "path": entry.path,
                    "needs": entry.needs.as_str(),
                    "writes": entry.writes,
                })
            })
            .collect();
        show(&json!({"routes": routes}), self.output, |_| {
            table(
                &routes,
                &[("METHOD", "method"), ("PATH", "path"), ("NEEDS", "needs")],
            )
        })
    }
}

impl StateDir {
    fn file(&self) -> TokenFile {
        TokenFile::of(&self.state_dir)
    }
}

fn listed(token: &Kept, zone: &CivilZone, now: WallTime) -> Value {
    json!({
        "name": token.name.as_str(),
        "role": token.role.as_str(),
        "created_at": zone.rfc3339(token.created_at),
        "expires_at": token.expires_at.map(|end| zone.rfc3339(end)),
        "state": if token.is_expired(now) { "expired" } else { "valid" },
    })
}

/// A name that is taken or unknown is wrong usage; anything else is a failure.
fn told(error: FileError) -> anyhow::Error {
    match error {
        FileError::Tokens {
            error: error @ (TokensError::Taken(_) | TokensError::None(_)),
            ..
        } => UsageError(error.to_string()).into(),
        other => other.into(),
    }
}

fn table(rows: &[Value], titles: &[(&str, &str)]) -> String {
    let mut lines = vec![
        titles
            .iter()
            .map(|(title, _)| (*title).to_string())
            .collect(),
    ];
    lines.extend(rows.iter().map(|row| {
        let cell = |(_, field): &(&str, &str)| row[field].as_str().unwrap_or("-").to_string();
        titles.iter().map(cell).collect::<Vec<String>>()
    }));
    columns(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_days_or_a_duration() {
        assert_eq!(life("90d"), Ok(pki::days(90)));
        assert_eq!(life("1s"), Ok(Duration::from_secs(1)));
        for wrong in ["", "90", "d", "0d", "999999d", "1y", "-1d"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }
}
