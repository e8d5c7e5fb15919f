//! SIGTERM finishes what was accepted (P7).

use std::time::Instant;

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::support::{Gateway, Message, Reply, Upstream, clerk_to};

#[tokio::test]
async fn under_load_everything_that_was_read_is_answered_and_the_service_has_what_was_good() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let mut senders = JoinSet::new();
    for worker in 0..8 {
        let mut connection = gateway.connect().await;
        senders.spawn(async move {
            let mut good = Vec::new();
            for number in 0.. {
                let id = format!("msg_{worker}_{number}");
                let request = Message::new(&id).seal().request("/clerk");
                if connection.try_write(&request).await.is_err() {
                    break;
                }
                match connection.try_answer().await {
                    Ok(answer) if answer.status == 200 => good.push(id),
                    Ok(answer) => assert_eq!(answer.told(), (503, "draining")),
                    // Closed between two requests: this one was not taken.
                    Err(_) => break,
                }
            }
            good
        });
    }
    upstream.reached(100).await;

    gateway.signal(Signal::TERM);

    assert_eq!(gateway.ended().await.code(), Some(0));
    let arrived: std::collections::HashSet<String> = upstream
        .requests()
        .iter()
        .map(|r| r.id().to_owned())
        .collect();
    let good: Vec<String> = senders.join_all().await.into_iter().flatten().collect();
    assert!(good.len() >= 90, "{}", good.len());
    for id in &good {
        assert!(arrived.contains(id), "{id}");
    }
    // What arrived was answered: nobody has to send it again.
    assert_eq!(good.len(), arrived.len());
}

