use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::{deliver, until_idle};
use crate::deliver::Kind;
use crate::deliver::fixture::{OK, Upstream, budget, build, event};
use crate::deliver::http::attempt::Attempt;
use crate::deliver::http::stream::Stream;
use crate::deliver::http::wire::Wire;
use crate::observe::AttemptOutcome;

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
    let attempt = Attempt {
        http,
        event: &event,
        budget: budget(30),
    };
    // A connection that takes no byte any more.
    let (stream, _other) = UnixStream::pair().unwrap();
    let stream = stream.into_std().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let stream = UnixStream::from_std(stream).unwrap();
    let link = http.pool.opened(Wire::new(Stream::Unix(stream)));
    let service = async {
        let mut peer = upstream.accept().await;
        let (head, body) = peer.request().await;
        peer.write(OK).await;
        (head, body)
    };
    let (sent, (head, body)) = tokio::join!(attempt.over(Some(link), Instant::now()), service);
    assert!(sent.is_ok());
    assert_eq!(body, event.body()[..]);
    assert_eq!(head.matches("svix-id: msg_1").count(), 1);
}
