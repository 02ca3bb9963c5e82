//! An instance that registered, and the form in which it is kept.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use policy::{
    time::WallTime,
    units::{ServiceName, VersionLabel, ZoneName},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    mesh::{Endpoint, Host, Standing},
    store,
};

/// A service and the id of one of its instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// Of which service.
    pub service: ServiceName,
    /// Unique within it.
    pub id: String,
}

impl InstanceId {
    /// The key under which it is kept.
    pub(super) fn key(&self) -> Arc<str> {
        store::key(&[self.service.as_str(), &self.id])
    }

    pub(super) fn of_key(key: &str) -> Option<Self> {
        let (service, id) = serde_json::from_str::<(String, String)>(key).ok()?;
        let service = ServiceName::new(&service).ok()?;
        Some(Self { service, id })
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.service, self.id)
    }
}

/// How an instance stands. What changes it is kept; heartbeats are not.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its heartbeats come.
    Up,
    /// It said that it is about to leave.
    Draining,
    /// It fell silent, and callers know it no more. After another TTL it is forgotten.
    Expired,
    /// It fell silent together with too many others: callers know it as unhealthy.
    Vanished,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Up, Self::Draining, Self::Expired, Self::Vanished];

    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Expired => "expired",
            Self::Vanished => "vanished",
        }
    }

    /// What callers are told of it; none: they do not know it.
    pub fn standing(self) -> Option<Standing> {
        match self {
            Self::Up => Some(Standing::Registered),
            Self::Draining => Some(Standing::Draining),
            Self::Expired => None,
            Self::Vanished => Some(Standing::Vanished),
        }
    }

    /// Whether its silence has been noticed.
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Expired | Self::Vanished)
    }
}

/// An instance that registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What callers are to know.
    pub endpoint: Endpoint,
    /// Without a heartbeat for so long, it is taken for gone.
    pub ttl: Duration,
    /// How it stands.
    pub phase: Phase,
    /// Since when.
    pub since: WallTime,
    /// The server that watches its lease; empty where there is only one.
    pub keeper: Arc<str>,
    /// Its keeper has not heard of it for a TTL, and asks the others whether they have.
    pub is_asked: bool,
}

/// [`Instance`] as it is kept, under its service and id.
#[derive(Serialize, Deserialize)]
struct Kept {
    host: String,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app_port: Option<u16>,
    weight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    ttl_millis: u64,
    phase: Phase,
    since: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    keeper: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    asked: bool,
}

impl Instance {
    /// The value that is kept.
    pub(super) fn kept(&self) -> Arc<str> {
        let endpoint = &self.endpoint;
        let kept = Kept {
            host: endpoint.host.to_string(),
            port: endpoint.port,
            app_port: endpoint.app_port,
            weight: endpoint.weight,
            region: endpoint.region.clone(),
            zone: endpoint.zone.as_ref().map(ToString::to_string),
            version: endpoint.version.as_ref().map(ToString::to_string),
            ttl_millis: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            phase: self.phase,
            since: self.since.unix_millis(),
            keeper: self.keeper.to_string(),
            asked: self.is_asked,
        };
        // Texts and numbers alone: it cannot fail.
        serde_json::to_string(&kept).unwrap_or_default().into()
    }

    /// Tells how it stands from how it stood, whoever watches its lease.
    pub fn tag(&self) -> String {
        let told = Self {
            keeper: "".into(),
            is_asked: false,
            ..self.clone()
        };
        format!("{:016x}", xxh3_64(told.kept().as_bytes()))
    }

    /// Reads a kept value; None where it is not of this version.
    pub(super) fn of_kept(id: &str, value: &str) -> Option<Self> {
        let kept: Kept = serde_json::from_str(value).ok()?;
        let host = match kept.host.parse::<IpAddr>() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(kept.host.into()),
        };
        let zone = kept.zone.map(|zone| ZoneName::new(&zone)).transpose();
        let version = kept.version.map(|version| VersionLabel::new(&version));
        Some(Self {
            endpoint: Endpoint {
                id: id.into(),
                host,
                port: kept.port,
                app_port: kept.app_port,
                weight: kept.weight,
                region: kept.region,
                zone: zone.ok()?,
                version: version.transpose().ok()?,
                standing: Standing::Registered,
            },
            ttl: Duration::from_millis(kept.ttl_millis),
            phase: kept.phase,
            since: WallTime::from_unix_millis(kept.since),
            keeper: kept.keeper.into(),
            is_asked: kept.asked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back() {
        let value = r#"{"host":"10.0.0.1","port":8080,"weight":7,"zone":"mumbai-west","version":"v2","ttl_millis":2000,"phase":"vanished","since":5,"keeper":"k","asked":true}"#;
        let instance = Instance::of_kept("order:1", value).unwrap();
        assert_eq!(
            (instance.phase, &*instance.keeper, instance.is_asked),
            (Phase::Vanished, "k", true)
        );
        assert_eq!(&*instance.kept(), value);
        let named = value.replace("10.0.0.1", "orders.internal");
        let named = Instance::of_kept("order:1", &named).unwrap();
        assert_eq!(
            named.endpoint.host,
            Host::Name("orders.internal".into()),
            "a name stays one"
        );
        assert!(Instance::of_kept("a", "{}").is_none());

        let id = InstanceId {
            service: ServiceName::new("orders").unwrap(),
            id: "a/\"b".into(),
        };
        assert_eq!(InstanceId::of_key(&id.key()), Some(id));
        assert_eq!(InstanceId::of_key("x"), None);
    }
}
