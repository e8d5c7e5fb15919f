//! A Redis that is away, comes back, may forget, or wants to know who asks.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::redis::{connected, sharing};
use crate::support::{Gateway, Message, Redis, Reply, Upstream, clerk_to, within};

async fn up(gateway: &Gateway) -> bool {
    gateway.metrics().await.value("hookward_ledger_up", &[]) == 1.0
}

/// Sends one message again and again until it is answered with this word.
async fn until_answered(gateway: &Gateway, id: &str, word: &str) {
    within(word, async {
        while gateway.send(&Message::new(id)).await.word() != word {}
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_killed_is_unavailable_and_service_is_back_with_it() {
    let Some(mut redis) = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = connected(&sharing(&redis, "", &clerk_to(upstream.url()))).await;
    gateway.send(&Message::new("msg_1")).await;

    redis.kill().await;

    for id in ["msg_1", "msg_2", "msg_3"] {
        let began = Instant::now();
        let answer = gateway.send(&Message::new(id)).await;
        assert_eq!(answer.told(), (503, "unavailable"));
        assert!(answer.header("retry-after").is_some());
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    assert_eq!(upstream.count(), 1, "nothing is forwarded");
    assert!(!up(&gateway).await);
    let ready = gateway.ask("GET", "/readyz?strict", None).await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.text().contains("degraded: ledger"),
        "{}",
        ready.text()
    );
    assert_eq!(gateway.ask("GET", "/readyz", None).await.status, 200);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.refused("unavailable"), 3.0);

    redis.run();
    redis.there().await;
    let back = Instant::now();
    until_answered(&gateway, "msg_2", "delivered").await;
    assert!(
        back.elapsed() < Duration::from_secs(2),
        "{:?}",
        back.elapsed()
    );
    assert!(up(&gateway).await);
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "duplicate")
    );
    let told = gateway
        .stderr()
        .matches("the ledger's Redis is away")
        .count();
    assert_eq!(told, 1, "once a change, not per request");
}

#[tokio::test]
async fn a_frozen_redis_is_away_after_its_timeout() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = connected(&sharing(&redis, "", &clerk_to(upstream.url()))).await;

    redis.signal(Signal::STOP);

    for id in ["msg_1", "msg_2"] {
        let began = Instant::now();
        let answer = gateway.send(&Message::new(id)).await;
        assert_eq!(answer.told(), (503, "unavailable"));
        assert!(began.elapsed() < Duration::from_millis(1500));
    }
    assert_eq!(upstream.count(), 0);
    assert!(!up(&gateway).await);
    redis.signal(Signal::CONT);
    until_answered(&gateway, "msg_1", "delivered").await;
    until_answered(&gateway, "msg_2", "delivered").await;
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_receipt_that_redis_did_not_take_is_no_success_and_is_not_lost() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::always(Reply::Held(200)).await;
    let gateway = connected(&sharing(&redis, "", &clerk_to(upstream.url()))).await;
    let message = Message::new("msg_1").seal();
    let mut connection = gateway.connect().await;
    connection.write(&message.request("/clerk")).await;
    upstream.reached(1).await;

    redis.signal(Signal::STOP);
    upstream.release(1);

    assert_eq!(connection.answer().await.told(), (503, "unavailable"));
    let at_stake = ["\"ERROR\"", "msg_1", "could keep who accepted"];
    gateway.line(&at_stake).await;
    let again = gateway.post("/clerk", &message).await;
    assert_eq!(again.told(), (503, "unavailable"));
    let refused = ["\"INFO\"", "msg_1", "the ledger's store is away"];
    gateway.line(&refused).await;
    redis.signal(Signal::CONT);
    until_answered(&gateway, "msg_1", "duplicate").await;
    assert_eq!(upstream.count(), 1);
    let other = connected(&sharing(&redis, "", &clerk_to(upstream.url()))).await;
    assert_eq!(
        other.post("/clerk", &message).await.told(),
        (200, "duplicate")
    );
}

#[tokio::test]
async fn a_budget_that_ends_while_only_the_receipt_is_to_be_kept_is_no_failed_delivery() {
    let Some(redis) = Redis::with(&[]).await else {
        return;
    };
    let upstream = Upstream::always(Reply::Held(200)).await;
    let config = sharing(
        &redis,
        ", timeout = \"8s\", lease = \"40s\"",
        &clerk_to(upstream.url()),
    );
    let gateway = connected(&format!("server.request_timeout = \"1s\"\n{config}")).await;
    let mut connection = gateway.connect().await;
    let sealed = Message::new("msg_1").seal();
    connection.write(&sealed.request("/clerk")).await;
    upstream.reached(1).await;
    redis.signal(Signal::STOP);
    upstream.release(1);

    assert_eq!(connection.answer().await.told(), (503, "unavailable"));
    gateway.line(&["msg_1", "could keep who accepted"]).await;
    redis.signal(Signal::CONT);
    until_answered(&gateway, "msg_1", "duplicate").await;
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_waited_for() {
    let Some(mut redis) = Redis::prepared(&[]) else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&sharing(&redis, "", &clerk_to(upstream.url()))).await;
    gateway.line(&["the ledger's Redis is away"]).await;
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (503, "unavailable")
    );

    redis.run();

    until_answered(&gateway, "msg_1", "delivered").await;
}

