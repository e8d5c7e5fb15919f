use std::fmt;
use std::path::PathBuf;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::setting::{Ca, SecretReader, Section, ca};

use super::Node;
use super::node::{is_tls, nodes};

/// A broker as it was configured and checked: `url`, `ca`, `cert` and `key` of a
/// source or a destination.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Its nodes, tried one after the other; at least one.
    pub nodes: Vec<Node>,
    /// The authorities trusted in place of the system's.
    pub ca: Option<Ca>,
    /// What hookward shows who it is.
    pub client: Option<ClientCertificate>,
}

impl BrokerConfig {
    /// Reads it from the section it belongs to. `None` when it cannot be used; the
    /// problems are in the section's reader.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let nodes = nodes(section);
        let ca = ca(section);
        let client = client(section);
        let nodes = nodes?;
        if (matches!(ca, Some(Some(_))) || matches!(client, Some(Some(_))))
            && nodes.iter().filter_map(Node::uri).any(|uri| !is_tls(uri))
        {
            section.warn(
                "has certificates, and a `url` without TLS",
                "use `amqps://`",
            );
        }
        Some(Self {
            nodes,
            ca: ca?,
            client: client?,
        })
    }

    /// Whether it is the same virtual host of the same broker, as far as that can be
    /// told without asking it: they have a node in common.
    pub fn is_same(&self, other: &Self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| other.nodes.iter().any(|other| node.is_same(other)))
    }
}

/// Its nodes, without a secret.
impl fmt::Display for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, node) in self.nodes.iter().enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            write!(f, "{separator}{node}")?;
        }
        Ok(())
    }
}

/// A certificate and its key, by which a broker knows hookward.
#[derive(PartialEq)]
pub struct ClientCertificate {
    cert: PathBuf,
    key: PathBuf,
    /// Empty, and without a key, when files were not to be read.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) secret: Option<PrivateKeyDer<'static>>,
}

impl Clone for ClientCertificate {
    fn clone(&self) -> Self {
        Self {
            cert: self.cert.clone(),
            key: self.key.clone(),
            chain: self.chain.clone(),
            secret: self.secret.as_ref().map(PrivateKeyDer::clone_key),
        }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({})", self.cert.display())
    }
}

/// `None` when it is wrong, `Some(None)` when it is not there.
fn client(section: &mut Section<'_>) -> Option<Option<ClientCertificate>> {
    let cert = section.entry("cert");
    let key = section.entry("key");
    let (cert, key) = match (cert, key) {
        (None, None) => return Some(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => {
            section.missing("key", "the key of `cert`, a file in PEM form");
            return None;
        }
        (None, Some(_)) => {
            section.missing("cert", "the certificate of `key`, a file in PEM form");
            return None;
        }
    };
    let cert_path: PathBuf = cert.read()?;
    let key_path: PathBuf = key.read()?;
    cert.reader().depends_on(&cert_path);
    key.reader().depends_on(&key_path);
    let mut read = ClientCertificate {
        cert: cert_path,
        key: key_path,
        chain: Vec::new(),
        secret: None,
    };
    if cert.reader().secrets() == SecretReader::Skip {
        return Some(Some(read));
    }
    let chain = CertificateDer::pem_file_iter(&read.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .ok()
        .filter(|chain| !chain.is_empty());
    let secret = PrivateKeyDer::from_pem_file(&read.key).ok();
    if chain.is_none() {
        let path = read.cert.display();
        cert.error(
            format!("names the file `{path}`, in which no certificate can be read"),
            "a file of certificates in PEM form",
        );
    }
    if secret.is_none() {
        let path = read.key.display();
        key.error(
            format!("names the file `{path}`, in which no key can be read"),
            "a file with a private key in PEM form",
        );
    }
    let (chain, secret) = (chain?, secret?);
    let provider = rustls::crypto::ring::default_provider();
    if let Err(error) = CertifiedKey::from_der(chain.clone(), secret.clone_key(), &provider) {
        // rustls speaks of the certificate's form here, never of key material.
        let why = match error {
            rustls::Error::InconsistentKeys(_) => "does not belong to the certificate".to_owned(),
            error => format!("cannot be used with `cert`: {error}"),
        };
        let path = read.key.display();
        key.error(
            format!("names the file `{path}`, which {why}"),
            "`key` is the private key of the first certificate in `cert`",
        );
        return None;
    }
    read.chain = chain;
    read.secret = Some(secret);
    Some(Some(read))
}
