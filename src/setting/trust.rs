use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Trusts what the authorities of a `ca` have signed, and the certificates in it themselves.
///
/// `openssl req -x509` makes a certificate that calls itself an authority's, and webpki
/// takes none of those from a server, whoever trusts it. Whoever names that very certificate
/// means it, and other clients go by that. Its name and its time are to fit nevertheless,
/// and that the server has its key is the handshake's to show, as always.
#[derive(Debug)]
pub(super) struct Trust {
    signed: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Trusts these: authorities, or servers.
    ///
    /// # Errors
    /// In words, when one of them cannot be read.
    pub(super) fn of(
        named: &[CertificateDer<'static>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in named {
            roots
                .add(certificate.clone())
                .map_err(|error| format!("`ca` holds a bad certificate: {error}"))?;
        }
        let signed = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(Self {
            signed,
            named: named.to_vec(),
        })
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.signed.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match &verified {
            Err(error)
                if webpki(error).as_deref() == Some(AUTHORITY)
                    && self.named.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                in_time(end_entity, now)?;
                Ok(ServerCertVerified::assertion())
            }
            _ => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Of a server's certificate: it calls itself an authority's.
pub(super) const AUTHORITY: &str = "CaUsedAsEndEntity";

/// Of a certificate: it is older than version 3.
pub(super) const VERSION: &str = "UnsupportedCertVersion";

/// What webpki says of a certificate that rustls has no word of its own for.
pub(super) fn webpki(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => Some(other.to_string()),
        _ => None,
    }
}

fn in_time(certificate: &CertificateDer<'_>, time: UnixTime) -> Result<(), Error> {
    let certificate =
        Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = certificate.tbs_certificate.validity;
    let unix = |at: Duration| UnixTime::since_unix_epoch(at);
    let not_before = unix(validity.not_before.to_unix_duration());
    let not_after = unix(validity.not_after.to_unix_duration());
    if time < not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if time > not_after {
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    Ok(())
}
