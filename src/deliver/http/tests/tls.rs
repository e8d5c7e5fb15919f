use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
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

    fn write(&self, path: &Path) {
        std::fs::write(path, self.0.pem()).unwrap();
    }

    /// A server that shows a certificate of this authority for `host`.
    fn server(&self, host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Delivers one event to a server of `server` that shows `host`, trusting `ca`.
async fn deliver(server: &Authority, host: &str, ca: &Authority) -> Result<Receipt, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    ca.write(&path);
    let upstream = Upstream::listen().await;
    let built = build(&format!(
        "type = 'http'\nurl = 'https://{}/hooks'\nca = '{}'\n",
        upstream.address(),
        path.display()
    ));
    let acceptor = server.server(host);
    let service = async {
        let stream = upstream.accept().await.0;
        if let Ok(stream) = acceptor.accept(stream).await {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let mut peer = Peer(stream);
            peer.answer(OK).await;
        }
    };
    let event = event().proven();
    tokio::join!(built.destination.deliver(&event, budget(30)), service).0
}

#[tokio::test]
async fn a_service_with_a_certificate_of_the_configured_authority_is_trusted() {
    let authority = Authority::new();
    deliver(&authority, "127.0.0.1", &authority).await.unwrap();
}

#[tokio::test]
async fn an_unknown_authority_or_another_host_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (host, ca) in [("127.0.0.1", &other), ("192.0.2.1", &authority)] {
        let failure = deliver(&authority, host, ca).await.unwrap_err();
        assert_eq!(failure.outcome, AttemptOutcome::Failed);
        assert!(matches!(failure.reason, Reason::Tls(_)), "{failure:?}");
        assert!(!failure.may_have_arrived);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_handshake_is_told_with_the_way_out() {
    let (authority, other) = (Authority::new(), Authority::new());
    let told = deliver(&authority, "127.0.0.1", &other).await.unwrap_err();
    assert!(told.reason.to_string().contains("name its own with `ca`"));

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
