//! A good configuration takes over between requests, a bad one never (P6, §4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::support::{Gateway, Message, OTHER_KEY, Reply, TOKEN, Upstream, clerk_to};

/// As `clerk_to`, with a token for the admin listener.
pub fn guarded(url: &str) -> String {
    format!("admin.token = \"env:TOKEN\"\n{}", clerk_to(url))
}

/// Asks for a reload with SIGHUP and waits until it came out so, `times` in all.
pub async fn hang_up(gateway: &Gateway, outcome: &str, times: f64) {
    gateway.signal(Signal::HUP);
    gateway
        .metrics_until("the reload", |metrics| {
            let labels = [("outcome", outcome)];
            metrics.value("hookward_config_reloads_total", &labels) == times
        })
        .await;
}

#[tokio::test]
async fn a_good_one_takes_over_at_sighup_and_the_ledger_lives_on() {
    let old = Upstream::start().await;
    let new = Upstream::start().await;
    let gateway = Gateway::start(&guarded(old.url())).await;
    let mut connection = gateway.connect().await;
    connection
        .post("/clerk", &Message::new("msg_1").seal())
        .await;

    gateway.rewrite(&guarded(new.url()));
    hang_up(&gateway, "ok", 1.0).await;

    // On the very connection that was open before.
    let again = connection
        .post("/clerk", &Message::new("msg_1").seal())
        .await;
    assert_eq!(again.told(), (200, "duplicate"));
    let next = connection
        .post("/clerk", &Message::new("msg_2").seal())
        .await;
    assert_eq!(next.told(), (200, "delivered"));
    assert_eq!((old.count(), new.count()), (1, 1));
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.answered("delivered"), 2.0, "counters live on");
}

#[tokio::test]
async fn a_good_one_takes_over_on_demand_and_a_bad_one_is_refused_with_its_problems() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let gateway = Gateway::start(&config).await;

    let extra = "[sources.other]\nsecrets = \"env:OTHER_KEY\"\nto = \"app\"\n";
    gateway.rewrite(&format!("{config}{extra}"));
    let good = gateway.ask("POST", "/reload", Some(TOKEN)).await;
    assert!((200..300).contains(&good.status), "{good:?}");
    let other = Message::new("msg_1").key(OTHER_KEY).seal();
    assert_eq!(
        gateway.post("/other", &other).await.told(),
        (200, "delivered")
    );

    gateway.rewrite(&config.replace("to = \"app\"", "to = \"nowhere\"\nnonsense = \"hidden\""));
    let bad = gateway.ask("POST", "/reload", Some(TOKEN)).await;
    assert!((400..600).contains(&bad.status), "{bad:?}");
    let told = bad.text();
    assert!(
        told.contains("nowhere") && told.contains("nonsense"),
        "{told}"
    );
    assert!(!told.contains("hidden"), "{told}");

    let metrics = gateway.metrics().await;
    assert_eq!(
        metrics.value("hookward_config_last_reload_successful", &[]),
        0.0
    );
    let refused = [("outcome", "refused")];
    assert_eq!(
        metrics.value("hookward_config_reloads_total", &refused),
        1.0
    );
    // The old one goes on, whole.
    assert_eq!(
        gateway.send(&Message::new("msg_2")).await.told(),
        (200, "delivered")
    );
    let other = Message::new("msg_2").key(OTHER_KEY).seal();
    assert_eq!(
        gateway.post("/other", &other).await.told(),
        (200, "delivered")
    );
}

#[tokio::test]
async fn a_bad_one_at_sighup_is_told_in_the_log() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&guarded(upstream.url())).await;

    gateway.rewrite(&format!(
        "nonsense = 1\nadmin.token = \"written in the file\"\n{}",
        clerk_to(upstream.url())
    ));
    hang_up(&gateway, "refused", 1.0).await;

    gateway
        .line(&["\"ERROR\"", "`nonsense` is not a key", "test.toml"])
        .await;
    gateway
        .line(&["\"WARN\"", "`admin.token` holds the secret itself"])
        .await;
    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
}

#[tokio::test]
async fn what_is_in_flight_is_not_harmed() {
    let upstream = Upstream::sequence(vec![Reply::Held(200), Reply::Status(200)]).await;
    let new = Upstream::start().await;
    let gateway = Gateway::start(&guarded(upstream.url())).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_1").seal();
    connection.write(&message.request("/clerk")).await;
    upstream.reached(1).await;

    gateway.rewrite(&guarded(new.url()));
    hang_up(&gateway, "ok", 1.0).await;
    // The same id meanwhile, under the new configuration: the first is waited for.
    let mut second = gateway.connect().await;
    second.write(&message.request("/clerk")).await;
    gateway.verified(2).await;
    upstream.release(1);

    assert_eq!(connection.answer().await.told(), (200, "delivered"));
    assert_eq!(second.answer().await.told(), (200, "delivered"));
    assert_eq!((upstream.count(), new.count()), (1, 0));
}

