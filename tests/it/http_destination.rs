//! What an HTTP destination receives, and what counts as its acceptance (§6).

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::{Gateway, KEY, Message, OTHER_KEY, Reply, Upstream, clerk_to, now};

#[tokio::test]
async fn it_receives_the_event_under_exactly_the_headers_of_the_contract() {
    let upstream = Upstream::start().await;
    let config = clerk_to(upstream.url())
        + r#"
headers = { "x-api-key" = "env:TOKEN", "X-Plain" = "plain" }
forward_headers = ["x-tenant"]
"#;
    let gateway = Gateway::start(&config).await;
    let message = Message::new("msg_1")
        .seal()
        .and("User-Agent", "Svix-Webhooks/1.0")
        .and("Content-Encoding", "identity")
        .and(
            "Traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .and("Tracestate", "a=b")
        .and("X-Tenant", "t1")
        .and("X-Other", "dropped")
        .and("X-Api-Key", "from the sender")
        .and("Cookie", "a=b")
        .and("Authorization", "Bearer sender")
        .and("Proxy-Authorization", "Basic x")
        .and("Hookward-Key", "forged")
        .and("Hookward-Anything", "forged")
        .and("Idempotency-Key", "forged")
        .and("X-Forwarded-For", "203.0.113.9")
        .and("X-Forwarded-Proto", "https")
        .and("X-Forwarded-Host", "evil.example")
        .and("Forwarded", "for=203.0.113.9")
        .and("TE", "trailers")
        .and("Keep-Alive", "timeout=5")
        .and("Upgrade", "h2c")
        .and("X-Hop", "named by Connection")
        .and("Connection", "x-hop, svix-id, svix-signature, traceparent");

    let answer = gateway.post("/clerk", &message).await;

    assert_eq!(answer.told(), (200, "delivered"));
    let request = upstream.only();
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/hook")
    );
    let mut names: Vec<&str> = request.headers.iter().map(|(n, _)| n.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "content-encoding",
            "content-length",
            "content-type",
            "hookward-id",
            "hookward-key",
            "hookward-request",
            "hookward-source",
            "hookward-type",
            "host",
            "idempotency-key",
            "svix-id",
            "svix-signature",
            "svix-timestamp",
            "tracestate",
            "user-agent",
            "x-api-key",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-plain",
            "x-tenant",
        ],
        "traceparent was named by Connection"
    );
    let host = upstream.address().to_string();
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-encoding", "identity"),
        ("host", host.as_str()),
        ("user-agent", "Svix-Webhooks/1.0"),
        ("hookward-source", "clerk"),
        ("hookward-id", "msg_1"),
        ("hookward-type", "user.created"),
        ("hookward-key", "1"),
        (
            "hookward-request",
            answer.header("hookward-request").unwrap(),
        ),
        ("idempotency-key", "clerk:msg_1"),
        ("svix-id", "msg_1"),
        ("svix-timestamp", message.header("svix-timestamp")),
        ("svix-signature", message.header("svix-signature")),
        ("tracestate", "a=b"),
        ("x-api-key", crate::support::TOKEN),
        ("x-plain", "plain"),
        ("x-tenant", "t1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_sender_is_the_first_stranger_from_the_right() {
    let upstream = Upstream::start().await;
    let config = format!(
        "server.trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n{}",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;
    let message = Message::new("msg_1")
        .seal()
        .and("X-Forwarded-For", "1.1.1.1, 203.0.113.9, 10.1.2.3");

    gateway.post("/clerk", &message).await;

    assert_eq!(
        upstream.only().header("x-forwarded-for"),
        Some("203.0.113.9")
    );
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let mut connection = gateway.connect().await;

    for number in 0..50 {
        let message = Message::new(&format!("msg_{number}")).seal();
        assert_eq!(connection.post("/clerk", &message).await.status, 200);
    }

    assert_eq!(upstream.count(), 50);
    // One per worker thread may be made before there is one to share.
    assert!(upstream.connections() <= 4, "{}", upstream.connections());
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    for (id, size) in [
        ("empty", 0),
        ("quarter", 256 * 1024),
        ("whole", 1024 * 1024),
    ] {
        let body: Vec<u8> = (0..size).map(|n| b'a' + (n % 23) as u8).collect();
        let answer = gateway.send(&Message::new(id).body(body.clone())).await;
        assert_eq!(answer.told(), (200, "delivered"), "{id}");
        let requests = upstream.requests();
        assert!(requests.last().unwrap().body == body, "{id}");
    }
}

#[tokio::test]
async fn acceptance_is_told_as_soon_as_the_head_is_read() {
    // The body that the head promises never comes.
    let upstream = Upstream::always(Reply::ResetAfterHead(200)).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "duplicate")
    );
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let target = Upstream::start().await;
    let reply = format!(
        "HTTP/1.1 307 x\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        target.url()
    );
    let upstream = Upstream::always(Reply::Raw(reply)).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (502, "failed")
    );
    assert_eq!(target.count(), 0);
}

