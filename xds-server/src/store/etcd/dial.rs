//! Connections to one member of an etcd: plaintext, or TLS 1.3.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::address::Member;

/// For a connection, and for its handshake.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Nothing was sent: there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{member}: {why}")]
pub struct Unconnected {
    member: String,
    why: io::Error,
}

/// What its files say of TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whom to trust: PEM. None: plaintext.
    pub ca: Option<std::path::PathBuf>,
    /// Our certificate and its key, where the etcd asks for one.
    pub identity: Option<(std::path::PathBuf, std::path::PathBuf)>,
}

impl TlsFiles {
    /// None where no file is named.
    ///
    /// # Errors
    /// A file that cannot be used, with its name.
    pub fn connector(&self) -> Result<Option<TlsConnector>, String> {
        let Some(ca) = &self.ca else {
            return match &self.identity {
                None => Ok(None),
                Some(_) => Err("--store-cert needs --store-ca: whom to trust".into()),
            };
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| said(ca, &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let pem = PrivateKeyDer::from_pem_file(key).map_err(|error| said(key, &error))?;
                let identity = config.with_client_auth_cert(chain, pem);
                identity.map_err(|error| said(certificate, &error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Some(TlsConnector::from(Arc::new(config))))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(file).map_err(|error| said(file, &error))?;
    let found = found
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| said(file, &error))?;
    match found.is_empty() {
        true => Err(format!("{}: holds no certificate", file.display())),
        false => Ok(found),
    }
}

fn said(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", file.display())
}

/// Connects when it is asked to.
#[derive(Clone)]
pub struct Dial {
    /// To whom.
    pub member: Member,
    /// By which.
    pub tls: Option<TlsConnector>,
}

/// A connection, of either kind.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl tower_service::Service<http::Uri> for Dial {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = Unconnected;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unconnected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unconnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            let connected = timeout(CONNECT_MAX, dial.connect()).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let io = connected.map_err(|why| Unconnected {
                member: dial.member.to_string(),
                why,
            })?;
            Ok(TokioIo::new(io))
        })
    }
}

impl Dial {
    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let tcp = TcpStream::connect((&*self.member.host, self.member.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let name = ServerName::try_from(self.member.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, tcp).await?))
    }
}
