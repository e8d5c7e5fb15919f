//! Services that break in every place of an answer, never come to its end, or say
//! more than they were asked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::audit::Promises;
use super::facts::{Arrival, Fact, Fate, Journal};
use super::lives::Lives;
use super::load::Load;
use super::{long, seeded, to_app};
use crate::support::{
    Gateway, Message, Recorded, Reply, Upstream, before_the_next_look, clerk_to, within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_breaks_anywhere_costs_no_event_and_doubles_none_it_accepted() {
    let seed = seeded();
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::create(&folder.path().join("facts")));
    let notes = Arc::clone(&journal);
    let dice = Mutex::new(Rng::with_seed(seed));
    let service = Upstream::scripted(move |_, request: &Recorded| {
        let (reply, fate) = match dice.lock().unwrap().u8(..16) {
            0 => (Reply::Reset, Fate::Cut),
            1 => (Reply::ResetInHead, Fate::Cut),
            2 => (Reply::Raw(String::new()), Fate::Cut),
            3 => (Reply::ResetAfterHead(200), Fate::Accepted),
            4 => (Reply::ResetAfterHead(500), Fate::Refused),
            5 => (Reply::Status(500), Fate::Refused),
            6 => (Reply::Status(503), Fate::Refused),
            7 => (Reply::Status(301), Fate::Refused),
            8 => (Reply::Raw("HTTP/1.1 2OO OK\r\n\r\n".into()), Fate::Cut),
            9 => (Reply::Raw("HTTP/1.1 200\r\n\r\n".into()), Fate::Accepted),
            _ => (Reply::Status(204), Fate::Accepted),
        };
        notes.note(Fact::Arrived(Arrival::at("app", request, fate)));
        reply
    })
    .await;
    let retrying = "circuit_breaker = \"off\"\nmax_attempts = 3\nretry_on = [\"503\", \"reset\"]";
    let mut lives = Lives::of(&to_app(&service, r#""app""#, retrying));
    lives.start().await;
    let load = Load::start(&journal, &lives.place(), 8, seed);

    for _ in 0..if long() { 50 } else { 1 } {
        journal.reached(journal.count() + 2500).await;
    }
    load.end().await;

    lives.tells_no_secret().await;
    lives.kill().await;
    let promises = Promises {
        required: vec!["app"],
        remembers: false,
        failing: false,
    };
    promises.hold(&journal.facts().await);
}

/// A service that does this with every connection once a request has come.
async fn peer<F, D>(then: F) -> String
where
    F: Fn(TcpStream) -> D + Send + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok() {
                tokio::spawn(then(stream));
            }
        }
    });
    url
}

