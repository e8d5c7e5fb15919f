use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use super::connect::Writing;
use crate::deliver::fixture::{Built, ID, NOW, OK, Peer, Upstream, budget, build, event};
use crate::deliver::{CircuitState, Failure, Kind, Reason, Receipt};
use crate::key::SigningKey;
use crate::message::Event;
use crate::observe::AttemptOutcome;

type Outcome = Result<Receipt, Failure>;

async fn deliver(built: &Built) -> Outcome {
    deliver_event(built, &event().proven()).await
}

async fn deliver_event(built: &Built, event: &Event) -> Outcome {
    built.destination.deliver(event, budget(30)).await
}

fn status(outcome: Outcome) -> u16 {
    match outcome.unwrap_err() {
        Failure {
            outcome: AttemptOutcome::Refused,
            reason: Reason::Status(status),
            may_have_arrived: false,
        } => status.as_u16(),
        other => panic!("{other:?}"),
    }
}

fn pool(built: &Built) -> &super::Pool {
    match &built.destination.kind {
        Kind::Http(http) => &http.pool,
        Kind::Rabbit(_) | Kind::File(_) => unreachable!(),
    }
}

/// Waits until the pool has or has not a connection that can be used.
async fn until_idle(built: &Built, usable: usize) {
    while pool(built).usable() != usable {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_2xx_is_a_receipt_and_the_connection_is_used_again() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        for answer in [OK, "HTTP/1.1 204 No Content\r\n\r\n", OK] {
            peer.answer(answer).await;
        }
    };
    let sender = async {
        for _ in 0..3 {
            let receipt = deliver(&built).await.unwrap();
            assert_eq!(receipt.destination().as_str(), "billing");
        }
    };
    tokio::join!(service, sender);
    assert_eq!(built.metric("attempts_total", "accepted"), "3");
    assert_eq!(built.metric("delivery_duration_seconds_count", ""), "3");
    assert_eq!(built.metric("destination_in_flight", ""), "0");
}

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
async fn a_service_that_never_answers_is_late_and_may_have_the_event() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config("retry_on = []"));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        tokio::time::pause();
        peer
    };
    let (sent, mut peer) = tokio::join!(deliver(&built), service);
    let failure = sent.unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Late);
    assert_eq!(failure.reason, Reason::Timeout(Duration::from_secs(8)));
    assert!(failure.may_have_arrived);
    tokio::time::resume();
    let mut rest = Vec::new();
    assert_eq!(peer.0.read_to_end(&mut rest).await.unwrap(), 0, "closed");
}

#[tokio::test]
async fn an_answer_after_the_budget_is_still_a_receipt() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let event = event().proven();
    let service = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(5)).await;
        tokio::time::resume();
        peer.write(OK).await;
        peer
    };
    let (sent, _peer) = tokio::join!(built.destination.deliver(&event, budget(1)), service);
    sent.unwrap();
}

#[tokio::test]
async fn no_attempt_starts_after_the_budget() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let sent = built
        .destination
        .deliver(&event().proven(), budget(0))
        .await;
    let failure = sent.unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Late);
    assert_eq!(failure.reason, Reason::Budget);
    assert!(!failure.may_have_arrived);
    assert_eq!(built.destination.state().circuit, CircuitState::Closed);
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

#[tokio::test]
async fn an_answer_before_the_body_is_written_counts() {
    let large = event().body(vec![b'x'; 8_000_000]).proven();
    for (answer, code) in [
        (OK, 200),
        ("HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n", 413),
    ] {
        let upstream = Upstream::listen().await;
        let built = build(&upstream.config(""));
        let service = async {
            let mut peer = upstream.accept().await;
            peer.head().await;
            peer.write(answer).await;
            peer
        };
        let (sent, _peer) = tokio::join!(deliver_event(&built, &large), service);
        match code {
            200 => assert!(sent.is_ok()),
            code => assert_eq!(status(sent), code),
        }
        assert_eq!(
            pool(&built).usable(),
            0,
            "half a request is still to be written"
        );
    }
}

#[tokio::test]
async fn a_long_or_endless_answer_holds_nothing_up() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let both_rest = tokio::sync::Notify::new();
    let service = async {
        let mut first = upstream.accept().await;
        first
            .answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await;
        let mut second = upstream.accept().await;
        second.answer(OK).await;
        until_idle(&built, 1).await;
        // The rest comes in time, and the first connection rests beside the second.
        first.write("0\r\n\r\n").await;
        until_idle(&built, 2).await;
        both_rest.notify_one();
        // The last used is used first. This time there is more than is read off.
        first
            .answer("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
            .await;
        let filler = vec![b'x'; 1 << 20];
        while first.0.write_all(&filler).await.is_ok() {}
        until_idle(&built, 1).await;
        second
    };
    let sender = async {
        deliver(&built).await.unwrap();
        deliver(&built).await.unwrap();
        both_rest.notified().await;
        deliver(&built).await.unwrap();
    };
    let (_second, ()) = tokio::join!(service, sender);
}

