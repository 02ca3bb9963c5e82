//! Our filter's configuration, wherever an Envoy has it: by ECDS, or within a listener.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::Dump;
use crate::resource::ResourceType;

/// Name of the filter, and of its root, unless somebody chose another.
const FILTER_NAME: &str = "mumbai_mesh";
const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";

/// No configuration of ours.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// No wasm filter at all.
    #[error("this Envoy has no wasm filter in force, so none of ours decides there")]
    None,
    /// Several, and none has our name.
    #[error("this Envoy has several wasm filters ({0}), and none is called mumbai_mesh")]
    Several(String),
    /// One whose configuration is no text.
    #[error(
        "the configuration of the filter {0} is neither a StringValue, a BytesValue nor a Struct"
    )]
    Unreadable(String),
}

impl Dump {
    /// The text of our filter's configuration.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn filter(&self) -> Result<String, FilterError> {
        let by_ecds = self
            .in_force(ResourceType::ExtensionConfig)
            .map(|(name, resource)| (name, &resource["typed_config"]));
        let listeners = self.in_force(ResourceType::Listener);
        let within = listeners.flat_map(|(_, listener)| managers(listener).flat_map(filters));
        let mut found: Vec<(&str, &Value)> = by_ecds
            .chain(within)
            .filter(|(_, config)| is_of_type(config, WASM))
            .map(|(name, config)| (name, &config["config"]))
            .collect();
        found.dedup_by(|one, other| one.1 == other.1);
        let is_ours = |(name, config): &&(&str, &Value)| {
            *name == FILTER_NAME || config["root_id"] == FILTER_NAME
        };
        let (name, config) = match (found.iter().find(is_ours), found.as_slice()) {
            (Some(ours), _) | (None, [ours]) => *ours,
            (None, []) => return Err(FilterError::None),
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|(name, _)| *name).collect();
                return Err(FilterError::Several(names.join(", ")));
            }
        };
        text(&config["configuration"]).ok_or_else(|| FilterError::Unreadable(name.into()))
    }
}

/// The HTTP connection managers of a listener.
pub fn managers(listener: &Value) -> impl Iterator<Item = &Value> {
    let chains = listener["filter_chains"].as_array().into_iter().flatten();
    let chains = chains.chain(listener.get("default_filter_chain"));
    let filters = chains.flat_map(|chain| chain["filters"].as_array().into_iter().flatten());
    filters
        .map(|filter| &filter["typed_config"])
        .filter(|config| is_of_type(config, "HttpConnectionManager"))
}

fn filters(manager: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let filters = manager["http_filters"].as_array().into_iter().flatten();
    filters.filter_map(|filter| Some((filter["name"].as_str()?, filter.get("typed_config")?)))
}

fn is_of_type(config: &Value, name: &str) -> bool {
    let kind = config["@type"].as_str().unwrap_or_default();
    kind.ends_with(name)
}

fn text(configuration: &Value) -> Option<String> {
    let value = &configuration["value"];
    let kind = configuration["@type"].as_str()?.rsplit('.').next()?;
    match kind {
        "StringValue" => value.as_str().map(str::to_string),
        "BytesValue" => String::from_utf8(BASE64_STANDARD.decode(value.as_str()?).ok()?).ok(),
        "Struct" => Some(value.to_string()),
        _ => None,
    }
}