/// Writes these bytes again and again, as fast as they are taken or a few at a
/// time, for as long as they are.
async fn forever(mut stream: TcpStream, begin: &str, again: &[u8], slowly: bool) {
    let _ = stream.write_all(begin.as_bytes()).await;
    while stream.write_all(again).await.is_ok() {
        if slowly {
            before_the_next_look().await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_late_or_failed_and_holds_nobody_up() {
    let drip = peer(|s| forever(s, "HTTP/1.1 200 OK\r\nx: ", b"y", true)).await;
    let status = peer(|s| forever(s, "HTTP/1.1 20", b"0", true)).await;
    let early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let hints = peer(|s| forever(s, "", early, true)).await;
    let flood = peer(|s| forever(s, "", early, false)).await;
    let go_on = peer(|s| forever(s, "", b"HTTP/1.1 100 Continue\r\n\r\n", false)).await;
    let nothing = peer(|s| forever(s, "", b"\r\n", false)).await;
    for (what, url) in [
        ("a head that drips", drip),
        ("a status line that drips", status),
        ("hints for ever", hints),
        ("a flood of hints", flood),
        ("go on, go on", go_on),
        ("empty lines", nothing),
    ] {
        let config = format!("{}timeout = \"1s\"\n", clerk_to(&url));
        let gateway = Gateway::start(&config).await;
        let began = Instant::now();

        let answer = gateway.send(&Message::new("msg_1")).await;

        let took = began.elapsed();
        assert!(matches!(answer.status, 502 | 504), "{what}: {answer:?}");
        assert!(took < Duration::from_secs(6), "{what}: {took:?}");
        assert!(gateway.peak_memory() < 100 << 20, "{what}");
        // The connection goes with the attempt: nothing is left that reads.
        let labels = [("destination", "app")];
        gateway
            .metrics_until("nothing to be under way", |metrics| {
                metrics.value("hookward_destination_in_flight", &labels) == 0.0
            })
            .await;
    }
}

#[tokio::test]
async fn a_body_without_end_after_an_acceptance_is_cut_and_the_event_is_accepted() {
    let (told, cut) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let url = peer(move |stream| {
        let told = told.lock().unwrap().take();
        async move {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            forever(stream, head, b"5\r\nhello\r\n", false).await;
            let _ = told.unwrap().send(());
        }
    })
    .await;
    let gateway = Gateway::start(&clerk_to(&url)).await;

    let answer = gateway.send(&Message::new("msg_1")).await;

    assert_eq!(answer.told(), (200, "delivered"));
    within("the service to be cut off", cut).await.unwrap();
    assert!(gateway.peak_memory() < 100 << 20);
}

/// What a service says beyond its answer must not become the answer to the next
/// request: that would be a receipt for an event it never saw, or refused.
#[tokio::test]
async fn what_a_service_says_unasked_is_the_answer_to_nothing() {
    let accepted = "HTTP/1.1 204 No Content\r\n\r\n";
    let refused = "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
    for twice in [
        format!("{accepted}{accepted}"),
        format!("{refused}{accepted}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n{accepted}{accepted}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{accepted}"),
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{accepted}"
        ),
    ] {
        let (url, second) = saying(twice.clone(), refused).await;
        let config = format!("{}circuit_breaker = \"off\"\n", clerk_to(&url));
        let gateway = Gateway::start(&config).await;
        let mut connection = gateway.connect().await;

        let mut accepted = Vec::new();
        for number in 0..if long() { 5000 } else { 100 } {
            let id = format!("msg_{number}");
            let message = Message::new(&id).seal();
            if connection.post("/clerk", &message).await.status == 200 {
                accepted.push(id);
            }
        }

        let expected = twice.starts_with(refused) || !accepted.is_empty();
        assert!(expected, "{twice:?}");
        let second = second.lock().unwrap();
        let astray: Vec<_> = accepted.iter().filter(|id| second.contains(*id)).collect();
        assert!(astray.is_empty(), "{twice:?} was the answer to {astray:?}");
    }
}

/// A service that says this to the first request on each connection, and refuses
/// all others: which those were.
async fn saying(said: String, refused: &'static str) -> (String, Arc<Mutex<HashSet<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let second = Arc::new(Mutex::new(HashSet::new()));
    let noted = Arc::clone(&second);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (said, noted) = (said.clone(), Arc::clone(&noted));
            tokio::spawn(async move {
                let mut request = [0; 8192];
                let mut say = &*said;
                // Small requests come in one piece.
                while let Ok(size @ 1..) = stream.read(&mut request).await {
                    let head = String::from_utf8_lossy(&request[..size]).into_owned();
                    let id = head.split("hookward-id: ").nth(1);
                    let id = id.and_then(|rest| rest.split("\r\n").next()).unwrap();
                    if say == refused {
                        noted.lock().unwrap().insert(id.to_owned());
                    }
                    if stream.write_all(say.as_bytes()).await.is_err() {
                        return;
                    }
                    say = refused;
                }
            });
        }
    });
    (url, second)
}

/// A service that closes an idle connection in the very moment in which it is used
/// again. Whether it read the request nobody can know (a reset tells that the
/// socket was closed, not what was read of it before), so it is not sent again by
/// us (RFC 9112 §9.3.1); the sender's next try is, on another connection.
#[tokio::test]
async fn a_connection_closed_in_the_moment_of_its_use_leaves_the_event_to_the_sender() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let service = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut request = [0; 8192];
        assert!(first.read(&mut request).await.unwrap() > 0);
        let accepted = b"HTTP/1.1 204 No Content\r\n\r\n";
        first.write_all(accepted).await.unwrap();
        // The next is there, and not a byte of it is read.
        first.readable().await.unwrap();
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let size = second.read(&mut request).await.unwrap();
        second.write_all(accepted).await.unwrap();
        (
            String::from_utf8_lossy(&request[..size]).into_owned(),
            second,
        )
    });
    let gateway = Gateway::start(&clerk_to(&url)).await;
    let mut connection = gateway.connect().await;
    let message = |id: &str| Message::new(id).seal();
    let before = connection.post("/clerk", &message("msg_1")).await;
    assert_eq!(before.told(), (200, "delivered"));

    let answer = connection.post("/clerk", &message("msg_2")).await;

    assert_eq!(answer.told(), (502, "failed"));
    let labels = [("destination", "app"), ("outcome", "unconfirmed")];
    let attempts = "hookward_attempts_total";
    assert_eq!(gateway.metrics().await.value(attempts, &labels), 1.0);
    let again = connection.post("/clerk", &message("msg_2")).await;
    assert_eq!(again.told(), (200, "delivered"));
    let (request, _open) = within("the retry", service).await.unwrap();
    assert!(request.contains("hookward-id: msg_2"), "{request}");
}
