use std::time::Duration;

use http::StatusCode;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::{deliver, status};
use crate::deliver::fixture::{OK, Peer, Upstream, budget, build, event};
use crate::deliver::{CircuitState, Reason};
use crate::observe::AttemptOutcome;

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
async fn an_event_is_held_as_long_as_configured_with_a_last_try_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let config = format!("type = 'http'\nurl = 'unix:{}:/x'\n", socket.display());
    for (more, held) in [("", 3000), ("hold = '500ms'", 500), ("hold = '0s'", 0)] {
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
async fn past_max_in_flight_a_delivery_waits_its_turn_while_the_runtime_is_behind() {
    let upstream = Upstream::listen().await;
    let built = build(&upstream.config("max_in_flight = 1"));
    let service = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        tokio::spawn(async {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
        });
        let answers = async {
            peer.write(OK).await;
            peer.request().await;
            peer.write(OK).await;
        };
        let (second, ()) = tokio::join!(deliver(&built), answers);
        second.unwrap();
    };
    let (first, ()) = tokio::join!(deliver(&built), service);
    first.unwrap();
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
