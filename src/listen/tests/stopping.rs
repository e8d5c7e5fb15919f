use std::time::Duration;

use tokio::net::TcpStream;

use super::stand::{Stand, Visitor};

#[tokio::test]
async fn leaving_goes_on_as_ever_and_asks_to_go_elsewhere() {
    let stand = Stand::start(|_| {});
    let mut old = stand.visit().await;
    assert!(!old.asks("/", "").await.closes());
    stand.stop.leave();
    assert!(old.asks("/", "").await.closes());
    let answer = stand.visit().await.asks("/", "").await;
    assert_eq!((answer.status, answer.closes()), (200, true));
    stand.finish().await;
}

#[tokio::test]
async fn closing_takes_nobody_new_and_keeps_who_is_there() {
    let stand = Stand::start(|_| {});
    let mut idle = stand.visit().await;
    idle.asks("/", "").await;
    let mut held = stand.visit().await;
    held.post("/hold", "ab").await;
    stand
        .until(|stand| stand.heads.lock().unwrap().len() == 2)
        .await;

    stand.stop.close();
    // Refused once the socket is closed, which takes the acceptor a turn.
    stand.visit_is_refused().await;

    let answer = idle.asks("/", "abc").await;
    assert_eq!((answer.body.as_str(), answer.closes()), ("/ 3", true));
    assert_eq!(idle.closed().await, "");
    stand.gate.add_permits(1);
    assert!(held.answer().await.closes());
    drop(held);
    assert_eq!(stand.ended().await, 0, "it ends with the last connection");
}

#[tokio::test]
async fn who_the_kernel_let_in_before_closing_is_still_answered() {
    let stand = Stand::start(|_| {});
    let mut waiting = Vec::new();
    for _ in 0..3 {
        // Without the runtime, so that the acceptor does not see them.
        let stream = std::net::TcpStream::connect(&stand.at).unwrap();
        stream.set_nonblocking(true).unwrap();
        waiting.push(Visitor::new(TcpStream::from_std(stream).unwrap()));
    }
    stand.stop.close();
    for visitor in &mut waiting {
        assert!(visitor.asks("/", "").await.closes());
    }
    drop(waiting);
    assert_eq!(stand.ended().await, 0);
}

#[tokio::test]
async fn finishing_ends_the_idle_and_waits_for_the_answers() {
    let stand = Stand::start(|_| {});
    let mut idle = stand.visit().await;
    idle.asks("/", "").await;
    let mut silent = stand.visit().await;
    let mut held = stand.visit().await;
    held.post("/hold", "ab").await;
    stand
        .until(|stand| stand.heads.lock().unwrap().len() == 2)
        .await;

    stand.stop.finish(Duration::from_secs(10));
    assert_eq!(idle.closed().await, "");
    assert_eq!(silent.closed().await, "");
    assert_eq!(stand.connections.get(), 1);
    stand.gate.add_permits(1);
    let answer = held.answer().await;
    assert_eq!((answer.body.as_str(), answer.closes()), ("/hold 2", true));
    assert_eq!(held.closed().await, "");
    assert_eq!(stand.ended().await, 0);
}

#[tokio::test]
async fn what_takes_longer_than_it_may_is_cut_and_counted() {
    let stand = Stand::start(|_| {});
    let mut held = stand.visit().await;
    held.post("/hold", "ab").await;
    stand
        .until(|stand| stand.heads.lock().unwrap().len() == 1)
        .await;
    stand.stop.finish(Duration::from_millis(50));
    assert_eq!(held.closed().await, "");
    assert_eq!(stand.ended().await, 1);
}

#[tokio::test]
async fn cutting_waits_for_nobody() {
    let stand = Stand::start(|_| {});
    let mut held = stand.visit().await;
    held.post("/hold", "ab").await;
    stand
        .until(|stand| stand.heads.lock().unwrap().len() == 1)
        .await;
    stand.stop.finish(Duration::from_secs(3600));
    stand.stop.cut();
    assert_eq!(held.closed().await, "");
    assert_eq!(stand.ended().await, 1);
}

#[tokio::test]
async fn a_request_that_is_already_here_is_answered_before_the_end() {
    let stand = Stand::start(|_| {});
    let mut kept = stand.visit().await;
    kept.asks("/", "").await;
    // Sent, and then told to finish, before the runtime comes to either.
    let said = kept
        .stream
        .try_write(b"POST /b HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(said.unwrap(), 29);
    stand.stop.finish(Duration::from_secs(10));
    let answer = kept.answer().await;
    assert_eq!((answer.body.as_str(), answer.closes()), ("/b 0", true));
    assert_eq!(stand.ended().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn among_many_threads_every_request_that_is_taken_is_answered() {
    let stand = Stand::start(|limits| limits.max_connections = 8);
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let at = stand.at.clone();
        senders.spawn(async move {
            for _ in 0..20 {
                let mut visitor = Visitor::new(TcpStream::connect(&at).await.unwrap());
                for length in [0, 10, 50_000] {
                    let answer = visitor.asks("/", &"x".repeat(length)).await;
                    if answer.closes() {
                        assert_eq!(answer.status, 503, "more than three large ones");
                        break;
                    }
                    assert_eq!(answer.body, format!("/ {length}"));
                }
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    stand.finish().await;
}
