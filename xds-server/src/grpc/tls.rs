//! TLS at the xDS port: version 1.3, a client certificate of our own authority, and sessions that are
//! never resumed, so that every connection shows a certificate that is valid then.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    catalog::Revision,
    pki::{self, Credentials, Denied, Identity, Peer, authority::Authority},
};

/// Handshakes at once; further connections wait in the listener's backlog.
pub(super) const HANDSHAKES_MAX: usize = 1024;
/// A client that is slower is no Envoy.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// What a server with this key and certificate speaks.
type Speaks = (Arc<Credentials>, Arc<ServerConfig>);

/// The server's side of every handshake.
pub struct Tls {
    authority: Arc<Authority>,
    revisions: watch::Receiver<Arc<Revision>>,
    speaks: Mutex<Option<Speaks>>,
}

impl Tls {
    /// With certificates of this authority, in the trust domain of the mesh in force.
    ///
    /// # Errors
    /// When none can be issued.
    pub fn new(
        authority: Arc<Authority>,
        revisions: watch::Receiver<Arc<Revision>>,
    ) -> anyhow::Result<Self> {
        let tls = Self {
            authority,
            revisions,
            speaks: Mutex::default(),
        };
        tls.config()?;
        Ok(tls)
    }

    /// The mesh in force.
    pub(super) fn revisions(&self) -> &watch::Receiver<Arc<Revision>> {
        &self.revisions
    }

    /// A handshake, and who the client is. Who it is may be denied on a connection that stands: its calls
    /// are told so.
    pub(super) async fn accept(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Result<Peer, Denied>)> {
        let config = self.config().map_err(io::Error::other)?;
        let accepting = TlsAcceptor::from(config).accept(tcp);
        let stream = timeout(HANDSHAKE_MAX, accepting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = Peer::of(chain.first().map_or(&[], |leaf| leaf.as_ref()));
        Ok((stream, peer))
    }

    /// Made anew when the server's certificate was renewed.
    fn config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let domain = self.revisions.borrow().mesh.trust_domain.clone();
        let credentials = self.authority.credentials(&Identity::Server(domain))?;
        let mut speaks = self.speaks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, config)) = &*speaks
            && Arc::ptr_eq(known, &credentials)
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(config(&credentials)?);
        *speaks = Some((credentials, Arc::clone(&config)));
        Ok(config)
    }
}

fn config(credentials: &Credentials) -> anyhow::Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(credentials.bundle.as_bytes()) {
        roots.add(root?)?;
    }
    let chain = CertificateDer::pem_slice_iter(credentials.chain.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes())?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), pki::provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