#[tokio::test]
async fn a_connection_the_service_closed_while_idle_is_not_used() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        upstream.accept().await.answer(OK).await;
        upstream.accept().await.answer(OK).await;
    };
    let sender = async {
        deliver(&built).await.unwrap();
        until_idle(&built, 0).await;
        deliver(&built).await.unwrap();
    };
    tokio::join!(service, sender);
    assert_eq!(built.metric("attempts_total", "accepted"), "2");
}

#[tokio::test]
async fn idle_connections_are_closed_before_the_service_would() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.answer(OK).await;
        peer
    };
    let (sent, mut peer) = tokio::join!(deliver(&built), service);
    sent.unwrap();
    until_idle(&built, 1).await;
    tokio::time::pause();
    let began = Instant::now();
    let mut rest = Vec::new();
    peer.0.read_to_end(&mut rest).await.unwrap();
    let idle = began.elapsed();
    assert!((3900..4500).contains(&idle.as_millis()), "{idle:?}");
}

#[tokio::test]
async fn connections_end_with_their_destination() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.answer(OK).await;
        peer
    };
    let (sent, mut peer) = tokio::join!(deliver(&built), service);
    sent.unwrap();
    until_idle(&built, 1).await;
    tokio::time::pause();
    let began = Instant::now();
    drop(built);
    let mut rest = Vec::new();
    assert_eq!(peer.0.read_to_end(&mut rest).await.unwrap(), 0);
    assert!(began.elapsed() < Duration::from_secs(1), "at once");
}

#[tokio::test]
async fn a_503_is_tried_again_once_and_nothing_else_is() {
    let unavailable = "HTTP/1.1 503 No\r\ncontent-length: 0\r\nretry-after: 0\r\n\r\n";
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config("backoff = '1ms'"));
    let service = async {
        let mut peer = upstream.accept().await;
        for answer in [unavailable, OK, unavailable, unavailable] {
            peer.answer(answer).await;
        }
        peer.answer("HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let sender = async {
        deliver(&built).await.unwrap();
        assert_eq!(status(deliver(&built).await), 503);
        assert_eq!(status(deliver(&built).await), 502);
    };
    tokio::join!(service, sender);
    assert_eq!(built.metric("attempts_total", "refused"), "4");
    assert_eq!(built.metric("attempts_total", "accepted"), "1");
    assert_eq!(built.metric("delivery_duration_seconds_count", ""), "3");
}

#[tokio::test]
async fn a_retry_after_that_does_not_fit_the_budget_ends_the_delivery() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.answer("HTTP/1.1 503 No\r\ncontent-length: 0\r\nretry-after: 60\r\n\r\n")
            .await;
        peer
    };
    let (sent, _peer) = tokio::join!(deliver(&built), service);
    assert_eq!(status(sent), 503);
}

#[tokio::test]
async fn a_doubt_stays_after_a_retry_that_was_refused() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config("retry_on = ['reset']\nbackoff = '0s'"));
    let service = async {
        upstream.accept().await.request().await;
        let mut peer = upstream.accept().await;
        peer.answer("HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let (sent, ()) = tokio::join!(deliver(&built), service);
    let failure = sent.unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Refused);
    assert_eq!(failure.reason, Reason::Status(StatusCode::BAD_REQUEST));
    assert!(failure.may_have_arrived, "the first attempt");
}

#[tokio::test]
async fn an_event_is_held_while_a_service_restarts() {
    let upstream = Upstream::listen().await;
    let (address, built) = (upstream.address(), build(&upstream.config("")));
    drop(upstream);
    let service = async {
        // Joined after the delivery: its first try was refused by now or is on
        // its way; either way it comes again.
        let listener = TcpListener::bind(&address).await.unwrap();
        Peer(listener.accept().await.unwrap().0).answer(OK).await;
    };
    let (sent, ()) = tokio::join!(deliver(&built), service);
    sent.unwrap();
    assert_eq!(built.metric("attempts_total", "accepted"), "1");
    assert_eq!(built.metric("attempts_total", "failed"), "0");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_held_no_longer_than_configured() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let config = format!("type = 'http'\nurl = 'unix:{}:/x'\n", socket.display());
    for (more, held) in [("", 3000), ("hold = '500ms'", 400), ("hold = '0s'", 0)] {
        let built = build(&format!("{config}{more}"));
        let began = Instant::now();
        let failure = deliver(&built).await.unwrap_err();
        assert_eq!(failure.outcome, AttemptOutcome::Failed);
        assert!(!failure.may_have_arrived);
        let held = Duration::from_millis(held);
        assert_eq!(began.elapsed(), held);
        assert_eq!(failure.reason, Reason::ConnectRefused { held });
        assert_eq!(built.metric("attempts_total", "failed"), "1");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_not_held_past_the_budget() {
    let built = build("type = 'http'\nurl = 'unix:/no/such.sock:/x'\nhold = '1m'");
    let began = Instant::now();
    let sent = built
        .destination
        .deliver(&event().proven(), budget(1))
        .await;
    assert_eq!(sent.unwrap_err().outcome, AttemptOutcome::Failed);
    assert!(began.elapsed() <= Duration::from_secs(1));
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
async fn past_max_in_flight_a_delivery_is_busy_at_once() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config("max_in_flight = 1"));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        assert_eq!(built.destination.state().in_flight, 1);
        let failure = deliver(&built).await.unwrap_err();
        assert_eq!(failure.outcome, AttemptOutcome::Busy);
        assert_eq!(built.metric("destination_in_flight", ""), "1");
        peer.write(OK).await;
    };
    let (sent, ()) = tokio::join!(deliver(&built), service);
    sent.unwrap();
}

