use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::{CertificateError, ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::trust::{self, Trust, webpki};
use super::{SecretReader, Section, shown_path};

/// Certificates of authorities, or of servers themselves, from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Ca {
    /// The file.
    pub path: PathBuf,
    /// What stood in it; nothing when files were not to be read.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Ca({}, {} certificates)",
            self.path.display(),
            self.certificates.len()
        )
    }
}

impl Ca {
    /// Reads a file of certificates in PEM form.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bad = |what: String| format!("names the file `{}`, {what}", shown_path(path));
        let text = std::fs::read(path)
            .map_err(|error| bad(format!("which cannot be read: {}", error.kind())))?;
        let certificates = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| bad("which is not in PEM form".into()))?;
        if certificates.is_empty() {
            return Err(bad("which holds no certificate".into()));
        }
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            roots.add(certificate.clone()).map_err(|_| {
                let number = index + 1;
                bad(format!("whose certificate {number} cannot be read"))
            })?;
        }
        Ok(Self {
            path: path.to_owned(),
            certificates,
        })
    }
}

/// Reads the key `ca` of a section: `None` when it is wrong, `Some(None)` when it is not there.
pub fn ca(section: &mut Section<'_>) -> Option<Option<Ca>> {
    let Some(entry) = section.entry("ca") else {
        return Some(None);
    };
    let path: PathBuf = entry.read()?;
    entry.reader().depends_on(&path);
    if entry.reader().secrets() == SecretReader::Skip {
        let certificates = Vec::new();
        return Some(Some(Ca { path, certificates }));
    }
    match Ca::read(&path) {
        Ok(ca) => Some(Some(ca)),
        Err(why) => {
            entry.error(why, "a file of certificates in PEM form");
            None
        }
    }
}

/// TLS as a client that trusts the authorities and the certificates of `ca`, else
/// the authorities of the system. Who the client itself is comes next.
///
/// # Errors
/// In words, when there are no authorities to trust.
pub fn trusting(ca: Option<&Ca>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    // Never the process's default: in some builds there are two to choose from.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let Some(ca) = ca else {
        return Ok(builder.with_root_certificates(system()?));
    };
    if ca.certificates.is_empty() {
        return Err("`ca` was not read".into());
    }
    let trust = Arc::new(Trust::of(&ca.certificates, provider)?);
    Ok(builder.dangerous().with_custom_certificate_verifier(trust))
}

/// Why a TLS handshake as a client failed, with the way out where there is one.
pub fn handshake_failed(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|error| error.downcast_ref());
    let told = match inner {
        Some(rustls::Error::InvalidMessage(_)) => {
            "what answers there speaks no TLS: is the URL's scheme right?"
        }
        // Bad is the signature beside an authority of the same name.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => UNTRUSTED,
        Some(other) => match webpki(other).as_deref() {
            Some(trust::AUTHORITY) => UNTRUSTED,
            Some(trust::VERSION) => {
                "its certificate is of X.509 version 1, which names no host: it takes one of \
                 version 3 with `subjectAltName`"
            }
            _ => return error.to_string(),
        },
        None => return error.to_string(),
    };
    told.to_owned()
}

const UNTRUSTED: &str = "no authority that is trusted has signed its certificate: name that \
    one, or the certificate itself, with `ca`";

fn system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // A system's store often holds some that are out of form; they are of no use,
    // and no harm.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the system has no certificates of authorities: set `ca`".into());
    }
    Ok(roots)
}
