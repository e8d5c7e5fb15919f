//! A reload and what lies outside of the file: addresses, certificates, and files
//! that are watched.

use std::sync::Arc;

use crate::reload::{guarded, hang_up};
use crate::support::{
    Connection, Gateway, Message, OTHER_KEY, Reply, Upstream, before_the_next_look, within,
};

/// Listens at this port of this address.
fn listening(host: &str, port: u16, url: &str) -> String {
    format!(
        "server.listen = \"{host}:{port}\"\nadmin.listen = \"127.0.0.1:0\"\n{}",
        guarded(url)
    )
}

#[tokio::test]
async fn listeners_move_only_when_their_address_has_changed() {
    let upstream = Upstream::start().await;
    let setup = Gateway::with(&listening("127.0.0.1", 0, upstream.url())).addresses_of_file();
    let gateway = setup.start().await;
    let mut open = gateway.connect().await;
    open.post("/clerk", &Message::new("msg_1").seal()).await;

    // The same address: nobody notices.
    let same = listening("127.0.0.1", 0, upstream.url());
    gateway.rewrite(&format!("server.max_body = \"2 MiB\"\n{same}"));
    hang_up(&gateway, "ok", 1.0).await;
    let answer = gateway.send(&Message::new("msg_2")).await;
    assert_eq!(answer.told(), (200, "delivered"));

    // Another one: new connections there, and those that are here go on.
    let port = gateway.address().port();
    gateway.rewrite(&listening("127.0.0.2", port, upstream.url()));
    hang_up(&gateway, "ok", 2.0).await;
    let moved = std::net::SocketAddr::from(([127, 0, 0, 2], port));
    let answer = Connection::open(moved)
        .await
        .post("/clerk", &Message::new("msg_3").seal())
        .await;
    assert_eq!(answer.told(), (200, "delivered"));
    let answer = open.post("/clerk", &Message::new("msg_4").seal()).await;
    assert_eq!(answer.told(), (200, "delivered"));
    within("the old address to be given up", async {
        while tokio::net::TcpStream::connect(gateway.address())
            .await
            .is_ok()
        {
            before_the_next_look().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_that_cannot_be_bound_changes_nothing_and_says_nothing_about_what_is_in_force() {
    let upstream = Upstream::always(Reply::Reset).await;
    let breaker = "circuit_breaker = { failures = 1, open_for = \"10m\" }\n";
    let before = listening("127.0.0.1", 0, upstream.url()) + breaker;
    let gateway = Gateway::with(&before).addresses_of_file().start().await;
    gateway.send(&Message::new("msg_1")).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();

    // A destination that would be built anew, and an address that cannot be had.
    let port = taken.local_addr().unwrap().port();
    let after = listening("127.0.0.1", port, upstream.url()) + breaker + "timeout = \"2s\"\n";
    gateway.rewrite(&after.replace("to =", "expect_every = \"1h\"\nto ="));
    hang_up(&gateway, "refused", 1.0).await;

    gateway.line(&["\"ERROR\"", "server.listen"]).await;
    let metrics = gateway.metrics().await;
    let app = [("destination", "app")];
    assert_eq!(metrics.value("hookward_circuit_open", &app), 1.0);
    assert_eq!(metrics.value("hookward_destination_up", &app), 0.0);
    let clerk = [("source", "clerk")];
    let expected = metrics.find("hookward_source_expected_interval_seconds", &clerk);
    assert_eq!(expected, None);
    let answer = gateway.send(&Message::new("msg_2")).await;
    assert_eq!(
        answer.told(),
        (503, "unavailable"),
        "its circuit is open still"
    );
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_who_connects_next() {
    let upstream = Upstream::start().await;
    let config = format!(
        "server.tls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n{}",
        guarded(upstream.url())
    );
    let pair = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (old, new) = (pair(), pair());
    let gateway = Gateway::with(&config)
        .file("cert.pem", &old.cert.pem())
        .file("key.pem", &old.signing_key.serialize_pem())
        .start()
        .await;
    let mut open = shake_hands(&gateway, &old).await.unwrap();
    assert!(shake_hands(&gateway, &new).await.is_err());

    // Half of it is a bad one: the key does not belong to the certificate.
    std::fs::write(gateway.folder().join("cert.pem"), new.cert.pem()).unwrap();
    hang_up(&gateway, "refused", 1.0).await;
    shake_hands(&gateway, &old).await.unwrap();
    let key = new.signing_key.serialize_pem();
    std::fs::write(gateway.folder().join("key.pem"), key).unwrap();
    hang_up(&gateway, "ok", 1.0).await;

    shake_hands(&gateway, &new).await.unwrap();
    assert!(shake_hands(&gateway, &old).await.is_err());
    let answer = open.post("/clerk", &Message::new("msg_1").seal()).await;
    assert_eq!(answer.told(), (200, "delivered"), "who was there goes on");
}

/// A connection over TLS, if the gateway shows this certificate.
async fn shake_hands(
    gateway: &Gateway,
    pair: &rcgen::CertifiedKey<rcgen::KeyPair>,
) -> std::io::Result<Connection> {
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let client = tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(gateway.address()).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let shaken = connector.connect("localhost".try_into().unwrap(), stream);
    within("a handshake", shaken).await.map(Connection::over)
}

#[tokio::test]
async fn files_are_watched_where_that_is_asked_for() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url()).replace("env:KEY", "file:key");
    let gateway = Gateway::with(&format!("server.watch = true\n{config}"))
        .file("key", crate::support::KEY)
        .start()
        .await;
    let new = Message::new("msg_1").key(OTHER_KEY);
    assert_eq!(gateway.send(&new).await.status, 401);

    std::fs::write(gateway.folder().join("key"), OTHER_KEY).unwrap();

    let key = "a key in a file to be taken up";
    within(key, async {
        while gateway.send(&new).await.status != 200 {
            before_the_next_look().await;
        }
    })
    .await;
}