#[tokio::test]
async fn an_open_circuit_is_unavailable_at_once_and_told() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config("circuit_breaker = { failures = 2, open_for = '1h' }"));
    let service = async {
        // Two attempts of one delivery, and the circuit is open.
        let mut peer = upstream.accept().await;
        for _ in 0..2 {
            peer.answer("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    };
    let (sent, ()) = tokio::join!(deliver(&built), service);
    assert_eq!(status(sent), 503);
    let failure = deliver(&built).await.unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Unavailable);
    assert_eq!(built.metric("circuit_open", ""), "1");
    let told = built.destination.degraded();
    assert_eq!(
        told.unwrap(),
        "the circuit of destination `billing` is open"
    );
}

#[tokio::test]
async fn a_500_shows_that_the_service_is_there() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config("circuit_breaker = { failures = 1 }"));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.answer("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let (sent, ()) = tokio::join!(deliver(&built), service);
    assert_eq!(status(sent), 500);
    assert_eq!(built.destination.degraded(), None);
    assert_eq!(built.metric("destination_up", ""), "1");
}

#[tokio::test]
async fn a_delivery_that_is_given_up_leaves_nothing_behind() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let mut peer = {
        let service = async {
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer
        };
        tokio::select! {
            _ = deliver(&built) => unreachable!("nobody answers"),
            peer = service => peer,
        }
    };
    assert_eq!(built.metric("destination_in_flight", ""), "0");
    assert_eq!(built.destination.state().in_flight, 0);
    let mut rest = Vec::new();
    assert_eq!(peer.0.read_to_end(&mut rest).await.unwrap(), 0, "closed");
}

#[tokio::test]
async fn with_sign_the_family_is_signed_anew_with_a_fresh_timestamp() {
    let key = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(&format!("sign = '{key}'")));
    let event = event().proven();
    let service = async {
        let mut peer = upstream.accept().await;
        let (head, _) = peer.request().await;
        peer.write(OK).await;
        head
    };
    let (sent, head) = tokio::join!(deliver_event(&built, &event), service);
    sent.unwrap();
    let key = SigningKey::parse(key).unwrap();
    let token = key.sign(ID, NOW, event.body()).unwrap();
    for line in [
        format!("svix-id: {ID}"),
        format!("svix-timestamp: {NOW}"),
        format!("svix-signature: {token}"),
    ] {
        assert_eq!(
            head.matches(&format!("\r\n{line}\r\n")).count(),
            1,
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_stay_within_bounds_however_many_deliver() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config("max_in_flight = 8"));
    let (open, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let service = {
        let (open, peak) = (Arc::clone(&open), Arc::clone(&peak));
        tokio::spawn(async move {
            loop {
                let mut peer = upstream.accept().await;
                peak.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let open = Arc::clone(&open);
                tokio::spawn(async move {
                    while peer.0.readable().await.is_ok()
                        && peer.0.peek(&mut [0]).await.is_ok_and(|read| read > 0)
                    {
                        peer.answer(OK).await;
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        })
    };
    let senders: Vec<_> = (0..16)
        .map(|_| {
            let destination = Arc::clone(&built.destination);
            tokio::spawn(async move {
                let event = event().proven();
                for _ in 0..50 {
                    match destination.deliver(&event, budget(30)).await {
                        Ok(_) => {}
                        Err(failure) => assert_eq!(failure.outcome, AttemptOutcome::Busy),
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    service.abort();
    let peak = peak.load(Ordering::SeqCst);
    assert!((1..=16).contains(&peak), "{peak} connections");
}

#[tokio::test]
async fn a_request_that_was_never_written_comes_back_and_goes_out_afresh() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config(""));
    let Kind::Http(http) = &built.destination.kind else {
        unreachable!()
    };
    let event = event().proven();
    let attempt = super::Attempt {
        http,
        event: &event,
        deadline: budget(30).deadline,
    };
    // A connection nobody drives any more.
    let (io, _other) = tokio::io::duplex(64);
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .unwrap();
    drop(connection);
    let link = http.pool.opened(sender, Writing::Flat);
    let service = async {
        let mut peer = upstream.accept().await;
        let (head, body) = peer.request().await;
        peer.write(OK).await;
        (head, body)
    };
    let (sent, (head, body)) = tokio::join!(attempt.over(Some(link)), service);
    assert!(sent.is_ok());
    assert_eq!(body, event.body()[..]);
    assert_eq!(head.matches("svix-id: msg_1").count(), 1);
}
