use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::stand::{Stand, Visitor};
use crate::listen::connection::House;
use crate::listen::room::Room;
use crate::listen::{Connection, Limits, Stop};
use crate::message::Protocol;

const SHORT: Duration = Duration::from_millis(150);

fn hasty() -> Stand {
    Stand::start(|limits| limits.header_timeout = SHORT)
}

#[tokio::test]
async fn who_says_nothing_is_closed_without_an_answer() {
    let stand = hasty();
    assert_eq!(stand.visit().await.closed().await, "");
    stand.finish().await;
}

#[tokio::test]
async fn half_a_head_is_closed_without_an_answer() {
    let stand = hasty();
    let mut visitor = stand.visit().await;
    visitor.say("POST / HTTP/1.1\r\nhost:").await;
    assert_eq!(visitor.closed().await, "");
    stand.finish().await;
}

#[tokio::test]
async fn a_head_that_drips_is_closed_when_its_time_is_up() {
    let stand = hasty();
    let (mut reader, mut writer) = stand.visit().await.stream.into_split();
    let drip = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let mut dripped = 0;
        // A thousand bytes would take 5 s: 50 times the whole time of a head.
        while dripped < 1000 && writer.write_all(b"x").await.is_ok() {
            tick.tick().await;
            dripped += 1;
        }
        dripped
    });
    let mut read = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut read).await;
    assert!(read.is_empty());
    assert!(drip.await.unwrap() < 1000, "it could drip to its end");
    stand.finish().await;
}

#[tokio::test]
async fn a_later_head_that_drips_is_closed_too() {
    let stand = hasty();
    let mut visitor = stand.visit().await;
    assert_eq!(visitor.asks("/", "abc").await.body, "/ 3");
    visitor.say("POST / HTT").await;
    assert_eq!(visitor.closed().await, "");
    stand.finish().await;
}

#[tokio::test]
async fn a_connection_between_requests_outlives_the_time_of_a_head() {
    let stand = Stand::start(|limits| {
        limits.header_timeout = SHORT;
        limits.idle_timeout = 15 * SHORT;
    });
    let mut kept = stand.visit().await;
    assert_eq!(kept.asks("/", "").await.status, 200);
    // Another that says nothing tells when the time of a head is over.
    stand.visit().await.closed().await;
    stand.visit().await.closed().await;
    let answer = kept.asks("/", "ab").await;
    assert_eq!((answer.status, answer.closes()), (200, false));
    assert_eq!(kept.closed().await, "", "closed when idle for too long");
    stand.finish().await;
}

#[tokio::test]
async fn a_request_under_way_outlives_every_timeout_of_the_connection() {
    let stand = Stand::start(|limits| {
        limits.header_timeout = SHORT;
        limits.idle_timeout = SHORT;
    });
    let mut held = stand.visit().await;
    held.post("/hold", "abc").await;
    stand.visit().await.closed().await;
    stand.visit().await.closed().await;
    stand.gate.add_permits(1);
    assert_eq!(held.answer().await.body, "/hold 3");
    stand.finish().await;
}

#[tokio::test]
async fn a_head_begins_with_its_first_byte() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    visitor.say("POST / HTTP/1.1\r\n").await;
    // The server is known to have read it once somebody after it is answered.
    stand.visit().await.asks("/", "").await;
    let before = Instant::now();
    visitor.say("content-length: 0\r\n\r\n").await;
    visitor.answer().await;
    let (began, whole) = stand.heads.lock().unwrap()[1];
    assert!(began < before && before < whole);
    assert_eq!(visitor.asks("/", "").await.status, 200);
    let (began, _) = stand.heads.lock().unwrap()[2];
    assert!(began > whole);
    stand.finish().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_the_answer_is_closed() {
    let hour = Duration::from_secs(3600);
    let stand = Stand::start(|limits| {
        limits.header_timeout = hour;
        limits.idle_timeout = hour;
    });
    let mut visitor = stand.visit().await;
    visitor.post("/large", "").await;
    let began = Instant::now();
    // Time is paused and goes on only when everybody waits.
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    while stand.heads.lock().unwrap().is_empty() || stand.connections.get() > 0 {
        tick.tick().await;
        assert!(began.elapsed() < Duration::from_secs(60), "it stays open");
    }
    assert!(began.elapsed() >= Duration::from_secs(10));
    stand.finish().await;
}

fn connection() -> Arc<Connection> {
    let (connection, _) = in_a_room();
    connection
}

fn in_a_room() -> (Arc<Connection>, Arc<Room>) {
    in_a_room_with(Duration::from_secs(5))
}

