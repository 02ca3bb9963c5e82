//! `mumbai-mesh proxy config`.

mod narrow;
mod routes;
mod table;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::narrow::Narrow;
use crate::{
    cli::{
        UsageError,
        admin::Admin,
        output::{Output, show},
        remote::Credentials,
    },
    compile::Encoder,
    dump::{Dump, hosts},
    redact::Redactor,
    resource::ResourceType,
};

/// Show what a proxy is configured with: what the server sent it, or what it says itself.
///
/// With NODE the server is asked: each resource that it sent to this connected proxy, and whether the proxy
/// accepted it (SYNCED), rejected it (REJECTED, with its words below) or has not answered yet (STALE). With
/// --admin a live Envoy is asked, whoever configured it: what is in force there (ACTIVE, STATIC), what waits
/// (WARMING), what it rejected, and each endpoint's health. Private keys are never shown.
/// Exit codes: 0 told, 1 no such proxy or nobody answers, 64 wrong usage.
#[derive(Debug, Args)]
#[command(
    override_usage = "mumbai-mesh proxy config [OPTIONS] NODE [WHAT]\n       mumbai-mesh proxy config [OPTIONS] --admin HOST:PORT [WHAT]",
    after_help = "Examples:\n  mumbai-mesh proxy config edge\n  \
                  mumbai-mesh proxy config edge endpoints --service order-service\n  \
                  mumbai-mesh proxy config --admin 127.0.0.1:9901 clusters\n  \
                  mumbai-mesh proxy config edge filter -o json | jq '.proxies[0].types[0].configs[0].policy'"
)]
pub(super) struct Config {
    /// The proxy, by its node.id.
    node: Option<String>,
    /// What to show [default: all].
    #[arg(value_enum)]
    what: Option<What>,
    /// The server to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8088")]
    server: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Ask the Envoy with this admin interface instead.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "server")]
    admin: Option<String>,
    #[command(flatten)]
    narrow: Narrow,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Part of a proxy's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Clusters (CDS).
    #[value(alias = "cluster")]
    Clusters,
    /// Listeners (LDS).
    #[value(alias = "listener")]
    Listeners,
    /// Route configurations (RDS).
    #[value(alias = "route")]
    Routes,
    /// Endpoints of clusters (EDS); with --admin as the Envoy uses them, with their health.
    #[value(alias = "endpoint")]
    Endpoints,
    /// Certificates and trust (SDS), without private keys.
    #[value(alias = "secret")]
    Secrets,
    /// The filter and its policy (ECDS).
    Filter,
    /// The bootstrap; with --admin.
    Bootstrap,
    /// All of it.
    All,
}

impl What {
    /// None: of all types, or of none.
    fn kind(self) -> Option<ResourceType> {
        match self {
            Self::Clusters => Some(ResourceType::Cluster),
            Self::Listeners => Some(ResourceType::Listener),
            Self::Routes => Some(ResourceType::RouteConfiguration),
            Self::Endpoints => Some(ResourceType::ClusterLoadAssignment),
            Self::Secrets => Some(ResourceType::Secret),
            Self::Filter => Some(ResourceType::ExtensionConfig),
            Self::Bootstrap | Self::All => None,
        }
    }
}

impl Config {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut answer = match &self.admin {
            Some(address) => {
                let what = self.only_what()?;
                of_envoy(address, what)?
            }
            None => self.of_server()?,
        };
        for kind in types(&mut answer) {
            add_policies(kind);
        }
        self.narrow.apply(&mut answer);
        show(&answer, self.output, table::config)
    }

    /// Of an Envoy that is asked itself, the only word that may stand here is what to show.
    fn only_what(&self) -> Result<What, UsageError> {
        match (&self.node, self.what) {
            (None, _) => Ok(What::All),
            (Some(word), None) => What::from_str(word, false).map_err(|_| {
                let all = What::value_variants().iter();
                let names =
                    all.filter_map(|what| Some(what.to_possible_value()?.get_name().to_string()));
                let names: Vec<String> = names.collect();
                UsageError(format!(
                    "{word:?}: with --admin the Envoy is known, and what to show is one of {}",
                    names.join(", ")
                ))
            }),
            (Some(word), Some(_)) => Err(UsageError(format!(
                "name either a node of the server ({word:?}) or --admin"
            ))),
        }
    }

    fn of_server(&self) -> anyhow::Result<Value> {
        let Some(node) = &self.node else {
            return Err(UsageError(
                "name a node (`mumbai-mesh proxy status` lists them), or ask an Envoy itself with --admin"
                    .into(),
            )
            .into());
        };
        let what = self.what.unwrap_or(What::All);
        if what == What::Bootstrap {
            return Err(UsageError(
                "the server does not know an Envoy's bootstrap; ask the Envoy itself with --admin"
                    .into(),
            )
            .into());
        }
        let kind = what.kind().map(|kind| kind.api().to_string());
        let query: Vec<(&str, String)> = kind.map(|kind| ("type", kind)).into_iter().collect();
        let path = format!("/api/v1/proxies/{}/config", escaped(node));
        let answer = self.credentials.get(&self.server, &path, &query)?;
        let answer: Value = serde_json::from_slice(&answer).context("the server's answer")?;
        if !answer["proxies"].is_array() {
            bail!("{} answers something else than a proxy", self.server);
        }
        Ok(answer)
    }
}

/// A node.id as one segment of a path.
fn escaped(node: &str) -> String {
    let escaped = node.bytes().map(|byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    escaped.collect()
}

/// What an Envoy says itself, in the server's form, with its endpoints as it uses them.
fn of_envoy(address: &str, what: What) -> anyhow::Result<Value> {
    let admin = Admin::new(address)?;
    let redactor = Redactor::new(Encoder::new()?.descriptors());
    let page = admin.page("/config_dump?include_eds")?;
    let dump =
        Dump::read(&page.json, &redactor).with_context(|| format!("{} answers", admin.address))?;
    let mut proxy = dump.to_json();
    if let Some(kinds) = proxy["types"].as_array_mut() {
        match what {
            What::All => {}
            what => kinds.retain(|kind| {
                what.kind()
                    .is_some_and(|wanted| kind["type"] == wanted.api())
            }),
        }
    }
    if matches!(what, What::Endpoints | What::All) {
        let page = admin.page("/clusters?format=json")?;
        proxy["hosts"] = json!(hosts(&page.json));
    }
    if matches!(what, What::Bootstrap | What::All) {
        proxy["bootstrap"] = dump.bootstrap().clone();
    }
    Ok(json!({"proxies": [proxy]}))
}

/// The types of all proxies of an answer.
fn types(answer: &mut Value) -> impl Iterator<Item = &mut Value> {
    let proxies = answer["proxies"].as_array_mut().into_iter().flatten();
    proxies.flat_map(|proxy| proxy["types"].as_array_mut().into_iter().flatten())
}

/// A filter's configuration is JSON within a text: shown as JSON, too.
fn add_policies(kind: &mut Value) {
    if kind["type"] != ResourceType::ExtensionConfig.api() {
        return;
    }
    for config in kind["configs"].as_array_mut().into_iter().flatten() {
        let text = config.pointer("/resource/typed_config/config/configuration/value");
        let policy = text
            .and_then(Value::as_str)
            .map(serde_json::from_str::<Value>);
        if let Some(Ok(policy)) = policy {
            config["policy"] = policy;
        }
    }
}
