use super::*;

#[test]
fn send_posts_what_it_signed_and_prints_the_answer() {
    let (url, asked) = peer(&[DELIVERED]);
    let (_dir, body) = file("body", r#"{"type":"a"}"#);
    let url = format!("{url}/clerk?x=1");
    let ran = hookward(&[
        "send",
        &url,
        "--secret",
        KEY,
        "--id",
        "msg_1",
        body.to_str().unwrap(),
    ]);
    let seen = asked.join().unwrap().remove(0);
    assert_eq!(seen.line, "POST /clerk?x=1 HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("svix-id"), Some("msg_1"));
    assert_eq!(seen.body, r#"{"type":"a"}"#);
    let signed: u64 = seen.header("svix-timestamp").unwrap().parse().unwrap();
    let key = crate::key::SigningKey::parse(KEY).unwrap();
    assert_eq!(
        seen.header("svix-signature"),
        key.sign("msg_1", signed, seen.body.as_bytes()).as_deref()
    );
    assert_eq!(ran.exit, Exit::Yes, "{}", ran.err);
    assert!(ran.out.starts_with("200 delivered msg_1 "), "{}", ran.out);
    assert!(ran.out.ends_with("ms\n"), "{}", ran.out);
}

#[test]
fn send_goes_on_over_one_connection_and_exits_1_when_one_answer_is_no() {
    let (url, asked) = peer(&[DELIVERED, FAILED, FOREIGN]);
    let ran = hookward(&[
        "send", &url, "--secret", KEY, "--type", "ping", "--count", "3",
    ]);
    let seen = asked.join().unwrap();
    assert_eq!(ran.exit, Exit::No);
    let lines: Vec<_> = ran.out.lines().collect();
    assert!(lines[0].starts_with("200 delivered msg_"), "{}", ran.out);
    assert!(lines[1].starts_with("502 failed msg_"), "{}", ran.out);
    assert!(lines[2].starts_with("204 - msg_"), "{}", ran.out);
    assert_ne!(seen[0].header("svix-id"), seen[1].header("svix-id"));
}

#[test]
fn one_id_sent_twice_is_the_same_message_twice() {
    let (url, asked) = peer(&[DELIVERED, DUPLICATE]);
    let ran = hookward(&[
        "send", &url, "--secret", KEY, "--type", "ping", "--count", "2", "--id", "msg_1",
    ]);
    let seen = asked.join().unwrap();
    assert_eq!(ran.exit, Exit::Yes);
    assert_eq!(seen[0].header("svix-id"), seen[1].header("svix-id"));
    assert_eq!(seen[0].body, seen[1].body);
    assert!(
        ran.out
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("200 duplicate msg_1 ")
    );
}

#[test]
fn a_made_body_has_type_timestamp_and_data() {
    let (url, asked) = peer(&[DELIVERED]);
    hookward(&[
        "send",
        &url,
        "--secret",
        KEY,
        "--type",
        "user.created",
        "--data",
        r#"{"n": 1.0}"#,
    ]);
    let body = asked.join().unwrap().remove(0).body;
    assert!(
        body.starts_with(r#"{"type":"user.created","timestamp":"20"#),
        "{body}"
    );
    assert!(body.ends_with(r#"Z","data":{"n": 1.0}}"#), "{body}");
}

#[test]
fn a_tampered_body_is_not_the_one_that_was_signed() {
    let (url, asked) = peer(&[FAILED]);
    let ran = hookward(&["send", &url, "--secret", KEY, "--type", "ping", "--tamper"]);
    assert_eq!(ran.exit, Exit::No);
    let seen = asked.join().unwrap().remove(0);
    let signed: u64 = seen.header("svix-timestamp").unwrap().parse().unwrap();
    let key = crate::key::SigningKey::parse(KEY).unwrap();
    let id = seen.header("svix-id").unwrap();
    assert_ne!(
        seen.header("svix-signature"),
        key.sign(id, signed, seen.body.as_bytes()).as_deref()
    );
}

#[test]
fn an_aged_message_was_signed_that_long_ago() {
    let (url, asked) = peer(&[FAILED]);
    hookward(&[
        "send", &url, "--secret", KEY, "--type", "ping", "--age", "10m",
    ]);
    let seen = asked.join().unwrap().remove(0);
    let signed: u64 = seen.header("svix-timestamp").unwrap().parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 605..=now - 600).contains(&signed), "{signed} {now}");
}

#[test]
fn nobody_listening_is_told_with_the_way_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:hush@{}/x?hush", listener.local_addr().unwrap());
    drop(listener);
    let ran = hookward(&["send", &url, "--secret", KEY, "--type", "ping"]);
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.err.contains("connection refused"), "{}", ran.err);
    assert!(ran.err.contains("hint: is hookward running"), "{}", ran.err);
    assert!(!ran.err.contains("hush"), "{}", ran.err);
}

#[test]
fn what_cannot_be_sent_is_bad_usage() {
    for args in [
        &["ftp://a", "--type", "ping"][..],
        &["http://127.0.0.1:1", "--type", " x"],
        &["http://127.0.0.1:1", "--type", "x", "--data", "{"],
        &["http://127.0.0.1:1", "--data", "{}"],
        &["http://127.0.0.1:1", "--type", "x", "--count", "0"],
        &["http://127.0.0.1:1", "--type", "x", "--age", "soon"],
        &["http://127.0.0.1:1", "--type", "x", "body.json"],
        &["unix:/tmp/x:no-slash", "--type", "x"],
    ] {
        let ran = hookward(&[&["send", "--secret", KEY], args].concat());
        assert_eq!(ran.exit.code(), 64, "{args:?} {}", ran.err);
    }
}

/// An HTTPS server for `localhost` that answers one request, and the file with
/// the certificate that vouches for it.
fn https(answer: &'static str) -> (String, tempfile::TempDir, PathBuf, JoinHandle<()>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (dir, ca) = file("ca.pem", &made.cert.pem());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let ring = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(made.cert.der().to_vec())], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(std::sync::Arc::new(config)).unwrap();
        let mut tls = rustls::Stream::new(&mut tls, &mut stream);
        let mut line = [0; 4];
        // A client that does not trust us goes away here.
        if tls.read_exact(&mut line).is_ok() {
            tls.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, dir, ca, served)
}

#[test]
fn send_speaks_tls_to_whom_the_ca_vouches_for() {
    let (url, _dir, ca, served) = https(DELIVERED);
    let ca = ca.to_str().unwrap();
    let ran = hookward(&["send", &url, "--secret", KEY, "--type", "a", "--ca", ca]);
    served.join().unwrap();
    assert_eq!(ran.exit, Exit::Yes, "{}", ran.err);
    assert!(ran.out.starts_with("200 delivered "), "{}", ran.out);
}

#[test]
fn send_trusts_nobody_else() {
    let (url, _dir, _ca, served) = https(DELIVERED);
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (_other, ca) = file("ca.pem", &other.cert.pem());
    let ca = ca.to_str().unwrap();
    let ran = hookward(&["send", &url, "--secret", KEY, "--type", "a", "--ca", ca]);
    served.join().unwrap();
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.out.is_empty());
    assert!(ran.err.contains("cannot agree on TLS"), "{}", ran.err);
}

#[test]
fn send_reaches_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("hookward.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        reader.get_mut().write_all(DELIVERED.as_bytes()).unwrap();
        line
    });
    let url = format!("unix:{}:/clerk", socket.display());
    let ran = hookward(&["send", &url, "--secret", KEY, "--type", "a"]);
    assert_eq!(served.join().unwrap(), "POST /clerk HTTP/1.1\r\n");
    assert_eq!(ran.exit, Exit::Yes, "{}", ran.err);
}
