//! No crowd keeps a genuine sender out (P5): neither silent connections, nor
//! forgeries, nor another source.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::{Connection, Gateway, Message, OTHER_KEY, Reply, Upstream, clerk_to};

#[tokio::test]
async fn two_thousand_silent_connections_cost_next_to_nothing_and_go_by_themselves() {
    crate::support::allow_open_files();
    let upstream = Upstream::start().await;
    let config = format!(
        "server.header_timeout = \"3s\"\n{}",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;
    let mut crowd = Vec::new();
    for _ in 0..2000 {
        crowd.push(gateway.connect().await);
    }
    gateway
        .metrics_until("the crowd to be there", |metrics| {
            metrics.value("hookward_connections", &[]) >= 1000.0
        })
        .await;

    let before = gateway.processor_ticks();
    let began = Instant::now();
    let genuine = gateway.send(&Message::new("msg_1")).await;
    let answered = began.elapsed();
    let mut last = crowd.pop().unwrap();
    assert_eq!(last.closed().await, 0);
    let used = gateway.processor_ticks() - before;

    assert_eq!(genuine.told(), (200, "delivered"));
    assert!(answered < Duration::from_secs(2), "{answered:?}");
    // To close 2 000 connections takes some; to spin would take all there is.
    let passed = began.elapsed().as_millis() / 10;
    assert!(
        u128::from(used) < passed / 4 + 20,
        "{used} ticks used of {passed} that passed"
    );
    gateway
        .metrics_until("all of them to be gone", |metrics| {
            metrics.value("hookward_connections", &[]) == 0.0
        })
        .await;
}

#[tokio::test]
async fn in_a_full_house_connections_that_proved_nothing_make_room_and_the_others_stay() {
    let upstream = Upstream::start().await;
    let config = format!(
        "server.max_connections = 8\nserver.header_timeout = \"1s\"\n{}",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;
    let mut known = gateway.connect().await;
    known.post("/clerk", &Message::new("msg_0").seal()).await;
    // Strangers who say just enough to be kept for an `idle_timeout` (75 s) each.
    let nothing = b"GET /favicon.ico HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut strangers = Vec::new();
    for _ in 0..7 {
        let mut stranger = gateway.connect().await;
        stranger.write(nothing).await;
        assert_eq!(stranger.answer().await.told(), (404, "unknown_path"));
        strangers.push(stranger);
    }
    let began = Instant::now();

    let genuine = gateway.send(&Message::new("msg_1")).await;

    assert_eq!(genuine.told(), (200, "delivered"));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    // It has waited for longer than any of them.
    let again = known.post("/clerk", &Message::new("msg_2").seal()).await;
    assert_eq!(again.told(), (200, "delivered"));
}

#[tokio::test]
async fn in_a_full_house_neither_a_replay_nor_an_open_source_nor_an_old_proof_keeps_a_connection() {
    let upstream = Upstream::start().await;
    let config = format!(
        r#"server.max_connections = 4
        server.header_timeout = "1s"
        {}
        [sources.open]
        secrets = "dangerously-unverified"
        to = "app"
        "#,
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;
    let captured = Message::new("msg_0").seal();
    let mut known = gateway.connect().await;
    let first = known.post("/clerk", &captured).await;
    assert_eq!(first.told(), (200, "delivered"));
    let mut replayer = gateway.connect().await;
    let answer = replayer.post("/clerk", &captured).await;
    assert_eq!(answer.told(), (200, "duplicate"));
    let mut anybody = gateway.connect().await;
    let answer = anybody.post("/open", &captured).await;
    assert_eq!(answer.told(), (200, "delivered"));
    let mut former = gateway.connect().await;
    let once = former.post("/clerk", &Message::new("msg_1").seal()).await;
    assert_eq!(once.told(), (200, "delivered"));
    former
        .write(b"GET /favicon.ico HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(former.answer().await.told(), (404, "unknown_path"));

    // One place each: three more are served only once all three have gone. These
    // prove themselves, and stay.
    let mut genuine = Vec::new();
    for number in 2..5 {
        let mut connection = gateway.connect().await;
        let message = Message::new(&format!("msg_{number}")).seal();
        let answer = connection.post("/clerk", &message).await;
        assert_eq!(answer.told(), (200, "delivered"));
        genuine.push(connection);
    }

    let again = known.post("/clerk", &Message::new("msg_5").seal()).await;
    assert_eq!(again.told(), (200, "delivered"));
}

#[tokio::test]
async fn one_noisy_source_starves_no_other() {
    let stuck = Upstream::always(Reply::Held(200)).await;
    let upstream = Upstream::start().await;
    let config = format!(
        r#"server.max_in_flight = 8
        {}
        [sources.noisy]
        secrets = "env:OTHER_KEY"
        max_in_flight = 6
        to = "stuck"

        [destinations.stuck]
        type = "http"
        url = "{}"
        "#,
        clerk_to(upstream.url()),
        stuck.url()
    );
    let gateway = Gateway::start(&config).await;
    let noise = |number: usize| {
        let id = format!("msg_{number}");
        Message::new(&id).key(OTHER_KEY).seal()
    };
    let mut senders = JoinSet::new();
    for number in 0..6 {
        let mut connection = gateway.connect().await;
        senders.spawn(async move { connection.post("/noisy", &noise(number)).await });
    }
    stuck.reached(6).await;

    for number in 6..50 {
        let refused = gateway.post("/noisy", &noise(number)).await;
        assert_eq!(refused.told(), (503, "busy"), "past its share");
        let other = gateway.send(&Message::new(&format!("msg_{number}"))).await;
        assert_eq!(other.told(), (200, "delivered"));
    }

    stuck.release(6);
    for answer in senders.join_all().await {
        assert_eq!(answer.told(), (200, "delivered"));
    }
    assert_eq!(upstream.count(), 44);
}

#[tokio::test]
async fn a_flood_of_forgeries_does_not_crowd_out_the_genuine() {
    let upstream = Upstream::start().await;
    let config = format!(
        r#"server.max_in_flight = 4
        {}
        [sources.other]
        secrets = "env:OTHER_KEY"
        to = "app"
        "#,
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;
    let mut flood = JoinSet::new();
    for _ in 0..16 {
        let mut connection = gateway.connect().await;
        let genuine = Message::new("forged").body(vec![b'x'; 20_000]).seal();
        let forged = genuine.body(vec![b'y'; 20_000]);
        flood.spawn(async move {
            loop {
                let answer = connection.post("/clerk", &forged).await;
                assert_eq!(answer.told(), (401, "unverified"));
            }
        });
    }
    gateway
        .metrics_until("the flood", |metrics| {
            metrics.refused("no_key_matched") > 100.0
        })
        .await;

    let mut times = Vec::new();
    let mut connection = gateway.connect().await;
    for number in 0..100 {
        let message = Message::new(&format!("msg_{number}")).seal();
        let sent = Instant::now();
        let answer = connection.post("/clerk", &message).await;
        assert_eq!(answer.told(), (200, "delivered"));
        times.push(sent.elapsed());
    }

    flood.abort_all();
    times.sort_unstable();
    let half = times[times.len() / 2];
    assert!(half < Duration::from_millis(250), "{half:?}");
}

#[tokio::test]
async fn without_descriptors_for_all_of_a_crowd_it_serves_again_when_they_go() {
    let upstream = Upstream::start().await;
    let config = format!(
        "server.header_timeout = \"1s\"\n{}",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::with(&config).open_files(64).start().await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(gateway.connect().await);
    }

    // In the queue behind all of them, none of whom goes of its own accord.
    let mut connection = Connection::open(gateway.address()).await;
    let answer = connection
        .post("/clerk", &Message::new("msg_1").seal())
        .await;

    assert_eq!(answer.told(), (200, "delivered"));
}
