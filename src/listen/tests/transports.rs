use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::stand::{Stand, Visitor, door};
use crate::listen::{Address, Door};

#[tokio::test]
async fn a_unix_socket_is_served_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in");
    let stand = Stand::open(&Address::Unix(path.clone()), door());
    let mut visitor = Visitor::new(UnixStream::connect(&path).await.unwrap());
    assert_eq!(visitor.asks("/", "abc").await.body, "/ 3");
    assert_eq!(visitor.asks("/", "").await.body, "/ 0");
    assert_eq!(visitor.asks("/early", "abc").await.status, 413);
    drop(visitor);
    stand.finish().await;
    assert!(!path.exists());
}

fn pair() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(vec!["localhost".into()]).unwrap()
}

fn with_tls(pair: &CertifiedKey<KeyPair>) -> Door {
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let config = crate::listen::tls::config(vec![pair.cert.der().clone()], key).unwrap();
    Door {
        tls: Some(Arc::new(config)),
        ..door()
    }
}

/// One that trusts this certificate alone.
async fn visit(
    stand: &Stand,
    pair: &CertifiedKey<KeyPair>,
) -> std::io::Result<Visitor<TlsStream<TcpStream>>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(&stand.at).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    Ok(Visitor::new(stream))
}

fn any_port() -> Address {
    Address::Tcp(([127, 0, 0, 1], 0).into())
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_who_comes_after_it() {
    let (old, new) = (pair(), pair());
    let stand = Stand::open(&any_port(), with_tls(&old));
    let mut before = visit(&stand, &old).await.unwrap();
    let shaken = Instant::now();
    assert_eq!(before.asks("/", &"x".repeat(90_000)).await.body, "/ 90000");
    let (began, _) = stand.heads.lock().unwrap()[0];
    assert!(began >= shaken, "the handshake is no part of the head");

    stand.door.store(Arc::new(with_tls(&new)));
    assert!(visit(&stand, &old).await.is_err());
    let mut after = visit(&stand, &new).await.unwrap();
    assert_eq!(after.asks("/", "abc").await.body, "/ 3");
    assert_eq!(before.asks("/", "ab").await.body, "/ 2", "it goes on");
    stand.finish().await;
}

#[tokio::test]
async fn an_early_answer_is_seen_through_tls() {
    let pair = pair();
    let stand = Stand::open(&any_port(), with_tls(&pair));
    let mut visitor = visit(&stand, &pair).await.unwrap();
    let answer = visitor.asks("/early", &"x".repeat(50_000)).await;
    assert_eq!((answer.status, answer.closes()), (413, true));
    visitor.ended().await;
    stand.finish().await;
}

#[tokio::test]
async fn requests_of_one_tls_record_are_all_answered_and_no_byte_of_it_is_lost() {
    let pair = pair();
    let stand = Stand::open(&any_port(), with_tls(&pair));
    let mut visitor = visit(&stand, &pair).await.unwrap();
    let one = |path: &str, length: usize| {
        let body = "x".repeat(length);
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    // One write within a record, of which the first read takes a part: the rest is
    // with TLS, where no socket tells of it.
    let (half, rest) = (
        "POST /names HTTP/1.1\r\nHost: a\r\nContent-",
        "Length: 0\r\n\r\n",
    );
    let text = [&one("/a", 6000), &one("/hold", 3000), &one("/c", 0), half].concat();
    visitor.say(text).await;
    visitor.stream.flush().await.unwrap();
    assert_eq!(visitor.answer().await.body, "/a 6000");
    stand.gate.add_permits(1);
    assert_eq!(visitor.answer().await.body, "/hold 3000");
    assert_eq!(visitor.answer().await.body, "/c 0");
    visitor.say(rest).await;
    assert_eq!(visitor.answer().await.body, "Host Content-Length");
    stand.finish().await;
}

#[tokio::test]
async fn who_hangs_up_over_tls_is_not_worked_for() {
    let pair = pair();
    let stand = Stand::open(&any_port(), with_tls(&pair));
    for length in [10, 20_000] {
        let mut visitor = visit(&stand, &pair).await.unwrap();
        visitor.post("/hold", &"x".repeat(length)).await;
        stand.until(|stand| stand.handled.get() == 1).await;
        visitor.stream.shutdown().await.unwrap();
        stand.until(|stand| stand.handled.get() == 0).await;
    }
    stand.finish().await;
}

#[tokio::test]
async fn a_handshake_that_is_larger_than_any_is_not_waited_for() {
    let pair = pair();
    let mut door = with_tls(&pair);
    door.limits.header_timeout = Duration::from_secs(3600);
    let stand = Stand::open(&any_port(), door);
    let mut visitor = stand.visit().await;
    // A greeting of 60 000 bytes, of which four records of 9 000 come.
    let greeting = [&[1, 0, 0xea, 0x60][..], &[0; 35_996]].concat();
    for part in greeting.chunks(9000) {
        visitor.say([0x16, 3, 1, 0x23, 0x28]).await;
        visitor.say(part).await;
    }
    visitor.closed().await;
    stand.finish().await;
}

#[tokio::test]
async fn who_does_not_shake_hands_is_closed_and_keeps_nobody_waiting() {
    let pair = pair();
    let mut door = with_tls(&pair);
    door.limits.header_timeout = Duration::from_millis(300);
    let stand = Stand::open(&any_port(), door);
    let mut silent = stand.visit().await;
    let mut plain = stand.visit().await;
    plain.say("POST / HTTP/1.1\r\n\r\n").await;
    let mut good = visit(&stand, &pair).await.unwrap();
    assert_eq!(good.asks("/", "abc").await.body, "/ 3");
    assert_eq!(silent.closed().await, "");
    assert!(!plain.closed().await.contains("HTTP"));
    stand.finish().await;
}

#[tokio::test]
async fn finishing_ends_a_handshake() {
    let stand = Stand::open(&any_port(), with_tls(&pair()));
    let mut silent = stand.visit().await;
    stand.until(|stand| stand.connections.get() == 1).await;
    stand.stop.finish(Duration::from_secs(10));
    assert_eq!(silent.closed().await, "");
    assert_eq!(stand.ended().await, 0);
}
