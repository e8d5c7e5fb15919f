use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::{deliver, deliver_event, pool, status, until_idle};
use crate::deliver::Reason;
use crate::deliver::fixture::{ID, NOW, OK, PATIENCE, Peer, Upstream, build, event};
use crate::key::SigningKey;
use crate::message::Event;
use crate::observe::AttemptOutcome;

#[tokio::test]
async fn the_request_is_what_the_contract_says() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(
        "forward_headers = 'X-Tenant'\nheaders = { authorization = 'Bearer hush', x-fixed = '1' }",
    ));
    let event = event()
        .header("connection", "close, svix-id, X-Hop")
        .header("x-hop", "1")
        .header("content-type", "application/json")
        .header("user-agent", "Svix-Webhooks/1.2")
        .header("cookie", "a=b")
        .header("authorization", "Basic x")
        .header("hookward-id", "forged")
        .header("webhook-id", "other")
        .header("x-forwarded-for", "198.51.100.9")
        .header("x-tenant", "acme")
        .header("x-tenant", "beta")
        .proven();
    let service = async {
        let mut peer = upstream.accept().await;
        let request = peer.request().await;
        peer.write(OK).await;
        request
    };
    let (sent, (head, body)) = tokio::join!(deliver_event(&built, &event), service);
    sent.unwrap();
    assert_eq!(body, event.body()[..]);
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    lines[1..].sort_unstable();
    let host = format!("host: {}", upstream.address());
    let request = format!("hookward-request: {}", event.origin().request);
    assert_eq!(
        lines,
        [
            "POST /hooks?a=1 HTTP/1.1",
            "authorization: Bearer hush",
            "content-length: 23",
            "content-type: application/json",
            "hookward-id: msg_1",
            "hookward-key: main",
            &request,
            "hookward-source: clerk",
            "hookward-type: user.created",
            &host,
            "idempotency-key: clerk:msg_1",
            "svix-id: msg_1",
            "svix-signature: v1,c2lnbmF0dXJl",
            "svix-timestamp: 1649367553",
            "user-agent: Svix-Webhooks/1.2",
            "x-fixed: 1",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-proto: https",
            "x-tenant: acme",
            "x-tenant: beta",
        ]
    );
}

#[tokio::test]
async fn bodies_of_every_size_arrive_byte_for_byte() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
        let event = event().body(bytes.clone()).proven();
        let service = async {
            // Small and large bodies have connections of their own.
            let mut peer = upstream.accept().await;
            let (head, body) = peer.request().await;
            assert!(head.contains(&format!("\r\ncontent-length: {size}\r\n")));
            peer.write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await;
            body
        };
        let (sent, body) = tokio::join!(deliver_event(&built, &event), service);
        sent.unwrap();
        assert!(body == bytes, "{size} bytes");
    }
}

#[tokio::test]
async fn any_other_status_is_refused_and_no_redirect_is_followed() {
    for (line, code) in [
        (
            "101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade",
            101,
        ),
        ("301 Moved Permanently\r\nlocation: /other", 301),
        ("304 Not Modified", 304),
        ("400 Bad Request", 400),
        ("410 Gone", 410),
        ("429 Too Many Requests", 429),
        ("500 Internal Server Error", 500),
        ("599 Whatever", 599),
    ] {
        let upstream = Upstream::listen().await;
        let built = build(&upstream.config(""));
        let service = async {
            let mut peer = upstream.accept().await;
            peer.answer(&format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n"))
                .await;
            peer
        };
        let (sent, _peer) = tokio::join!(deliver(&built), service);
        assert_eq!(status(sent), code);
        assert_eq!(built.metric("attempts_total", "refused"), "1");
    }
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
            .await;
        peer.write(OK).await;
        peer
    };
    let (sent, _peer) = tokio::join!(deliver(&built), service);
    sent.unwrap();
}

#[tokio::test]
async fn interim_answers_without_end_are_given_up() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        while peer.0.write_all(many.as_bytes()).await.is_ok() {}
    };
    let both = async { tokio::join!(deliver(&built), service) };
    let (sent, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert_eq!(sent.unwrap_err().outcome, AttemptOutcome::Unconfirmed);
}