#[tokio::test]
async fn a_service_that_restarts_costs_the_sender_no_failed_attempt() {
    // Bound and not listening: connecting is refused, and the port stays ours.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    let gateway = Gateway::start(&(clerk_to(&url) + "hold = \"8s\"\n")).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_1").seal();

    connection.write(&message.request("/clerk")).await;
    gateway
        .metrics_until("the event to wait", |metrics| {
            metrics.value("hookward_destination_in_flight", &[("destination", "app")]) == 1.0
        })
        .await;
    let upstream = Upstream::over(socket.listen(16).unwrap(), |_, _| Reply::Status(200));

    assert_eq!(connection.answer().await.told(), (200, "delivered"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_service_that_stays_away_has_failed_when_the_hold_is_over() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    let gateway = Gateway::start(&(clerk_to(&url) + "hold = \"300ms\"\n")).await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (502, "failed")
    );
}

#[tokio::test]
async fn a_503_is_tried_once_more_and_nothing_else_is() {
    for (status, tries) in [(503, 2), (500, 1), (502, 1), (504, 1), (429, 1)] {
        let upstream = Upstream::sequence(vec![Reply::Status(status), Reply::Status(200)]).await;
        let gateway = Gateway::start(&clerk_to(upstream.url())).await;

        let answer = gateway.send(&Message::new("msg_1")).await;

        let told = if tries == 2 {
            (200, "delivered")
        } else {
            (502, "failed")
        };
        assert_eq!(answer.told(), told, "{status}");
        assert_eq!(upstream.count(), tries, "{status}");
    }
}

#[tokio::test]
async fn retry_on_adds_what_is_tried_again_up_to_max_attempts() {
    let replies = vec![
        Reply::Status(500),
        Reply::Reset,
        Reply::Status(429),
        Reply::Never,
        Reply::Status(200),
    ];
    let upstream = Upstream::sequence(replies).await;
    let config = clerk_to(upstream.url())
        + "timeout = \"300ms\"\nmax_attempts = 5\nbackoff = \"10ms\"\nretry_on = [\"429\", \"500\", \"reset\", \"timeout\"]\n";
    let gateway = Gateway::start(&config).await;

    let answer = gateway.send(&Message::new("msg_1")).await;

    assert_eq!(answer.told(), (200, "delivered"));
    assert_eq!(upstream.count(), 5);
    let metrics = gateway.metrics().await;
    let attempts = |outcome| {
        let labels = [("destination", "app"), ("outcome", outcome)];
        metrics.value("hookward_attempts_total", &labels)
    };
    assert_eq!(attempts("accepted"), 1.0);
    assert_eq!(attempts("refused"), 2.0);
    assert_eq!(attempts("unconfirmed") + attempts("failed"), 1.0);
    assert_eq!(attempts("late"), 1.0);
}

#[tokio::test]
async fn retry_after_is_kept_where_it_fits_the_budget() {
    let unavailable = |after: u32| {
        Reply::Raw(format!(
            "HTTP/1.1 503 x\r\nretry-after: {after}\r\ncontent-length: 0\r\n\r\n"
        ))
    };
    let upstream = Upstream::scripted(move |number, request| match (request.id(), number) {
        ("fits", 0) => unavailable(1),
        ("too_long", _) => unavailable(3600),
        _ => Reply::Status(200),
    })
    .await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    let fits = gateway.send(&Message::new("fits")).await;
    let too_long = gateway.send(&Message::new("too_long")).await;

    assert_eq!(fits.told(), (200, "delivered"));
    assert_eq!(too_long.status / 100, 5, "{too_long:?}");
    let requests = upstream.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(990));
    assert_eq!(requests.len(), 3, "an hour does not fit");
}

#[tokio::test]
async fn a_connection_that_breaks_before_an_answer_has_failed() {
    for reply in [Reply::Reset, Reply::ResetInHead, Reply::Raw(String::new())] {
        let upstream = Upstream::sequence(vec![reply.clone(), Reply::Status(200)]).await;
        let gateway = Gateway::start(&clerk_to(upstream.url())).await;

        let answer = gateway.send(&Message::new("msg_1")).await;

        assert_eq!(answer.told(), (502, "failed"), "{reply:?}");
        assert_eq!(upstream.count(), 1, "{reply:?}");
    }
}