#[tokio::test]
async fn pools_of_unchanged_destinations_live_on() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let gateway = Gateway::start(&config).await;
    let mut connection = gateway.connect().await;
    for number in 0..20 {
        let message = Message::new(&format!("msg_{number}")).seal();
        connection.post("/clerk", &message).await;
    }
    let before = upstream.connections();

    gateway.rewrite(&format!("log.requests = \"all\"\n{config}"));
    hang_up(&gateway, "ok", 1.0).await;
    for number in 20..40 {
        let message = Message::new(&format!("msg_{number}")).seal();
        connection.post("/clerk", &message).await;
    }

    assert_eq!(upstream.connections(), before);
    assert_eq!(upstream.count(), 40);
}

#[tokio::test]
async fn a_secret_in_a_file_is_read_again() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url()).replace("env:KEY", "file:key");
    let gateway = Gateway::with(&config)
        .file("key", crate::support::KEY)
        .start()
        .await;
    let old = Message::new("msg_1");
    let new = Message::new("msg_2").key(OTHER_KEY);
    assert_eq!(gateway.send(&old).await.status, 200);
    assert_eq!(gateway.send(&new).await.status, 401);

    let both = format!("{OTHER_KEY}\n{}\n", crate::support::KEY);
    std::fs::write(gateway.folder().join("key"), both).unwrap();
    hang_up(&gateway, "ok", 1.0).await;

    assert_eq!(gateway.send(&old).await.status, 200);
    assert_eq!(gateway.send(&new).await.told(), (200, "delivered"));
}

#[tokio::test]
async fn a_delivered_id_stays_a_duplicate_when_destinations_are_added() {
    let left = Upstream::start().await;
    let right = Upstream::sequence(vec![Reply::Status(500), Reply::Status(200)]).await;
    let one = guarded(left.url());
    let both = format!(
        "{}[destinations.right]\ntype = \"http\"\nurl = \"{}\"\n",
        one.replace("to = \"app\"", "to = [\"app\", \"right\"]"),
        right.url()
    );
    let gateway = Gateway::start(&one).await;
    gateway.send(&Message::new("msg_1")).await;
    gateway.rewrite(&both);
    hang_up(&gateway, "ok", 1.0).await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "duplicate")
    );
    assert_eq!(
        gateway.send(&Message::new("msg_2")).await.told(),
        (502, "failed")
    );
    // A partly delivered one runs by the present rules: nothing is left to do.
    gateway.rewrite(&one);
    hang_up(&gateway, "ok", 2.0).await;
    assert_eq!(gateway.send(&Message::new("msg_2")).await.status, 200);
    assert_eq!((left.count(), right.count()), (2, 1));
}

#[tokio::test]
async fn limits_change_with_it() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let gateway = Gateway::start(&config).await;

    gateway.rewrite(&format!("server.max_body = \"16 B\"\n{config}"));
    hang_up(&gateway, "ok", 1.0).await;

    let answer = gateway.send(&Message::new("msg_1")).await;
    assert_eq!(answer.told(), (413, "too_large"));
}

#[tokio::test]
async fn twenty_of_them_under_load_fail_no_request() {
    let first = Upstream::start().await;
    let second = Upstream::start().await;
    let gateway = Gateway::start(&guarded(first.url())).await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for worker in 0..8 {
        let mut connection = gateway.connect().await;
        let ended = Arc::clone(&ended);
        senders.spawn(async move {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                let id = format!("msg_{worker}_{number}");
                let answer = connection.post("/clerk", &Message::new(&id).seal()).await;
                assert_eq!(answer.told(), (200, "delivered"), "{id}");
                number += 1;
            }
            number
        });
    }

    // Each changes where everything goes, and how much there may be of it.
    for number in 1..=20 {
        let url = [&first, &second][number % 2].url();
        let limits = format!("server.max_in_flight = {}\n", 64 + number);
        gateway.rewrite(&(limits + &guarded(url)));
        let before = (first.count(), second.count());
        hang_up(&gateway, "ok", number as f64).await;
        // Not the next one before this one was seen at work.
        let there = [&first, &second][number % 2];
        there.reached([before.0, before.1][number % 2] + 1).await;
    }
    ended.store(true, Ordering::Relaxed);

    let sent: usize = senders.join_all().await.into_iter().sum();
    assert!(sent >= 40, "{sent}");
    assert_eq!(first.count() + second.count(), sent);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.answered("delivered"), sent as f64);
}

#[tokio::test]
async fn every_problem_of_a_bad_one_is_named_in_the_log() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let gateway = Gateway::start(&config).await;

    gateway.rewrite(
        &config
            .replace("to = \"app\"", "to = \"nowhere\"\ntolerance = \"soon\"")
            .replace(
                "[destinations.app]",
                "[destinations.app]\nshape = \"hidden\"",
            ),
    );
    hang_up(&gateway, "refused", 1.0).await;

    for problem in ["nowhere", "tolerance", "shape"] {
        gateway.line(&["\"ERROR\"", problem]).await;
    }
    assert!(!gateway.stderr().contains("hidden"));
    let answer = gateway.send(&Message::new("msg_1")).await;
    assert_eq!(answer.told(), (200, "delivered"));
}