#[tokio::test]
async fn a_connection_that_breaks_without_an_answer_leaves_the_event_in_doubt() {
    for answer in [
        "",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\ncontent-len",
        "nonsense\r\n\r\n",
    ] {
        let upstream = Upstream::listen().await;
        let built = build(&upstream.config(""));
        let service = async {
            let mut peer = upstream.accept().await;
            peer.answer(answer).await;
        };
        let (sent, ()) = tokio::join!(deliver(&built), service);
        let failure = sent.unwrap_err();
        assert_eq!(failure.outcome, AttemptOutcome::Unconfirmed, "{answer:?}");
        assert!(matches!(failure.reason, Reason::Broken(_)), "{failure:?}");
        assert!(failure.may_have_arrived);
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_leaves_the_event_in_doubt() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.0.set_zero_linger().unwrap();
    };
    let (sent, ()) = tokio::join!(deliver(&built), service);
    assert_eq!(sent.unwrap_err().outcome, AttemptOutcome::Unconfirmed);
    assert_eq!(built.metric("destination_up", ""), "0");
}

#[tokio::test]
async fn an_answer_whose_head_has_no_end_is_given_up() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        let filler = "x".repeat(80 * 1024);
        peer.answer(&format!("HTTP/1.1 200 OK\r\nx: {filler}"))
            .await;
        peer
    };
    let (sent, _peer) = tokio::join!(deliver(&built), service);
    assert_eq!(sent.unwrap_err().outcome, AttemptOutcome::Unconfirmed);
}

/// One that no connection takes before its other end reads.
fn large() -> Event {
    event().body(vec![b'x'; 8_000_000]).proven()
}

#[tokio::test]
async fn a_refusal_before_the_body_is_written_counts_at_once() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.write("HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n")
            .await;
        peer
    };
    let large = large();
    let (sent, _peer) = tokio::join!(deliver_event(&built, &large), service);
    assert_eq!(status(sent), 413);
    let half = "half a request is still to be written";
    assert_eq!(pool(&built).usable(), 0, "{half}");
}

#[tokio::test]
async fn who_accepts_before_the_body_is_written_gets_all_of_it_all_the_same() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let large = large();
    let service = async {
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.write(OK).await;
        let mut body = vec![0; large.body().len()];
        peer.0.read_exact(&mut body).await.unwrap();
        (peer, body)
    };
    let (sent, (_peer, body)) = tokio::join!(deliver_event(&built, &large), service);
    sent.unwrap();
    assert!(body == large.body()[..]);
    until_idle(&built, 1).await;
}

#[tokio::test]
async fn who_accepts_and_takes_no_more_has_accepted() {
    let large = large();
    for stays in [true, false] {
        let upstream = Upstream::listen().await;
        let built = build(&upstream.config("timeout = '200ms'\n"));
        let service = async {
            let mut peer = upstream.accept().await;
            peer.head().await;
            peer.write(OK).await;
            stays.then_some(peer)
        };
        let (sent, _peer) = tokio::join!(deliver_event(&built, &large), service);
        sent.unwrap();
        assert_eq!(pool(&built).usable(), 0);
    }
}

#[tokio::test]
async fn a_unix_socket_is_spoken_to_under_its_request_path() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("app.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let built = build(&format!(
        "type = 'http'\nurl = 'unix:{}:/in/hooks?x=1'\n",
        socket.display()
    ));
    let service = async {
        let mut peer = Peer(listener.accept().await.unwrap().0);
        let head = peer.head().await;
        peer.write(OK).await;
        head
    };
    let (sent, head) = tokio::join!(deliver(&built), service);
    sent.unwrap();
    assert!(head.starts_with("POST /in/hooks?x=1 HTTP/1.1\r\n"));
    assert!(head.contains("\r\nhost: localhost\r\n"));
}

#[tokio::test]
async fn with_sign_the_family_is_signed_anew_by_every_key_with_a_fresh_timestamp() {
    let [newest, older] = [
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ];
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(&format!("sign = '{newest} {older}'")));
    let event = event().proven();
    let service = async {
        let mut peer = upstream.accept().await;
        let (head, _) = peer.request().await;
        peer.write(OK).await;
        head
    };
    let (sent, head) = tokio::join!(deliver_event(&built, &event), service);
    sent.unwrap();
    let token = |key| {
        let key = SigningKey::parse(key).unwrap();
        key.sign(ID, NOW, event.body()).unwrap()
    };
    let tokens = format!("{} {}", token(newest), token(older));
    for line in [
        format!("svix-id: {ID}"),
        format!("svix-timestamp: {NOW}"),
        format!("svix-signature: {tokens}"),
    ] {
        assert_eq!(
            head.matches(&format!("\r\n{line}\r\n")).count(),
            1,
            "{line}"
        );
    }
}