#[tokio::test]
async fn a_delivery_under_way_is_finished_and_its_sender_told() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let mut gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_1").seal();
    connection.write(&message.request("/clerk")).await;
    upstream.reached(1).await;

    gateway.signal(Signal::TERM);
    // No longer listening: what is told to be over is over.
    refused(&gateway).await;
    upstream.release(1);

    let answer = connection.answer().await;
    assert_eq!(answer.told(), (200, "delivered"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(gateway.ended().await.code(), Some(0));
}

/// Waits until connecting is refused.
async fn refused(gateway: &Gateway) {
    crate::support::within("the listener to be closed", async {
        while tokio::net::TcpStream::connect(gateway.address())
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn during_the_delay_it_serves_as_ever_and_tells_everybody_to_go_elsewhere() {
    let upstream = Upstream::start().await;
    let config = format!("server.drain_delay = \"3s\"\n{}", clerk_to(upstream.url()));
    let mut gateway = Gateway::start(&config).await;
    let mut open = gateway.connect().await;
    let before = open.post("/clerk", &Message::new("msg_0").seal()).await;
    assert_eq!(before.header("connection"), None);
    let began = Instant::now();

    gateway.signal(Signal::TERM);

    crate::support::within("readiness to end", async {
        while gateway.ask("GET", "/readyz", None).await.status != 503 {}
    })
    .await;
    assert_eq!(gateway.ask("GET", "/healthz", None).await.status, 200);
    let kept = open.post("/clerk", &Message::new("msg_1").seal()).await;
    assert_eq!(kept.told(), (200, "delivered"));
    assert_eq!(kept.header("connection"), Some("close"));
    assert_eq!(open.closed().await, 0);
    let new = gateway.send(&Message::new("msg_2")).await;
    assert_eq!(new.told(), (200, "delivered"));
    assert_eq!(new.header("connection"), Some("close"));
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(began.elapsed().as_millis() >= 2900, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_begun_after_the_delay_is_told_that_it_is_draining() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let mut gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let mut held = gateway.connect().await;
    let message = Message::new("msg_1").seal();
    held.write(&message.request("/clerk")).await;
    upstream.reached(1).await;
    // Has sent the beginning of a head, and so is in use.
    let mut open = gateway.connect().await;
    let late = Message::new("msg_2").seal().request("/clerk");
    open.write(&late[..20]).await;
    gateway
        .metrics_until("both connections to be there", |metrics| {
            metrics.value("hookward_connections", &[]) >= 2.0
        })
        .await;

    gateway.signal(Signal::TERM);
    refused(&gateway).await;
    let _ = open.try_write(&late[20..]).await;
    let answer = open.try_answer().await;
    upstream.release(2);

    // A connection whose head was not there is closed, or told so.
    if let Ok(answer) = answer {
        assert_eq!(answer.told(), (503, "draining"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(held.answer().await.told(), (200, "delivered"));
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn when_the_time_is_over_it_ends_with_1_and_names_what_was_cut() {
    let upstream = Upstream::always(Reply::Never).await;
    let config = format!(
        "server.shutdown_timeout = \"1s\"\n{}",
        clerk_to(upstream.url())
    );
    let mut gateway = Gateway::start(&config).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_cut_short").seal();
    connection.write(&message.request("/clerk")).await;
    upstream.reached(1).await;

    gateway.signal(Signal::TERM);

    assert_eq!(gateway.ended().await.code(), Some(1));
    gateway.line(&["msg_cut_short"]).await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let upstream = Upstream::always(Reply::Never).await;
    let config = format!(
        "server.drain_delay = \"30s\"\nserver.shutdown_timeout = \"30s\"\n{}",
        clerk_to(upstream.url())
    );
    let mut gateway = Gateway::start(&config).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_1").seal();
    connection.write(&message.request("/clerk")).await;
    upstream.reached(1).await;
    let began = Instant::now();

    gateway.signal(Signal::TERM);
    crate::support::within("readiness to end", async {
        while gateway.ask("GET", "/readyz", None).await.status != 503 {}
    })
    .await;
    gateway.signal(Signal::TERM);

    let status = gateway.ended().await;
    assert_ne!(status.code(), Some(0));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_signal_with_nothing_left_to_finish_cuts_nothing() {
    let upstream = Upstream::start().await;
    let config = format!("server.drain_delay = \"60s\"\n{}", clerk_to(upstream.url()));
    let mut gateway = Gateway::start(&config).await;
    gateway.send(&Message::new("msg_1")).await;

    gateway.signal(Signal::TERM);
    gateway.line(&["stopping"]).await;
    gateway.signal(Signal::TERM);

    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_interrupt_skips_the_delay() {
    let upstream = Upstream::start().await;
    let config = format!("server.drain_delay = \"60s\"\n{}", clerk_to(upstream.url()));
    let mut gateway = Gateway::start(&config).await;
    gateway.send(&Message::new("msg_1")).await;
    let _idle = gateway.connect().await;
    let began = Instant::now();

    gateway.signal(Signal::INT);

    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_idle_connection_to_an_address_that_a_reload_gave_up_does_not_hold_it_up() {
    let upstream = Upstream::start().await;
    let listening = |host: &str| {
        format!(
            "server.listen = \"{host}:0\"\nadmin.listen = \"127.0.0.1:0\"\n{}",
            clerk_to(upstream.url())
        )
    };
    let setup = Gateway::with(&listening("127.0.0.1")).addresses_of_file();
    let mut gateway = setup.start().await;
    let mut idle = gateway.connect().await;
    idle.post("/clerk", &Message::new("msg_1").seal()).await;
    gateway.rewrite(&listening("127.0.0.2"));
    gateway.signal(Signal::HUP);
    gateway.line(&["requests are taken here"]).await;

    gateway.signal(Signal::TERM);

    // Its `idle_timeout` would be longer than this waits.
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(idle.closed().await, 0);
}

#[tokio::test]
async fn a_reload_that_never_comes_to_its_end_does_not_hold_it_up() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&clerk_to(upstream.url())).await;
    // Reading a pipe waits for whoever writes it. The first thing a reload reads.
    let config = gateway.folder().join("test.toml");
    std::fs::remove_file(&config).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &config, rustix::fs::Mode::RUSR).unwrap();
    gateway.signal(Signal::HUP);
    let answer = gateway.send(&Message::new("msg_1")).await;
    assert_eq!(answer.told(), (200, "delivered"));

    gateway.signal(Signal::TERM);

    assert_eq!(gateway.ended().await.code(), Some(0));
}