#[tokio::test]
async fn a_service_that_does_not_speak_http_has_failed() {
    let upstream = Upstream::always(Reply::Raw("220 mail.example ESMTP\r\n".into())).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (502, "failed")
    );
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_without_end() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "x-filler: y\r\n".repeat(300_000));
    let upstream = Upstream::always(Reply::Raw(endless)).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (502, "failed")
    );
    assert!(gateway.peak_memory() < 100 << 20);
}

#[tokio::test]
async fn a_unix_socket_is_a_destination_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::over_unix(&folder.path().join("app.sock"), |_, _| Reply::Status(200));
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    for id in ["msg_1", "msg_2"] {
        assert_eq!(
            gateway.send(&Message::new(id)).await.told(),
            (200, "delivered")
        );
    }

    let request = &upstream.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/hook")
    );
    assert!(request.header("host").is_some());
    assert_eq!(request.header("hookward-id"), Some("msg_1"));
}

/// A certificate authority (as PEM) and a server for `localhost` it vouches for.
fn authority() -> (String, TlsAcceptor) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (issuer.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn tls_is_spoken_with_those_its_authority_vouches_for_and_nobody_else() {
    let (pem, acceptor) = authority();
    let (other_pem, _) = authority();
    let upstream = Upstream::over_tls(acceptor, |_, _| Reply::Status(200)).await;
    let config = clerk_to(upstream.url()) + "ca = \"ca.pem\"\n";

    let trusting = Gateway::with(&config).file("ca.pem", &pem).start().await;
    let wary = Gateway::with(&config)
        .file("ca.pem", &other_pem)
        .start()
        .await;
    let unaware = Gateway::start(&clerk_to(upstream.url())).await;

    let message = Message::new("msg_1");
    assert_eq!(trusting.send(&message).await.told(), (200, "delivered"));
    assert_eq!(wary.send(&message).await.told(), (502, "failed"));
    assert_eq!(unaware.send(&message).await.told(), (502, "failed"));
    assert_eq!(upstream.count(), 1);
    let host = upstream
        .url()
        .trim_start_matches("https://")
        .trim_end_matches("/hook");
    assert_eq!(upstream.only().header("host"), Some(host));
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_tls_to_its_senders() {
    // The server's side of it is rustls in both; here hookward is the server.
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &issuer).unwrap();
    let upstream = Upstream::start().await;
    let config = format!(
        "server.tls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n{}",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::with(&config)
        .file("cert.pem", &certificate.pem())
        .file("key.pem", &key.serialize_pem())
        .start()
        .await;
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let client = tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(gateway.address())
        .await
        .unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(client))
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();

    let answer = crate::support::Connection::over(stream)
        .post("/clerk", &Message::new("msg_1").seal())
        .await;

    assert_eq!(answer.told(), (200, "delivered"));
    assert_eq!(upstream.only().header("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn signed_anew_it_proves_to_the_service_that_it_was_hookward() {
    let upstream = Upstream::start().await;
    let config = clerk_to(upstream.url()) + "sign = \"env:OTHER_KEY\"\n";
    let gateway = Gateway::start(&config).await;
    let message = Message::new("msg_1").at(-200).seal();

    assert_eq!(
        gateway.post("/clerk", &message).await.told(),
        (200, "delivered")
    );

    let request = upstream.only();
    let (id, at) = (request.header("svix-id"), request.header("svix-timestamp"));
    assert_eq!(id, Some("msg_1"));
    let at: i64 = at.unwrap().parse().unwrap();
    assert!((now() - at).abs() < 60, "a fresh timestamp");
    let sdk = svix::webhooks::Webhook::new(OTHER_KEY).unwrap();
    sdk.verify(&request.body, &request.map()).unwrap();
    let sdk = svix::webhooks::Webhook::new(KEY).unwrap();
    sdk.verify(&request.body, &request.map()).unwrap_err();
}

#[tokio::test]
async fn while_its_key_is_replaced_a_service_verifies_with_the_new_one_or_the_old_one() {
    let upstream = Upstream::start().await;
    let config = format!(
        "{}sign = \"{KEY}\\n{OTHER_KEY}\"\n",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;

    gateway.send(&Message::new("msg_1")).await;

    let request = upstream.only();
    for key in [KEY, OTHER_KEY] {
        let sdk = svix::webhooks::Webhook::new(key).unwrap();
        sdk.verify(&request.body, &request.map()).unwrap();
    }
}
