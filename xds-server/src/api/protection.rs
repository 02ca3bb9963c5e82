//! What protects the API: tokens and what passes without one, its certificate, the audit log.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use prometheus::{IntCounterVec, Opts, Registry};
use tracing::{info, warn};

use super::tls::ApiTls;
use crate::{
    access::{Gate, Role, audit::AuditLog, owner::Access},
    settings::{Anonymous, Settings},
};

/// What protects the API.
pub struct Protection {
    pub(super) access: Arc<Access>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) tls: Option<ApiTls>,
    /// Calls refused, by reason.
    pub(super) refused: IntCounterVec,
    /// Connections of those who are known.
    pub(super) connections: usize,
}

/// More than everybody may have.
#[derive(Debug, thiserror::Error)]
#[error(
    "--anonymous-role {}: beyond loopback ({address}) whoever shows no token may at most look (viewer)", 
    role.as_str()
)]
pub struct TooOpen {
    role: Role,
    address: SocketAddr,
}

impl Protection {
    /// As settings and the state dir say; `anonymous` is what passes without a token.
    ///
    /// # Errors
    /// Tokens or a certificate that cannot be used.
    pub fn open(
        settings: &Settings,
        anonymous: Option<Role>,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let tls = match &settings.api.tls_cert_path {
            Some(folder) => Some(ApiTls::open(folder).context("TLS_CERT_PATH")?),
            None => None,
        };
        let gate = Gate {
            anonymous,
            hosts: settings.api.hosts.clone(),
            is_tls: tls.is_some(),
        };
        let state_dir = &settings.state_dir;
        let access = Access::open(state_dir, gate)
            .with_context(|| format!("--state-dir {}", state_dir.display()))?;
        info!(
            without_token = anonymous.map_or("none", Role::as_str),
            tls = tls.is_some(),
            "who may use the API"
        );
        if !settings.api_listen.ip().is_loopback() {
            if tls.is_none() {
                warn!(
                    "the API is served beyond loopback without TLS: tokens travel readable; set TLS_CERT_PATH"
                );
            }
            if access.is_without_tokens() && anonymous.is_none() {
                info!(
                    "there are no tokens, so nobody may ask the API anything: `mumbai-mesh token create \
                     --role admin --name NAME --state-dir {}`",
                    state_dir.display()
                );
            }
        }
        let refused = Opts::new(
            "mumbai_mesh_api_refused_total",
            "Calls of the API that were refused, by reason",
        );
        let refused = IntCounterVec::new(refused, &["reason"])?;
        registry.register(Box::new(refused.clone()))?;
        for reason in crate::access::Refusal::REASONS {
            refused.with_label_values(&[reason]);
        }
        Ok(Self {
            access: Arc::new(access),
            audit: Arc::new(AuditLog::of(state_dir)),
            tls,
            refused,
            connections: settings.api.connections,
        })
    }

    /// Follows what it was opened with, for ever; end it by dropping it.
    pub async fn follow(&self) {
        let following_tls = async {
            match &self.tls {
                Some(tls) => tls.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(self.access.run(), following_tls);
    }
}

/// What passes without a token: on loopback everything, as people on this machine may do all the same;
/// beyond it nothing.
///
/// # Errors
/// [`TooOpen`].
pub fn anonymous(address: SocketAddr, said: Option<Anonymous>) -> Result<Option<Role>, TooOpen> {
    let is_near = address.ip().is_loopback();
    let role = match said {
        None if is_near => Some(Role::Admin),
        None | Some(Anonymous::None) => None,
        Some(Anonymous::Viewer) => Some(Role::Viewer),
        Some(Anonymous::Operator) => Some(Role::Operator),
        Some(Anonymous::Admin) => Some(Role::Admin),
    };
    match role {
        Some(role) if !is_near && role > Role::Viewer => Err(TooOpen { role, address }),
        role => Ok(role),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_loopback_a_token_is_needed_but_where_looking_is_opened() {
        let opened = |address: &str, said| anonymous(address.parse().unwrap(), said);
        for near in ["127.0.0.1:1", "[::1]:1"] {
            assert!(matches!(opened(near, None), Ok(Some(Role::Admin))));
            assert!(matches!(opened(near, Some(Anonymous::None)), Ok(None)));
            let operator = opened(near, Some(Anonymous::Operator));
            assert!(matches!(operator, Ok(Some(Role::Operator))));
        }
        for far in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(matches!(opened(far, None), Ok(None)));
            let viewer = opened(far, Some(Anonymous::Viewer));
            assert!(matches!(viewer, Ok(Some(Role::Viewer))));
            for role in [Anonymous::Operator, Anonymous::Admin] {
                let error = opened(far, Some(role)).unwrap_err().to_string();
                assert!(error.contains("at most look (viewer)"), "{error}");
            }
        }
    }
}