#[tokio::test]
async fn alone_a_replica_goes_by_what_it_knows_and_tells_when_redis_is_back() {
    let Some(mut redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let memory = ", when_away = \"memory\"";
    let config = sharing(&redis, memory, &clerk_to(upstream.url()));
    let gateway = connected(&config).await;
    gateway.send(&Message::new("before")).await;

    redis.kill().await;

    let told = |answer: (u16, &str)| (answer.0, answer.1.to_owned());
    for (id, word) in [
        ("before", "duplicate"),
        ("alone", "delivered"),
        ("alone", "duplicate"),
    ] {
        let answer = gateway.send(&Message::new(id)).await;
        assert_eq!(told(answer.told()), (200, word.to_owned()), "{id}");
    }
    gateway.line(&["\"ERROR\"", "goes on alone"]).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value("hookward_ledger_alone_total", &[]), 3.0);
    assert_eq!(metrics.value("hookward_ledger_up", &[]), 0.0);

    redis.run();
    redis.there().await;
    within("what is owed to be written", async {
        while redis.keys().await.is_empty() {}
    })
    .await;
    let other = connected(&config).await;
    assert_eq!(
        other.send(&Message::new("alone")).await.told(),
        (200, "duplicate")
    );
    assert_eq!(upstream.count(), 2);
    let told = gateway.stderr().matches("goes on alone").count();
    assert_eq!(told, 1, "once a change, not per request");
}

#[tokio::test]
async fn redis_over_tls_is_believed_only_by_its_authority() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let config = |ca: &str| {
        format!(
            "ledger.redis = {{ url = \"{}\", ca = \"{}\" }}\n{}",
            redis.tls_url(),
            redis.file(ca),
            clerk_to(upstream.url())
        )
    };
    let gateway = connected(&config("ca.pem")).await;
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );

    let stranger = Gateway::start(&config("hookward.pem")).await;
    stranger
        .line(&["the ledger's Redis is away", "TLS failed"])
        .await;
    let answer = stranger.send(&Message::new("msg_2")).await;
    assert_eq!(answer.told(), (503, "unavailable"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_password_is_used_and_never_shown() {
    let rights = "--user hook on >hush-hush ~hookward:* +@all -@admin";
    let rights: Vec<&str> = rights.split(' ').collect();
    let Some(redis) = Redis::with(&rights).await else {
        return;
    };
    let upstream = Upstream::start().await;
    let config = format!("ledger.redis = \"env:REDIS\"\n{}", clerk_to(upstream.url()));
    let start = async |password: &str| {
        let url = redis.url_of("hook", password) + "/1";
        Gateway::with(&config).env("REDIS", &url).start().await
    };
    let gateway = start("hush-hush").await;
    gateway.line(&["the ledger's Redis is there"]).await;
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    assert!(redis.keys().await.is_empty(), "it is in another database");

    let stranger = start("hush-wrong").await;
    stranger.line(&["the ledger's Redis is away"]).await;
    let answer = stranger.send(&Message::new("msg_1")).await;
    assert_eq!(answer.told(), (503, "unavailable"));
    for gateway in [&gateway, &stranger] {
        assert!(!gateway.stderr().contains("hush"), "{}", gateway.stderr());
    }
}

#[tokio::test]
async fn a_redis_that_may_evict_or_keeps_nothing_is_warned_of() {
    let evicting = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
    let Some(evicting) = Redis::with(&evicting).await else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = connected(&sharing(&evicting, "", &clerk_to(upstream.url()))).await;
    gateway
        .line(&["\"WARN\"", "evicts keys", "allkeys-lru"])
        .await;

    let Some(forgetful) = Redis::start().await else {
        return;
    };
    let gateway = connected(&sharing(&forgetful, "", &clerk_to(upstream.url()))).await;
    gateway.line(&["\"WARN\"", "keeps nothing on disk"]).await;
}

#[tokio::test]
async fn a_full_redis_takes_nothing_and_counts_as_away() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = connected(&sharing(&redis, "", &clerk_to(upstream.url()))).await;

    let _: String = redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;

    until_answered(&gateway, "msg_1", "unavailable").await;
    gateway.line(&["the ledger's Redis is away", "OOM"]).await;
    let forwarded = upstream.count();
    let _: String = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    until_answered(&gateway, "msg_2", "delivered").await;
    assert_eq!(upstream.count(), forwarded + 1);
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = connected(&sharing(&redis, "", &clerk_to(upstream.url()))).await;

    let _: String = redis.ask(&["SCRIPT", "FLUSH"]).await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
}

#[tokio::test]
async fn a_reload_moves_to_another_redis() {
    let (Some(redis), Some(other)) = (Redis::start().await, Redis::start().await) else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = connected(&sharing(&redis, "", &clerk_to(upstream.url()))).await;
    gateway.send(&Message::new("msg_1")).await;

    gateway.rewrite(&sharing(&other, "", &clerk_to(upstream.url())));
    gateway.signal(Signal::HUP);
    gateway.line(&["read again and taken over"]).await;

    within("the other to be used", async {
        let mut number = 1;
        while other.keys().await.is_empty() {
            number += 1;
            gateway.send(&Message::new(&format!("msg_{number}"))).await;
        }
    })
    .await;

    gateway.rewrite(&sharing(
        &other,
        ", prefix = \"x:\"",
        &clerk_to(upstream.url()),
    ));
    gateway.signal(Signal::HUP);
    gateway.line(&["\"WARN\"", "`prefix`", "next start"]).await;
}
