use tokio::io::AsyncWriteExt as _;

use super::stand::Stand;

#[tokio::test]
async fn bodies_are_read_and_the_connection_goes_on() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    for length in [0, 1, 70_000, 100_000] {
        let answer = visitor.asks("/a", &"x".repeat(length)).await;
        assert_eq!((answer.body, answer.status), (format!("/a {length}"), 200));
    }
    visitor
        .say("POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")
        .await;
    assert_eq!(visitor.answer().await.body, "/b 5");
    assert_eq!(visitor.asks("/c", "ab").await.body, "/c 2");
    stand.finish().await;
}

#[tokio::test]
async fn a_body_that_stops_is_slow() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    visitor
        .say("POST /quick HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
        .await;
    let answer = visitor.answer().await;
    assert_eq!((answer.status, answer.closes()), (408, true));
    assert_eq!(visitor.closed().await, "");
    stand.finish().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_by_its_length_and_by_its_chunks() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    visitor
        .say("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100001\r\n\r\n")
        .await;
    let answer = visitor.answer().await;
    assert_eq!((answer.status, answer.closes()), (413, true));

    let mut visitor = stand.visit().await;
    visitor
        .say("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("61a9\r\n{}\r\n", "x".repeat(25_001));
    for _ in 0..4 {
        visitor.say(&chunk).await;
    }
    let answer = visitor.answer().await;
    assert_eq!((answer.status, answer.closes()), (413, true));
    drop(visitor);
    stand.finish().await;
}

#[tokio::test]
async fn a_body_that_finds_no_memory_left_is_refused_at_once() {
    let stand = Stand::start(|_| {});
    let mut first = stand.visit().await;
    first
        .say("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n")
        .await;
    // Announced, it takes a little; then twice what has come, until that is all.
    stand.until(|stand| stand.buffered.get() == 16_384).await;
    first.say("x".repeat(70_000)).await;
    stand.until(|stand| stand.buffered.get() == 100_000).await;
    let mut second = stand.visit().await;
    assert_eq!(second.asks("/", &"x".repeat(60_000)).await.status, 503);
    first.say("x".repeat(30_000)).await;
    assert_eq!(first.answer().await.body, "/ 100000");
    drop(second);
    stand.until(|stand| stand.buffered.get() == 0).await;
    stand.finish().await;
}

#[tokio::test]
async fn a_small_body_is_read_and_counted_although_no_memory_is_left() {
    let stand = Stand::start(|_| {});
    let mut crowd = Vec::new();
    for length in [100_000, 50_000] {
        let mut stranger = stand.visit().await;
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        stranger.say(head).await;
        stranger.say("x".repeat(length - 1)).await;
        crowd.push(stranger);
    }
    stand.until(|stand| stand.buffered.get() == 150_000).await;

    let mut together = stand.visit().await;
    together.post("/hold", &"x".repeat(1000)).await;
    stand.until(|stand| stand.buffered.get() == 151_000).await;
    let mut apart = stand.visit().await;
    apart
        .say("POST /hold HTTP/1.1\r\nhost: a\r\ncontent-length: 4096\r\n\r\n")
        .await;
    stand.until(|stand| stand.buffered.get() == 155_096).await;
    apart.say("x".repeat(4096)).await;
    stand.gate.add_permits(2);

    assert_eq!(together.answer().await.body, "/hold 1000");
    assert_eq!(apart.answer().await.body, "/hold 4096");
    let mut large = stand.visit().await;
    assert_eq!(large.asks("/", &"x".repeat(5000)).await.status, 503);
    drop((crowd, large));
    stand.until(|stand| stand.buffered.get() == 0).await;
    stand.finish().await;
}

#[tokio::test]
async fn a_sender_that_goes_away_gives_its_memory_back() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    visitor
        .say("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nabc")
        .await;
    stand.until(|stand| stand.buffered.get() == 16_384).await;
    drop(visitor);
    stand
        .until(|stand| stand.buffered.get() == 0 && stand.connections.get() == 0)
        .await;
    stand.finish().await;
}

#[tokio::test]
async fn an_early_answer_is_seen_by_who_writes_first_and_reads_then() {
    let stand = Stand::start(|_| {});
    for length in [1_000, 60_000] {
        let mut visitor = stand.visit().await;
        let head = format!("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        visitor.say(head).await;
        for piece in vec![b'x'; length].chunks(10_000) {
            // The other is answered after this one was: had the connection been
            // closed, it would be known by now, and writing would fail.
            stand.visit().await.asks("/", "").await;
            visitor.say(piece).await;
        }
        let answer = visitor.answer().await;
        assert_eq!((answer.status, answer.closes()), (413, true), "{length}");
        assert_eq!(answer.body, "early");
        visitor.ended().await;
    }
    stand.finish().await;
}

#[tokio::test]
async fn who_goes_on_writing_is_closed_in_the_end_and_has_the_answer() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    visitor
        .say("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 50000000\r\n\r\n")
        .await;
    stand
        .until(|stand| !stand.heads.lock().unwrap().is_empty())
        .await;
    let written = visitor.stream.write_all(&vec![b'x'; 50_000_000]).await;
    assert!(written.is_err(), "50 MB were read off");
    assert_eq!(visitor.answer().await.status, 413);
    stand.finish().await;
}

#[tokio::test]
async fn a_refused_body_that_is_already_here_does_not_cost_the_connection() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    for _ in 0..3 {
        let answer = visitor.asks("/skip", "a small body").await;
        assert_eq!((answer.status, answer.closes()), (401, false));
    }
    visitor
        .say("POST /skip HTTP/1.1\r\nhost: a\r\ncontent-length: 50000\r\n\r\nabc")
        .await;
    assert!(visitor.answer().await.closes());
    drop(visitor);
    stand.finish().await;
}

#[tokio::test]
async fn who_expects_to_be_told_to_continue_is_refused_without_it() {
    let stand = Stand::start(|_| {});
    for path in ["/early", "/skip"] {
        let mut visitor = stand.visit().await;
        visitor
            .say(format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"))
            .await;
        let answer = visitor.answer().await;
        assert!(matches!(answer.status, 401 | 413), "{answer:?}");
        assert!(answer.closes());
    }
    stand.finish().await;
}

#[tokio::test]
async fn what_is_not_http_is_told_so_and_closed() {
    let stand = Stand::start(|_| {});
    let header = format!("a: {}\r\n", "x".repeat(500));
    for (text, status) in [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (
            "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_owned(),
            "400",
        ),
        (
            format!("POST / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)),
            "431",
        ),
        (
            format!("POST / HTTP/1.1\r\n{}\r\n", header.repeat(40)),
            "431",
        ),
        (format!("POST / HTTP/1.1\r\n{}", header.repeat(80)), "431"),
    ] {
        let mut visitor = stand.visit().await;
        visitor.say(&text).await;
        let answer = visitor.closed().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    stand.finish().await;
}

#[tokio::test]
async fn the_service_can_say_that_an_answer_is_the_last() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    assert!(visitor.asks("/last", "").await.closes());
    assert_eq!(visitor.closed().await, "");
    stand.finish().await;
}
