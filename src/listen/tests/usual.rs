use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::task::yield_now;

use super::stand::Stand;

/// Asks for the names of the headers, which only the own way gives as they were sent.
const NAMES: &str = "POST /names HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

const CHUNKED: &str = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
    2\r\nab\r\n0\r\n\r\n";

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn usual_requests_are_read_here_and_from_the_first_other_one_on_by_hyper() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    for _ in 0..2 {
        visitor.say(NAMES).await;
        assert_eq!(visitor.answer().await.body, "Host Content-Length");
    }
    visitor.say(CHUNKED).await;
    assert_eq!(visitor.answer().await.body, "/b 2");
    visitor.say(NAMES).await;
    assert_eq!(visitor.answer().await.body, "host content-length");
    stand.finish().await;
}

#[tokio::test]
async fn requests_of_all_kinds_in_one_piece_are_answered_in_order() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    let text = [&post("/a", "abc"), NAMES, CHUNKED, NAMES, &post("/c", "")].concat();
    visitor.say(text).await;
    for body in [
        "/a 3",
        "Host Content-Length",
        "/b 2",
        "host content-length",
        "/c 0",
    ] {
        assert_eq!(visitor.answer().await.body, body);
    }
    stand.finish().await;
}

#[tokio::test]
async fn wherever_a_request_is_cut_it_arrives_whole_and_the_next_one_too() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    let text = [post("/a", "abcdefgh").as_str(), NAMES].concat();
    for cut in 1..text.len() {
        let (before, after) = text.split_at(cut);
        visitor.say(before).await;
        // The other task takes what has come.
        for _ in 0..3 {
            yield_now().await;
        }
        visitor.say(after).await;
        assert_eq!(visitor.answer().await.body, "/a 8", "{cut}");
        assert_eq!(visitor.answer().await.body, "Host Content-Length", "{cut}");
    }
    stand.finish().await;
}

#[tokio::test]
async fn who_hangs_up_is_not_worked_for() {
    let stand = Stand::start(|_| {});
    // Here with the head, read from the connection, and after another one.
    for (before, length) in [("", 10), ("", 50_000), (NAMES, 10)] {
        let mut visitor = stand.visit().await;
        visitor.say(before).await;
        visitor.post("/hold", &"x".repeat(length)).await;
        stand
            .until(|stand| stand.handled.get() == 1 && stand.buffered.get() == length as i64)
            .await;
        visitor.stream.shutdown().await.unwrap();
        stand.until(|stand| stand.handled.get() == 0).await;
        stand.until(|stand| stand.connections.get() == 0).await;
    }
    stand.finish().await;
}

#[tokio::test]
async fn a_body_that_was_not_read_closes_even_where_it_was_here() {
    let stand = Stand::start(|_| {});
    for length in [1, 5000] {
        let mut visitor = stand.visit().await;
        let text = [post("/early", &"x".repeat(length)).as_str(), NAMES].concat();
        visitor.say(text).await;
        assert!(visitor.answer().await.closes());
        visitor.ended().await;
    }
    let mut visitor = stand.visit().await;
    assert!(
        !visitor.asks("/early", "").await.closes(),
        "there is none to read"
    );
    stand.finish().await;
}

#[tokio::test]
async fn an_unwanted_body_is_only_read_off_where_it_is_short() {
    let stand = Stand::start(|_| {});
    // Each is with the kernel as a whole before anybody reads.
    for (length, closes) in [(10_000, false), (65_000, false), (66_000, true)] {
        let mut visitor = stand.visit().await;
        let text = post("/skip", &"x".repeat(length));
        assert_eq!(
            visitor.stream.try_write(text.as_bytes()).unwrap(),
            text.len()
        );
        assert_eq!(visitor.answer().await.closes(), closes, "{length}");
    }
    stand.finish().await;
}

#[tokio::test]
async fn an_answer_that_has_no_body_announces_none() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    let answer = visitor.asks("/none", "").await;
    assert_eq!(answer.status, 204);
    assert!(!answer.head.contains("content-length"), "RFC 9110 §8.6");
    assert_eq!(visitor.asks("/a", "abc").await.body, "/a 3");
    stand.finish().await;
}

#[tokio::test]
async fn the_beginning_of_a_head_that_was_sent_ahead_has_the_time_of_a_head() {
    let stand = Stand::start(|limits| {
        limits.header_timeout = Duration::from_millis(150);
        limits.idle_timeout = Duration::from_secs(3600);
    });
    let mut visitor = stand.visit().await;
    visitor.say(post("/a", "abc") + "POST / HT").await;
    assert_eq!(visitor.answer().await.body, "/a 3");
    assert_eq!(visitor.closed().await, "");
    stand.finish().await;
}

#[tokio::test]
async fn the_beginning_of_a_head_does_not_hold_up_the_end() {
    let stand = Stand::start(|limits| {
        limits.header_timeout = Duration::from_millis(150);
        limits.idle_timeout = Duration::from_secs(3600);
    });
    let mut usual = stand.visit().await;
    usual.say(post("/a", "abc") + "POST / HT").await;
    usual.answer().await;
    let mut other = stand.visit().await;
    other.say([CHUNKED, "POST / HT"].concat()).await;
    other.answer().await;
    // `finish` asserts that nobody had to be cut.
    stand.finish().await;
    assert_eq!(
        (usual.closed().await, other.closed().await),
        Default::default()
    );
}

#[tokio::test]
async fn a_head_that_is_half_here_is_still_answered_when_all_of_it_comes() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    let (half, rest) = NAMES.split_at(30);
    visitor.say(half).await;
    // The server is known to have read it once somebody after it is answered.
    stand.visit().await.asks("/", "").await;
    stand.stop.finish(Duration::from_secs(10));
    stand.visit_is_refused().await;
    visitor.say(rest).await;
    let answer = visitor.answer().await;
    assert_eq!(
        (answer.body.as_str(), answer.closes()),
        ("Host Content-Length", true)
    );
    visitor.ended().await;
    assert_eq!(stand.ended().await, 0);
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_answered_in_order() {
    let stand = Stand::start(|_| {});
    let (mut reader, mut writer) = stand.visit().await.stream.into_split();
    let all: String = (0..1000)
        .map(|number| post(&format!("/{number}"), "ab"))
        .collect();
    let writing = tokio::spawn(async move {
        writer.write_all(all.as_bytes()).await.unwrap();
        writer
    });
    let mut read = Vec::new();
    while read.windows(6).filter(|window| window == b"HTTP/1").count() < 1000
        || !read.ends_with(b"/999 2")
    {
        let more = tokio::io::AsyncReadExt::read_buf(&mut reader, &mut read).await;
        assert_ne!(more.unwrap(), 0);
    }
    let text = String::from_utf8(read).unwrap();
    let bodies = text
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer.rsplit("\r\n\r\n").next().unwrap());
    assert!(bodies.eq((0..1000).map(|number| format!("/{number} 2"))));
    drop((reader, writing.await.unwrap()));
    stand.finish().await;
}
