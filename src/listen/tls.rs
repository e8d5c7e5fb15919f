use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use crate::observe::rfc3339;
use crate::setting::{Entry, SecretReader, Section};

/// `server.tls`: certificate and key, read and found to belong together.
///
/// Two are equal when their files are and were the same, byte for byte.
#[derive(Clone)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    loaded: Option<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    /// Of both files.
    digest: [u8; 32],
    config: Arc<rustls::ServerConfig>,
}

impl Tls {
    /// Reads `cert` and `key`, and the files they name unless files are not to
    /// be read.
    pub fn read(mut section: Section<'_>) -> Option<Self> {
        const HINT: &str = "the path of a PEM file";
        let cert = section.entry("cert");
        let key = section.entry("key");
        if cert.is_none() {
            section.missing("cert", HINT);
        }
        if key.is_none() {
            section.missing("key", HINT);
        }
        let files = Files {
            cert: PemFile::read(cert),
            key: PemFile::read(key),
        };
        let (Some(cert), Some(key)) = (files.cert, files.key) else {
            return None;
        };
        let skip = section.reader().secrets() == SecretReader::Skip;
        let loaded = if skip { None } else { Some(load(&cert, &key)?) };
        Some(Self {
            cert: cert.path,
            key: key.path,
            loaded,
        })
    }

    /// What the handshake is done with; none when files were not to be read.
    pub fn config(&self) -> Option<&Arc<rustls::ServerConfig>> {
        self.loaded.as_ref().map(|loaded| &loaded.config)
    }

    /// Certificate and key, for who watches them.
    pub fn files(&self) -> [&Path; 2] {
        [&self.cert, &self.key]
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        let digest = |tls: &Self| tls.loaded.as_ref().map(|loaded| loaded.digest);
        self.files() == other.files() && digest(self) == digest(other)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("cert", &self.cert)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

struct Files<'a> {
    cert: Option<PemFile<'a>>,
    key: Option<PemFile<'a>>,
}

/// A file that was named, and where.
struct PemFile<'a> {
    entry: Entry<'a>,
    path: PathBuf,
}

/// A file of certificates larger than this is somebody's mistake (bytes).
const LARGEST: u64 = 1 << 20;

impl<'a> PemFile<'a> {
    fn read(entry: Option<Entry<'a>>) -> Option<Self> {
        let entry = entry?;
        let path: PathBuf = entry.read()?;
        entry.reader().depends_on(&path);
        Some(Self { entry, path })
    }

    /// Its bytes, or a problem. Wiped when dropped, because one file often
    /// holds the key beside the certificate.
    fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        let found = std::fs::metadata(&self.path).and_then(|found| {
            if !found.is_file() {
                Err(io::Error::other("not a regular file"))
            } else if found.len() > LARGEST {
                Err(io::Error::other("over 1 MiB"))
            } else {
                std::fs::read(&self.path)
            }
        });
        match found {
            Ok(bytes) => Some(Zeroizing::new(bytes)),
            Err(error) => {
                let why = match error.raw_os_error() {
                    Some(_) => error.kind().to_string(),
                    None => error.to_string(),
                };
                self.problem(&format!("cannot be read: {why}"), "");
                None
            }
        }
    }

    fn problem(&self, what: &str, hint: &str) {
        let message = format!("names the file `{}`, which {what}", self.path.display());
        self.entry.error(message, hint);
    }
}

fn load(cert: &PemFile<'_>, key: &PemFile<'_>) -> Option<Loaded> {
    let (cert_pem, key_pem) = (cert.bytes(), key.bytes());
    let (cert_pem, key_pem) = (cert_pem?, key_pem?);
    let chain = CertificateDer::pem_slice_iter(&cert_pem).collect::<Result<Vec<_>, _>>();
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => {
            cert.problem(
                "holds no certificate",
                "PEM: the server's own certificate first, then those between it and the root",
            );
            None
        }
        Err(_) => {
            cert.problem("is not PEM", "");
            None
        }
    };
    let private = PrivateKeyDer::from_pem_slice(&key_pem);
    if private.is_err() {
        key.problem(
            "holds no private key",
            "PEM, not encrypted: `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`",
        );
    }
    let (chain, private) = (chain?, private.ok()?);
    // What is not of its form is rustls' to refuse.
    let own = chain
        .first()
        .and_then(|own| Certificate::from_der(own).ok());
    let config = match config(chain, private) {
        Ok(config) => config,
        Err(rustls::Error::InconsistentKeys(_)) => {
            key.problem(
                "does not belong to the certificate",
                "`key` is the private key of the first certificate in `cert`",
            );
            return None;
        }
        // rustls speaks of the certificate's form here, never of key material.
        Err(error) => {
            cert.problem(&format!("cannot be used together with `key`: {error}"), "");
            return None;
        }
    };
    if let Some(own) = own {
        in_time(cert, &own);
    }
    let mut digest = Sha256::new();
    digest.update((cert_pem.len() as u64).to_be_bytes());
    digest.update(&*cert_pem);
    digest.update(&*key_pem);
    Some(Loaded {
        digest: digest.finalize().into(),
        config: Arc::new(config),
    })
}

/// Warns of a certificate that every sender turns down, which a handshake does not
/// tell this side in words.
fn in_time(file: &PemFile<'_>, own: &Certificate) {
    let validity = &own.tbs_certificate.validity;
    let (from, to) = (
        validity.not_before.to_system_time(),
        validity.not_after.to_system_time(),
    );
    let now = SystemTime::now();
    let what = if now > to {
        format!("holds a certificate that ended at {}", rfc3339(to))
    } else if now < from {
        format!("holds a certificate that begins at {}", rfc3339(from))
    } else {
        return;
    };
    let hint = "senders turn it down: renew it, or set this machine's clock";
    file.entry.warn(what, hint);
}

pub(super) fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use figment::value::Value;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use crate::listen::ServerConfig;
    use crate::setting::{Place, Reader, SecretReader};

    /// What is told of a certificate for these years.
    fn told(from: i32, to: i32) -> String {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".into()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("cert"), cert.pem()).unwrap();
        std::fs::write(dir.path().join("key"), key.serialize_pem()).unwrap();
        let reader = Reader::new(dir.path(), SecretReader::Process, Place::Nowhere, |_, _| {
            Place::Nowhere
        });
        let table: toml::Table = "[server.tls]\ncert = 'cert'\nkey = 'key'".parse().unwrap();
        let dict = Value::serialize(&table).unwrap().into_dict().unwrap();
        let mut document = reader.document(dict);
        assert!(ServerConfig::read(&mut document.section("server")).is_some());
        drop(document);
        reader.into_problems().to_string()
    }

    #[test]
    fn a_certificate_out_of_its_time_is_taken_with_a_warning() {
        assert_eq!(told(2020, 4000), "");
        let ended = told(2010, 2020);
        let expected =
            "warning: `server.tls.cert` holds a certificate that ended at 2020-01-01T00:00:00.000Z";
        assert!(ended.starts_with(expected), "{ended}");
        let begins = told(4000, 4001);
        assert!(
            begins.contains("begins at 4000-01-01T00:00:00.000Z"),
            "{begins}"
        );
    }
}
