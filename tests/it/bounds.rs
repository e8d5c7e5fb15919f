//! Memory, connections and time stay bounded under any load, and overload is
//! told quickly (P5).

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::{Answer, Connection, Gateway, Message, Reply, Upstream, clerk_to, within};

#[tokio::test]
async fn silent_and_half_sent_connections_are_closed_in_time_and_disturb_nobody() {
    crate::support::allow_open_files();
    let upstream = Upstream::start().await;
    let config = format!(
        "server.header_timeout = \"2s\"\nserver.body_timeout = \"2s\"\n{}",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;
    let began = Instant::now();
    let mut closing = JoinSet::new();
    for number in 0..900 {
        let mut connection = gateway.connect().await;
        if number % 9 == 0 {
            connection
                .write(b"POST /clerk HTTP/1.1\r\nHost: a\r\nsvix-i")
                .await;
        }
        closing.spawn(async move { (connection.closed().await, began.elapsed()) });
    }

    let mut times = Vec::new();
    let mut connection = gateway.connect().await;
    for number in 0..200 {
        let message = Message::new(&format!("msg_{number}")).seal();
        let sent = Instant::now();
        assert_eq!(connection.post("/clerk", &message).await.status, 200);
        times.push(sent.elapsed());
    }

    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100 - 1];
    assert!(p99 < Duration::from_millis(250), "{p99:?}");
    for (bytes, after) in closing.join_all().await {
        assert_eq!(
            bytes, 0,
            "a connection without a head is closed without a word"
        );
        assert!(after < Duration::from_secs(12), "closed after {after:?}");
    }
    gateway
        .metrics_until("their connections to be given back", |metrics| {
            metrics.value("hookward_connections", &[]) <= 2.0
        })
        .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let upstream = Upstream::start().await;
    let config = format!("server.idle_timeout = \"1s\"\n{}", clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;
    let mut connection = gateway.connect().await;
    connection
        .post("/clerk", &Message::new("msg_1").seal())
        .await;
    let began = Instant::now();

    assert_eq!(connection.closed().await, 0);

    let after = began.elapsed();
    assert!(after >= Duration::from_millis(900), "{after:?}");
    assert!(after < Duration::from_secs(10), "{after:?}");
}

#[tokio::test]
async fn six_hundred_senders_of_a_megabyte_each_do_not_fill_the_memory() {
    const BUDGET: u64 = 32 << 20;
    crate::support::allow_open_files();
    let upstream = Upstream::always(Reply::Held(200)).await;
    let config = format!(
        "server.max_buffered = \"32 MiB\"\nserver.max_in_flight = 4096\n{}max_in_flight = 1000\n",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;
    let before = gateway.peak_memory();
    let message = Message::new("msg_1").body(vec![b'x'; 1_000_000]);
    let sealed = std::sync::Arc::new(message.seal().request("/clerk"));
    let mut senders = JoinSet::new();
    for _ in 0..600 {
        let (mut connection, request) = (gateway.connect().await, sealed.clone());
        senders.spawn(async move {
            let _ = connection.try_write(&request).await;
            connection.try_answer().await.unwrap()
        });
    }
    upstream.reached(1).await;
    // Everybody for whom there is no room is told while the others wait.
    let mut busy = 0;
    let mut delivered = 0;
    let mut judge = |answer: Answer| match answer.told() {
        (503, "busy") => {
            assert!(answer.header("retry-after").is_some());
            busy += 1;
        }
        (200, "delivered" | "duplicate") => delivered += 1,
        _ => panic!("{answer:?}"),
    };
    for _ in 0..560 {
        judge(senders.join_next().await.unwrap().unwrap());
    }
    upstream.release(600);
    while let Some(answer) = senders.join_next().await {
        judge(answer.unwrap());
    }

    assert!(busy >= 560, "{busy} busy, {delivered} delivered");
    assert!(delivered >= 1, "{busy} busy, {delivered} delivered");
    // Beside the budget: 64 KiB of socket reading for each, and the rest.
    let grown = gateway.peak_memory() - before;
    assert!(grown < BUDGET + (96 << 20), "{} MiB", grown >> 20);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value("hookward_buffered_bytes", &[]), 0.0);
    let after = gateway.send(&Message::new("msg_2")).await;
    assert_eq!(after.told(), (200, "delivered"));
}

/// A head that promises this body, whole.
fn promised(size: usize) -> (Vec<u8>, Vec<u8>) {
    let message = Message::new("msg_1").body(vec![b'x'; size]).seal();
    (message.head("/clerk"), message.body)
}

#[tokio::test]
async fn a_body_that_does_not_come_or_comes_too_slowly_is_slow() {
    let upstream = Upstream::start().await;
    let config = format!("server.body_timeout = \"1s\"\n{}", clerk_to(upstream.url()));
    let quick = Gateway::start(&config).await;
    let patient = Gateway::start(&clerk_to(upstream.url())).await;
    let (head, _) = promised(100_000);

    // Not a byte of it.
    let mut connection = quick.connect().await;
    connection.write(&head).await;
    assert_eq!(connection.answer().await.told(), (408, "slow"));
    connection.closed().await;

    // A kilobyte every tenth of a second: under 16 KiB/s, cut before body_timeout.
    let mut connection = patient.connect().await;
    connection.write(&head).await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let told = loop {
        tokio::select! {
            _ = ticks.tick() => {
                if connection.try_write(&[b'x'; 1000]).await.is_err() {
                    break connection.try_answer().await;
                }
            }
            answer = connection.ready() => {
                answer.unwrap();
                break connection.try_answer().await;
            }
        }
    };
    assert_eq!(told.unwrap().told(), (408, "slow"));
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(upstream.count(), 0);
    assert_eq!(quick.metrics().await.refused("slow"), 1.0);
}

#[tokio::test]
async fn strangers_who_send_their_bodies_slowly_hold_no_place_in_flight() {
    let upstream = Upstream::start().await;
    let config = format!("server.max_in_flight = 1\n{}", clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;
    // Its head is in good form; only the whole body would show that it is forged.
    let forged = Message::new("msg_forged").body(vec![b'x'; 1000]).seal();
    let mut stranger = gateway.connect().await;
    stranger.write(&forged.head("/clerk")).await;
    stranger.write(b"x").await;
    gateway
        .metrics_until("the stranger's body to be awaited", |metrics| {
            metrics.value("hookward_buffered_bytes", &[]) > 0.0
        })
        .await;

    let genuine = gateway.send(&Message::new("msg_1")).await;

    assert_eq!(genuine.told(), (200, "delivered"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_sender_sees_it() {
    let upstream = Upstream::start().await;
    let config = format!("server.max_body = \"64 KiB\"\n{}", clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;

    // Before a byte of it is read, where the length tells.
    let (head, _) = promised(65_537);
    let mut connection = gateway.connect().await;
    connection.write(&head).await;
    assert_eq!(connection.answer().await.told(), (413, "too_large"));

    // The body is on its way already: it is read off, so that nothing resets.
    for size in [65_537, 100_000, 120_000] {
        let (head, body) = promised(size);
        let mut connection = gateway.connect().await;
        let _ = connection.try_write(&[head, body].concat()).await;
        assert_eq!(
            connection.answer().await.told(),
            (413, "too_large"),
            "{size}"
        );
    }

    // Without a length, once it is over.
    let mut request = b"POST /clerk HTTP/1.1\r\nHost: a\r\n".to_vec();
    for (name, value) in Message::new("msg_1").seal().headers {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    for _ in 0..9 {
        request.extend_from_slice(b"2000\r\n");
        request.extend_from_slice(&[b'x'; 0x2000]);
        request.extend_from_slice(b"\r\n");
    }
    let mut connection = gateway.connect().await;
    let _ = connection.try_write(&request).await;
    assert_eq!(connection.answer().await.told(), (413, "too_large"));

    // Exactly the limit is within it.
    let whole = Message::new("msg_1").body(vec![b'x'; 65_536]);
    assert_eq!(gateway.send(&whole).await.told(), (200, "delivered"));
    assert_eq!(gateway.metrics().await.refused("too_large"), 5.0);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_length_beyond_all_bounds_is_refused_like_any_other() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    for length in ["1048577", "9223372036854775807", "18446744073709551613"] {
        let mut head = Message::new("msg_1").seal().without("content-length");
        head.body.clear();
        let request = String::from_utf8(head.head("/clerk")).unwrap();
        let request = request.replace("Content-Length: 0", &format!("Content-Length: {length}"));
        let mut connection = gateway.connect().await;
        connection.write(request.as_bytes()).await;
        let answer = connection.answer().await;
        assert_eq!(answer.told(), (413, "too_large"), "{length}");
    }
}

#[tokio::test]
async fn connections_past_the_limit_wait_and_are_served_when_there_is_room() {
    let upstream = Upstream::start().await;
    let config = format!("server.max_connections = 2\n{}", clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;
    let message = |n: u8| Message::new(&format!("msg_{n}")).seal();
    let mut first = gateway.connect().await;
    let mut second = gateway.connect().await;
    first.post("/clerk", &message(1)).await;
    second.post("/clerk", &message(2)).await;

    let mut third = gateway.connect().await;
    third.write(&message(3).request("/clerk")).await;
    // The third is only accepted once one of the others has gone.
    for number in 4..20 {
        first.post("/clerk", &message(number)).await;
    }
    assert!(upstream.requests().iter().all(|r| r.id() != "msg_3"));
    drop(second);

    assert_eq!(third.answer().await.told(), (200, "delivered"));
}

#[tokio::test]
async fn without_file_descriptors_it_waits_without_spinning_and_recovers() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&clerk_to(upstream.url()))
        .open_files(64)
        .start()
        .await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(gateway.connect().await);
    }
    // The time that passes is measured by the crowd's own heads running out: the
    // first connections are closed after `header_timeout` (5 s).
    let before = gateway.processor_ticks();
    let began = Instant::now();
    crowd[0].closed().await;
    let used = gateway.processor_ticks() - before;
    let passed = began.elapsed().as_millis() / 10;

    assert!(
        u128::from(used) < passed / 4 + 20,
        "{used} ticks used of {passed} that passed"
    );
    drop(crowd);
    let answer = within("a good sender to be served again", async {
        loop {
            let mut connection = Connection::open(gateway.address()).await;
            let message = Message::new("msg_1").seal();
            if connection
                .try_write(&message.request("/clerk"))
                .await
                .is_ok()
                && let Ok(answer) = connection.try_answer().await
            {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn without_file_descriptors_for_a_service_it_is_busy_and_the_service_not_to_blame() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let config = format!(
        "{}circuit_breaker = {{ failures = 1, open_for = \"60s\" }}\n",
        clerk_to(upstream.url())
    );
    // Half of them are for senders, and the other half is not all for the service.
    let gateway = Gateway::with(&config).open_files(100).start().await;
    // All are let in before the first delivery takes a descriptor: else those that are
    // left outside wait, and nobody has to be told anything.
    let mut connections = Vec::new();
    for _ in 0..50 {
        connections.push(gateway.connect().await);
    }
    gateway
        .metrics_until("all to be let in", |metrics| {
            metrics.value("hookward_connections", &[]) == 50.0
        })
        .await;
    let mut senders = JoinSet::new();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let message = Message::new(&format!("msg_{number}")).seal();
        senders.spawn(async move { connection.post("/clerk", &message).await });
    }

    // Told at once; the others wait for the service.
    let first = within("an answer", senders.join_next()).await;
    assert_eq!(first.unwrap().unwrap().told(), (503, "busy"));
    upstream.release(50);

    for answer in senders.join_all().await {
        let told = answer.told();
        assert!(
            told == (200, "delivered") || told == (503, "busy"),
            "{told:?}"
        );
    }
}