fn in_a_room_with(crowded_timeout: Duration) -> (Arc<Connection>, Arc<Room>) {
    let limits = Limits {
        header_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(75),
        crowded_timeout,
        max_connections: 1,
    };
    let room = Arc::new(Room::default());
    let house = House {
        limits,
        room: Arc::clone(&room),
        stop: Stop::new(),
    };
    let connection = Connection::new(None, Protocol::Http, house);
    (Arc::new(connection), room)
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_deadline() {
    let second = Duration::from_secs(1);
    let connection = connection();
    let accepted = Instant::now();
    assert_eq!(connection.deadline(), Some(accepted + 5 * second));
    tokio::time::advance(2 * second).await;
    connection.came();
    tokio::time::advance(second).await;
    connection.came();
    assert_eq!(
        connection.deadline(),
        Some(accepted + 5 * second),
        "the first head's time runs from the accept"
    );
    connection.head_whole(true);
    assert_eq!(connection.deadline(), None);
    assert_eq!(connection.began(), accepted + 2 * second);

    connection.came();
    connection.body_ended();
    connection.proven();
    connection.answered();
    connection.wrote(false);
    assert_eq!(connection.deadline(), Some(Instant::now() + 10 * second));
    tokio::time::advance(9 * second).await;
    connection.wrote(true);
    connection.wrote(false);
    assert_eq!(connection.deadline(), Some(Instant::now() + 10 * second));
    connection.wrote(true);
    connection.flushed();
    assert_eq!(connection.deadline(), Some(Instant::now() + 75 * second));

    tokio::time::advance(70 * second).await;
    connection.came();
    assert_eq!(connection.deadline(), Some(Instant::now() + 5 * second));
    assert!(connection.lingers(), "half a head is unread");
    assert_eq!(connection.deadline(), Some(Instant::now() + second));
}

#[tokio::test(start_paused = true)]
async fn in_a_full_house_who_has_proven_nothing_is_not_kept() {
    let second = Duration::from_secs(1);
    let (connection, room) = in_a_room();
    let answer = |proven| {
        connection.came();
        connection.head_whole(false);
        if proven {
            connection.proven();
        }
        let last = connection.answered();
        connection.flushed();
        last
    };
    assert!(!answer(false));
    let idle = Instant::now();
    assert_eq!(
        connection.deadline(),
        Some(idle + 5 * second),
        "looks again after the time of a head"
    );
    tokio::time::advance(70 * second).await;
    assert_eq!(connection.deadline(), Some(idle + 75 * second));
    room.set_full(true);
    assert!(connection.deadline() <= Some(Instant::now()));

    assert!(answer(false), "told that it was the last answer");
    assert!(!answer(true));
    assert_eq!(connection.deadline(), Some(Instant::now() + 75 * second));
    assert!(answer(false), "what it once proved is over");
    assert_eq!(connection.deadline(), Some(Instant::now() + 5 * second));
}

#[tokio::test(start_paused = true)]
async fn in_a_full_house_silence_and_half_a_head_have_the_time_of_a_crowd() {
    let crowded = Duration::from_millis(100);
    let (connection, room) = in_a_room_with(crowded);
    let accepted = Instant::now();
    assert_eq!(connection.deadline(), Some(accepted + crowded), "looks");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(connection.deadline(), Some(Instant::now() + crowded));
    room.set_full(true);
    assert_eq!(connection.deadline(), Some(accepted + crowded), "goes");

    connection.came();
    assert_eq!(connection.deadline(), Some(Instant::now() + crowded));
    connection.head_whole(false);
    assert_eq!(connection.deadline(), None, "a request is at work");
    connection.proven();
    connection.answered();
    connection.flushed();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(connection.deadline() > Some(Instant::now() + Duration::from_secs(70)));
    connection.came();
    let whole = Instant::now() + Duration::from_secs(5);
    assert_eq!(connection.deadline(), Some(whole));
}

#[tokio::test(start_paused = true)]
async fn a_request_sent_ahead_begins_when_the_answer_before_it_is_out() {
    let connection = connection();
    connection.came();
    connection.head_whole(false);
    tokio::time::advance(Duration::from_secs(3)).await;
    connection.answered();
    connection.flushed();
    connection.head_whole(false);
    assert_eq!(connection.began(), Instant::now());
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let stand = Stand::start(|_| {});
    let mut visitor = stand.visit().await;
    let one =
        |path: &str| format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
    visitor
        .say(format!("{}{}{}", one("/hold"), one("/b"), one("/c")))
        .await;
    stand
        .until(|stand| stand.heads.lock().unwrap().len() == 1)
        .await;
    stand.gate.add_permits(1);
    for expected in ["/hold 3", "/b 3", "/c 3"] {
        assert_eq!(visitor.answer().await.body, expected);
    }
    stand.finish().await;
}

#[tokio::test]
async fn many_who_say_nothing_do_not_keep_a_good_sender_out_for_ever() {
    crate::listen::raise_open_files(0);
    let stand = Stand::start(|limits| {
        limits.header_timeout = 3 * SHORT;
        limits.max_connections = 500;
    });
    let mut silent = Vec::new();
    for _ in 0..800 {
        // Without the runtime, so that nobody is accepted meanwhile.
        silent.push(std::net::TcpStream::connect(&stand.at).unwrap());
    }
    let stream = std::net::TcpStream::connect(&stand.at).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut good = Visitor::new(tokio::net::TcpStream::from_std(stream).unwrap());
    assert_eq!(good.asks("/", "abc").await.body, "/ 3");
    assert!(stand.connections.get() <= 500);
    drop(silent);
    stand.finish().await;
}
