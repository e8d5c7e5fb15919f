use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType,
    date_time_ymd,
};

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use crate::deliver::fixture::{OK, Peer, Upstream, budget, build, event, try_build};
use crate::deliver::{Failure, Reason, Receipt};
use crate::observe::AttemptOutcome;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server that shows a certificate of this authority for `host`.
    fn server(&self, host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        showing(certificate.der().clone(), &key)
    }
}

/// A server's certificate that nobody else has signed.
struct Own(Certificate, KeyPair);

impl Own {
    fn new(change: impl Fn(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self(params.self_signed(&key).unwrap(), key)
    }

    fn server(&self) -> TlsAcceptor {
        showing(self.0.der().clone(), &self.1)
    }
}

/// What `openssl req -x509` makes of a certificate.
fn an_authority_by_its_own_word(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

/// A certificate as `openssl x509 -req` makes it, if it is told of no extensions.
fn version_1(certificate: &Certificate) -> CertificateDer<'static> {
    let mut der = certificate.der().to_vec();
    let version_3 = [0xa0, 3, 2, 1, 2];
    let at = der.windows(5).position(|part| part == version_3).unwrap();
    der[at + 4] = 0;
    der.into()
}

/// A server that shows this certificate, and has this key.
fn showing(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Whether key and certificate belong together is for the client to find out.
    let certified = CertifiedKey::new(
        vec![certificate],
        provider.key_provider.load_private_key(key).unwrap(),
    );
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Delivers one event to a service behind `server`, with `ca` as configured.
async fn deliver(server: TlsAcceptor, ca: &str) -> Result<Receipt, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, ca).unwrap();
    let upstream = Upstream::listen().await;
    let built = build(&format!(
        "type = 'http'\nurl = 'https://{}/hooks'\nca = '{}'\n",
        upstream.address(),
        path.display()
    ));
    let service = async {
        let stream = upstream.accept().await.0;
        if let Ok(stream) = server.accept(stream).await {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let mut peer = Peer(stream);
            peer.answer(OK).await;
        }
    };
    let event = event().proven();
    tokio::join!(built.destination.deliver(&event, budget(30)), service).0
}

/// How a handshake with `server` fails, after which nothing was sent.
async fn refused(server: TlsAcceptor, ca: &str) -> String {
    let failure = deliver(server, ca).await.unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Failed);
    assert!(matches!(failure.reason, Reason::Tls(_)), "{failure:?}");
    assert!(!failure.may_have_arrived);
    failure.reason.to_string()
}

#[tokio::test]
async fn a_service_with_a_certificate_of_the_configured_authority_is_trusted() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1");
    deliver(server, &authority.pem()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_authority_or_another_host_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    refused(authority.server("127.0.0.1"), &other.pem()).await;
    refused(authority.server("192.0.2.1"), &authority.pem()).await;
}

#[tokio::test]
async fn a_certificate_that_is_configured_itself_is_trusted_whatever_it_calls_itself() {
    for own in [Own::new(|_| {}), Own::new(an_authority_by_its_own_word)] {
        let both = Authority::new().pem() + &own.0.pem();
        deliver(own.server(), &both).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_is_configured_itself_is_good_for_its_host_its_time_and_its_key() {
    type Change = fn(&mut CertificateParams);
    let elsewhere: Change = |params| {
        params.subject_alt_names = vec![SanType::DnsName("elsewhere.test".try_into().unwrap())];
    };
    let ended: Change = |params| params.not_after = date_time_ymd(2001, 1, 1);
    let begins: Change = |params| params.not_before = date_time_ymd(2999, 1, 1);
    for (change, why) in [
        (elsewhere, "elsewhere.test"),
        (ended, "expired"),
        (begins, "not valid yet"),
    ] {
        let own = Own::new(|params| {
            an_authority_by_its_own_word(params);
            change(params);
        });
        let told = refused(own.server(), &own.0.pem()).await;
        assert!(told.contains(why), "{told}");
    }
    let own = Own::new(an_authority_by_its_own_word);
    let thief = showing(own.0.der().clone(), &KeyPair::generate().unwrap());
    refused(thief, &own.0.pem()).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_handshake_is_told_with_the_way_out() {
    let other = Authority::new().pem();
    let unknown = [
        Authority::new().server("127.0.0.1"),
        Own::new(an_authority_by_its_own_word).server(),
    ];
    for server in unknown {
        let told = refused(server, &other).await;
        assert!(
            told.ends_with("the certificate itself, with `ca`"),
            "{told}"
        );
    }
    let own = Own::new(|_| {});
    let told = refused(showing(version_1(&own.0), &own.1), &other).await;
    assert!(told.contains("X.509 version 1"), "{told}");

    let upstream = Upstream::listen().await;
    let url = format!("https://{}/hooks", upstream.address());
    let built = build(&format!("type = 'http'\nurl = '{url}'\n"));
    let service = async {
        let mut stream = upstream.accept().await.0;
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        stream
    };
    let event = event().proven();
    let (delivered, _open) = tokio::join!(built.destination.deliver(&event, budget(30)), service);
    let told = delivered.unwrap_err().reason.to_string();
    assert!(
        told.starts_with("TLS failed: what answers there speaks no TLS"),
        "{told}"
    );
}

#[test]
fn what_is_wrong_with_a_ca_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let config = format!(
        "type = 'http'\nurl = 'https://127.0.0.1/'\nca = '{}'\n",
        path.display()
    );
    let told = |text: &str| {
        std::fs::write(&path, text).unwrap();
        try_build(&config).err().unwrap()
    };
    assert!(told("").contains("which holds no certificate"));
    assert!(told("-----BEGIN CERTIFICATE-----\n!!!\n").contains("which is not in PEM form"));
    assert!(
        told("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .contains("whose certificate 1 cannot be read")
    );
    std::fs::remove_file(&path).unwrap();
    assert!(try_build(&config).err().unwrap().contains("cannot be read"));
}