#[tokio::test]
async fn what_is_retired_stays_so_whoever_looks_meanwhile() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let more = format!(
        "{config}[sources.gone]\nsecrets = \"env:OTHER_KEY\"\nexpect_every = \"1h\"\nto = \"away\"\n\
         [destinations.away]\ntype = \"http\"\nurl = \"http://127.0.0.1:9/\"\n"
    );
    let gateway = Arc::new(Gateway::start(&more).await);
    let done = Arc::new(AtomicBool::new(false));
    let mut looking = JoinSet::new();
    for path in ["/metrics", "/status"].repeat(4) {
        let (gateway, done) = (Arc::clone(&gateway), Arc::clone(&done));
        looking.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                gateway.ask("GET", path, Some(TOKEN)).await;
            }
        });
    }
    for _ in 0..40 {
        gateway.rewrite(&config);
        assert_eq!(
            gateway.ask("POST", "/reload", Some(TOKEN)).await.status,
            200
        );

        let metrics = gateway.metrics().await;
        for (name, label) in [
            ("hookward_circuit_open", ("destination", "away")),
            ("hookward_destination_up", ("destination", "away")),
            (
                "hookward_last_verified_timestamp_seconds",
                ("source", "gone"),
            ),
        ] {
            assert_eq!(metrics.find(name, &[label]), None, "{name}");
        }
        gateway.rewrite(&more);
        assert_eq!(
            gateway.ask("POST", "/reload", Some(TOKEN)).await.status,
            200
        );
    }
    done.store(true, Ordering::Relaxed);
    looking.join_all().await;
}

#[tokio::test]
async fn what_is_no_longer_configured_is_no_longer_shown() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let more = format!(
        r#"
        [sources.gone]
        secrets = "env:OTHER_KEY"
        expect_every = "1s"
        to = "away"

        [destinations.away]
        type = "http"
        url = "http://127.0.0.1:9/"
        hold = "100ms"
        circuit_breaker = {{ failures = 1, open_for = "10m" }}
        {}"#,
        config.replace("env:KEY\"", "env:KEY\"\nexpect_every = \"1h\"")
    );
    let more = more.replace("admin.token = \"env:TOKEN\"\n", "");
    let more = format!("admin.token = \"env:TOKEN\"\n{more}");
    let gateway = Gateway::start(&more).await;
    let lost = Message::new("msg_1").key(OTHER_KEY).seal();
    assert_eq!(gateway.post("/gone", &lost).await.status, 502);
    let gone = [("source", "gone")];
    let clerk = [("source", "clerk")];
    let away = [("destination", "away")];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value("hookward_circuit_open", &away), 1.0);
    let expected = "hookward_source_expected_interval_seconds";
    assert_eq!(metrics.value(expected, &clerk), 3600.0);

    gateway.rewrite(&config);
    hang_up(&gateway, "ok", 1.0).await;

    let metrics = gateway.metrics().await;
    for (name, labels) in [
        ("hookward_circuit_open", &away),
        ("hookward_destination_up", &away),
        ("hookward_destination_in_flight", &away),
        (expected, &gone),
        (expected, &clerk),
        ("hookward_last_verified_timestamp_seconds", &gone),
        ("hookward_clock_skew_seconds", &gone),
    ] {
        assert_eq!(metrics.find(name, labels), None, "{name} {labels:?}");
    }
    let key = [("source", "gone"), ("key", "1")];
    let last = metrics.find("hookward_key_last_verified_timestamp_seconds", &key);
    assert_eq!(last, None);
    let kept = metrics.value("hookward_key_verified_total", &key);
    assert_eq!(kept, 1.0, "what was counted stays");
    // And again when it is configured again.
    gateway.rewrite(&more);
    hang_up(&gateway, "ok", 2.0).await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value("hookward_circuit_open", &away), 0.0);
    assert_eq!(metrics.value(expected, &gone), 1.0);
}

#[tokio::test]
async fn the_level_of_the_log_changes_with_it() {
    let upstream = Upstream::start().await;
    let config = guarded(upstream.url());
    let all = format!("log.requests = \"all\"\n{config}");
    let gateway = Gateway::start(&format!("log.level = \"error\"\n{all}")).await;
    gateway.send(&Message::new("msg_quiet")).await;

    gateway.rewrite(&format!("log.level = \"info\"\n{all}"));
    hang_up(&gateway, "ok", 1.0).await;
    gateway.send(&Message::new("msg_heard")).await;
    gateway.line(&["\"INFO\"", "msg_heard"]).await;

    gateway.rewrite(&format!("log.level = \"error\"\n{all}"));
    hang_up(&gateway, "ok", 2.0).await;
    gateway.send(&Message::new("msg_quiet_again")).await;
    gateway.rewrite("this is no configuration");
    hang_up(&gateway, "refused", 1.0).await;
    gateway.line(&["\"ERROR\""]).await;
    let told = gateway.stderr();
    assert!(!told.contains("msg_quiet"), "{told}");
}
