//! Certificates as clients show them: those that `mumbai-mesh bootstrap` wrote, those that a server sent by
//! SDS, and those that nobody would issue.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Leaf first.
    pub chain: String,
    /// PKCS #8.
    pub key: String,
}

/// What an Envoy has beside its bootstrap.
#[derive(Debug, Clone)]
pub struct Beside {
    /// Its own.
    pub certificate: Certificate,
    /// PEM of whom it trusts.
    pub roots: String,
    /// The file with the key.
    pub file: PathBuf,
}

impl Beside {
    /// As `bootstrap --state-dir` wrote it into this folder.
    ///
    /// # Errors
    /// When it did not.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("xds-certificate.json");
        let secret = |path: &Path| -> Result<Value> {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let value: Value = serde_json::from_str(&text)?;
            Ok(value["resources"][0].clone())
        };
        let own = secret(&file)?;
        let roots = secret(&folder.join("xds-roots.json"))?;
        let text = |value: &Value| -> Result<String> {
            let text = value["inline_string"].as_str();
            Ok(text.context("no inline_string")?.to_string())
        };
        let own = &own["tls_certificate"];
        Ok(Self {
            certificate: Certificate {
                chain: text(&own["certificate_chain"])?,
                key: text(&own["private_key"])?,
            },
            roots: text(&roots["validation_context"]["trusted_ca"])?,
            file,
        })
    }
}

impl Certificate {
    /// The URIs among the leaf's names.
    ///
    /// # Errors
    /// When it is none.
    pub fn uris(&self) -> Result<Vec<String>> {
        let leaf = CertificateDer::from_pem_slice(self.chain.as_bytes())?;
        let (_, parsed) = X509Certificate::from_der(&leaf)?;
        let names = parsed.subject_alternative_name()?.context("no names")?;
        let uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_string()),
                _ => None,
            });
        Ok(uris.collect())
    }
}

/// An authority: the one in a server's state dir, or one of nobody.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// With the issuing key of a server.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(state_dir: &Path) -> Result<Self> {
        let text = fs::read_to_string(state_dir.join("ca/issuing.pem"))?;
        let at = text.find("-----BEGIN PRIVATE").context("no key")?;
        let (certificate, key) = text.split_at(at);
        Ok(Self {
            certificate: certificate.into(),
            issuer: Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?,
        })
    }

    /// Whom nobody trusts.
    ///
    /// # Errors
    /// Without randomness.
    pub fn of_nobody() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// A client certificate with these URIs, for the node with this id.
    ///
    /// # Errors
    /// What no certificate can hold.
    pub fn issue(&self, node_id: &str, uris: &[&str]) -> Result<Certificate> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, node_id);
        params.distinguished_name = subject;
        for uri in uris {
            let uri = SanType::URI((*uri).try_into()?);
            params.subject_alt_names.push(uri);
        }
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Certificate {
            chain: format!("{leaf}{}", self.certificate),
            key: key.serialize_pem(),
        })
    }
}

impl Authority {
    /// Its own certificate, as PEM.
    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// A certificate of 127.0.0.1 and localhost, for either side of TLS.
    ///
    /// # Errors
    /// What no certificate can hold.
    pub fn issue_to_this_host(&self) -> Result<Certificate> {
        let hosts = ["127.0.0.1", "localhost"].map(String::from);
        let params = CertificateParams::new(hosts)?;
        let key = KeyPair::generate()?;
        Ok(Certificate {
            chain: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Sends bytes by TLS, and gives what comes back until the other side closes: also that it refused.
///
/// # Errors
/// When nobody listens.
pub fn client_to(
    address: SocketAddr,
    name: &str,
    roots: &str,
    certificate: Option<&Certificate>,
    bytes: &[u8],
) -> Result<String> {
    let mut config = ClientConfig::clone(client(roots, certificate)?.config());
    config.alpn_protocols.clear();
    let name = ServerName::try_from(name.to_string())?;
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name)?;
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(TIMEOUT))?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let mut answer = Vec::new();
    let told = stream.write_all(bytes).and_then(|()| {
        // Whoever closes without a word of TLS has answered all the same.
        stream.read_to_end(&mut answer)
    });
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok(match told {
        Ok(_) => text,
        Err(error) => format!("{text}\n{error}"),
    })
}

/// The client's side of TLS: whom it trusts, and what it shows.
///
/// # Errors
/// What is no PEM.
pub fn client(roots: &str, certificate: Option<&Certificate>) -> Result<TlsConnector> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root?)?;
    }
    ensure!(!store.is_empty(), "no roots");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes());
            let chain = chain.collect::<Result<Vec<_>, _>>()?;
            let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name under which servers are known to clients that check no SPIFFE ID.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("mumbai-mesh").expect("a DNS name")
}
