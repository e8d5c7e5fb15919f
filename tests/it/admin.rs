//! What can be asked of a running gateway, and by whom (§8, §9).

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{Connection, Gateway, Message, Reply, TOKEN, Upstream, clerk_to, now};

/// As `clerk_to`, with a token for the admin listener.
fn guarded(url: &str) -> String {
    format!("admin.token = \"env:TOKEN\"\n{}", clerk_to(url))
}

#[tokio::test]
async fn health_readiness_and_metrics_are_open_and_the_rest_needs_the_token() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&guarded(upstream.url())).await;

    for path in ["/healthz", "/readyz", "/readyz?strict", "/metrics"] {
        assert_eq!(gateway.ask("GET", path, None).await.status, 200, "{path}");
    }
    for (method, path) in [
        ("GET", "/status"),
        ("GET", "/refusals"),
        ("GET", "/ledger/clerk/msg_1"),
        ("DELETE", "/ledger/clerk/msg_1"),
        ("DELETE", "/ledger/clerk?since=2h"),
        ("POST", "/reload"),
    ] {
        let wrong = format!("{TOKEN}x");
        for token in [None, Some(""), Some("wrong"), Some(wrong.as_str())] {
            let answer = gateway.ask(method, path, token).await;
            assert_eq!(answer.status, 401, "{method} {path} {token:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let answer = gateway.ask(method, path, Some(TOKEN)).await;
        assert!(
            ![401, 403, 405].contains(&answer.status),
            "{method} {path} {answer:?}"
        );
    }
    assert_eq!(
        gateway.ask("GET", "/elsewhere", Some(TOKEN)).await.status,
        404
    );
    assert_eq!(gateway.ask("POST", "/metrics", None).await.status, 405);
    assert_eq!(gateway.ask("GET", "/reload", Some(TOKEN)).await.status, 405);
}

#[tokio::test]
async fn without_a_token_nobody_is_let_in() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    for (method, path) in [
        ("GET", "/status"),
        ("GET", "/refusals"),
        ("POST", "/reload"),
    ] {
        for token in [None, Some(""), Some(TOKEN)] {
            let answer = gateway.ask(method, path, token).await;
            assert_eq!(answer.status, 403, "{method} {path} {token:?}");
        }
    }
    assert_eq!(gateway.ask("GET", "/healthz", None).await.status, 200);
}

#[tokio::test]
async fn every_configured_label_set_starts_at_zero_and_counts() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let words = [
        "delivered",
        "duplicate",
        "unmatched",
        "malformed",
        "unverified",
        "forbidden",
        "method",
        "slow",
        "too_large",
        "conflict",
        "untyped",
        "failed",
        "busy",
        "draining",
        "unavailable",
        "in_flight",
        "late",
    ];
    let reasons = [
        "missing_header",
        "duplicate_header",
        "mixed_family",
        "bad_id",
        "bad_timestamp",
        "bad_signature",
        "too_old",
        "too_new",
        "no_key_matched",
        "forbidden",
        "too_large",
        "slow",
        "untyped",
        "conflict",
        "busy",
        "draining",
        "unavailable",
        "in_flight",
    ];
    let outcomes = [
        "accepted",
        "refused",
        "failed",
        "unconfirmed",
        "busy",
        "late",
        "unavailable",
    ];

    let fresh = gateway.metrics().await;
    for word in words {
        assert_eq!(fresh.answered(word), 0.0, "{word}");
    }
    for reason in reasons {
        assert_eq!(fresh.refused(reason), 0.0, "{reason}");
    }
    for outcome in outcomes {
        let labels = [
            ("source", "clerk"),
            ("destination", "app"),
            ("outcome", outcome),
        ];
        assert_eq!(fresh.value("hookward_deliveries_total", &labels), 0.0);
        assert_eq!(fresh.value("hookward_attempts_total", &labels[1..]), 0.0);
    }
    let source = [("source", "clerk")];
    let destination = [("destination", "app")];
    let key = [("source", "clerk"), ("key", "1")];
    for (name, labels) in [
        (
            "hookward_requests_total",
            &[("source", ""), ("result", "unknown_path")][..],
        ),
        ("hookward_request_duration_seconds_count", &source),
        ("hookward_delivery_duration_seconds_count", &destination),
        ("hookward_key_verified_total", &key),
        ("hookward_key_last_verified_timestamp_seconds", &key),
        (
            "hookward_repeats_total",
            &[("source", "clerk"), ("kind", "same_timestamp")],
        ),
        (
            "hookward_repeats_total",
            &[("source", "clerk"), ("kind", "new_timestamp")],
        ),
        ("hookward_body_changed_total", &source),
        ("hookward_ledger_entries", &[]),
        ("hookward_ledger_evictions_total", &[]),
        ("hookward_ledger_window_breaches_total", &[]),
        ("hookward_in_flight", &[]),
        ("hookward_buffered_bytes", &[]),
        ("hookward_destination_in_flight", &destination),
        ("hookward_circuit_open", &destination),
        ("hookward_clock_skew_seconds", &source),
        ("hookward_clock_steps_total", &[]),
        ("hookward_last_verified_timestamp_seconds", &source),
        ("hookward_config_reloads_total", &[("outcome", "ok")]),
        ("hookward_config_reloads_total", &[("outcome", "refused")]),
    ] {
        assert_eq!(fresh.value(name, labels), 0.0, "{name}");
    }
    for (name, labels) in [
        ("hookward_ledger_up", &[][..]),
        ("hookward_destination_up", &destination),
        ("hookward_config_last_reload_successful", &[]),
    ] {
        assert_eq!(fresh.value(name, labels), 1.0, "{name}");
    }
    assert!(fresh.0.contains("hookward_build_info{"));
    assert!(fresh.0.contains("\nprocess_resident_memory_bytes "));

    gateway.send(&Message::new("msg_1").at(-100)).await;
    gateway.send(&Message::new("msg_1")).await;
    gateway
        .post("/nowhere", &Message::new("msg_1").seal())
        .await;

    let after = gateway.metrics_until("the ledger to be counted", |metrics| {
        metrics.value("hookward_ledger_entries", &[]) > 0.0
    });
    let after = after.await;
    for (name, labels, value) in [
        (
            "hookward_requests_total",
            &[("source", "clerk"), ("result", "delivered")][..],
            1.0,
        ),
        (
            "hookward_requests_total",
            &[("source", "clerk"), ("result", "duplicate")],
            1.0,
        ),
        (
            "hookward_requests_total",
            &[("source", ""), ("result", "unknown_path")],
            1.0,
        ),
        ("hookward_request_duration_seconds_count", &source, 2.0),
        (
            "hookward_delivery_duration_seconds_count",
            &destination,
            1.0,
        ),
        ("hookward_key_verified_total", &key, 2.0),
        (
            "hookward_repeats_total",
            &[("source", "clerk"), ("kind", "new_timestamp")],
            1.0,
        ),
        ("hookward_ledger_entries", &[], 1.0),
    ] {
        assert_eq!(after.value(name, labels), value, "{name} {labels:?}");
    }
    let verified = after.value("hookward_last_verified_timestamp_seconds", &source);
    assert!((verified - now() as f64).abs() < 60.0);
}

#[tokio::test]
async fn an_expected_interval_is_told() {
    let config = clerk_to("http://127.0.0.1:9/").replace("to =", "expect_every = \"1h\"\nto =");
    let gateway = Gateway::start(&config).await;

    let metrics = gateway.metrics().await;

    let labels = [("source", "clerk")];
    assert_eq!(
        metrics.value("hookward_source_expected_interval_seconds", &labels),
        3600.0
    );
}

#[tokio::test]
async fn an_open_circuit_is_told_in_readiness_and_strict_makes_it_count() {
    let upstream = Upstream::always(Reply::Reset).await;
    let config =
        clerk_to(upstream.url()) + "circuit_breaker = { failures = 1, open_for = \"10m\" }\n";
    let gateway = Gateway::start(&config).await;
    gateway.send(&Message::new("msg_1")).await;

    let ready = gateway.ask("GET", "/readyz", None).await;
    let strict = gateway.ask("GET", "/readyz?strict", None).await;

    assert_eq!(ready.status, 200);
    let told = ready.text();
    let line = told.lines().find(|line| line.starts_with("degraded: "));
    assert!(line.unwrap_or_default().contains("app"), "{told}");
    assert_eq!(strict.status, 503);
    let metrics = gateway.metrics().await;
    let labels = [("destination", "app")];
    assert_eq!(metrics.value("hookward_circuit_open", &labels), 1.0);
    assert_eq!(metrics.value("hookward_destination_up", &labels), 0.0);
}

#[tokio::test]
async fn status_tells_sources_keys_and_destinations() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&guarded(upstream.url())).await;
    gateway.send(&Message::new("msg_1")).await;

    let answer = gateway.ask("GET", "/status", Some(TOKEN)).await;

    assert_eq!(answer.status, 200);
    let text = answer.json().to_string();
    for part in [
        "version",
        "sources",
        "clerk",
        "keys",
        "destinations",
        "app",
        "circuit",
    ] {
        assert!(text.contains(&format!("\"{part}")), "{part} in {text}");
    }
    assert!(text.contains(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn status_tells_the_state_of_each_destination_and_its_circuit() {
    let upstream = Upstream::sequence(vec![Reply::Status(200), Reply::Reset]).await;
    let config =
        guarded(upstream.url()) + "circuit_breaker = { failures = 1, open_for = \"10m\" }\n";
    let gateway = Gateway::start(&config).await;
    let status = async || {
        let answer = gateway.ask("GET", "/status", Some(TOKEN)).await;
        let app = answer.json()["destinations"][0].clone();
        assert_eq!(app["name"], "app");
        (
            app["state"].clone(),
            app["circuit"].clone(),
            app["degraded"].clone(),
        )
    };

    gateway.send(&Message::new("msg_1")).await;
    assert_eq!(status().await, ("up".into(), "closed".into(), Value::Null));

    gateway.send(&Message::new("msg_2")).await;
    let (state, circuit, degraded) = status().await;
    assert_eq!((state, circuit), ("away".into(), "open".into()));
    assert!(degraded.to_string().contains("circuit"), "{degraded}");
}

#[tokio::test]
async fn the_last_refusals_are_told_with_time_source_reason_and_id() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&guarded(upstream.url())).await;
    let mut connection = gateway.connect().await;
    for number in 0..300 {
        let message = Message::new(&format!("msg_{number}")).seal();
        connection
            .post("/clerk", &message.body("{\"marker\":\"inside\"}"))
            .await;
    }

    let answer = gateway.ask("GET", "/refusals", Some(TOKEN)).await;

    assert_eq!(answer.status, 200);
    let json = answer.json();
    let list = match &json {
        Value::Array(list) => list,
        other => other["refusals"].as_array().unwrap(),
    };
    assert_eq!(list.len(), 256);
    let text = json.to_string();
    assert!(text.contains("\"msg_299\"") && !text.contains("\"msg_43\""));
    assert!(
        !text.contains("inside") && !text.contains("v1,"),
        "no bodies, no signatures"
    );
    for refusal in list {
        assert_eq!(refusal["source"], "clerk");
        assert_eq!(refusal["reason"], "no_key_matched");
        refusal["time"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
    }
}

#[tokio::test]
async fn the_ledger_tells_and_forgets_what_it_knows_of_an_id() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&guarded(upstream.url())).await;
    let id = "msg/1?x=%2e&y";
    let encoded = "msg%2F1%3Fx%3D%252e%26y";
    gateway.send(&Message::new(id)).await;
    let path = format!("/ledger/clerk/{encoded}");

    let found = gateway.ask("GET", &path, Some(TOKEN)).await;
    assert_eq!(found.status, 200);
    let json = found.json();
    assert_eq!(json["state"], "delivered", "{json}");
    assert!(json["destinations"].to_string().contains("app"), "{json}");

    for unknown in ["/ledger/clerk/other", "/ledger/other/msg", "/ledger/clerk"] {
        let answer = gateway.ask("GET", unknown, Some(TOKEN)).await;
        assert!([404, 405].contains(&answer.status), "{unknown} {answer:?}");
    }
    assert_eq!(
        gateway
            .ask("DELETE", "/ledger/clerk/other", Some(TOKEN))
            .await
            .status,
        404
    );
    assert_eq!(gateway.ask("DELETE", &path, Some(TOKEN)).await.status, 204);
    assert_eq!(gateway.ask("DELETE", &path, Some(TOKEN)).await.status, 404);
    assert_eq!(gateway.ask("GET", &path, Some(TOKEN)).await.status, 404);
}

#[tokio::test]
async fn what_is_running_cannot_be_forgotten() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let gateway = Gateway::start(&guarded(upstream.url())).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_1").seal();
    connection.write(&message.request("/clerk")).await;
    upstream.reached(1).await;

    let answer = gateway
        .ask("DELETE", "/ledger/clerk/msg_1", Some(TOKEN))
        .await;

    assert_eq!(answer.status, 409);
    upstream.release(1);
    assert_eq!(connection.answer().await.told(), (200, "delivered"));
    let answer = gateway
        .ask("DELETE", "/ledger/clerk/msg_1", Some(TOKEN))
        .await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn one_destination_alone_can_be_forgotten() {
    let left = Upstream::start().await;
    let right = Upstream::start().await;
    let config = format!(
        "{}[destinations.right]\ntype = \"http\"\nurl = \"{}\"\n",
        guarded(left.url()).replace("to = \"app\"", "to = [\"app\", \"right\"]"),
        right.url()
    );
    let gateway = Gateway::start(&config).await;
    gateway.send(&Message::new("msg_1")).await;

    let path = "/ledger/clerk/msg_1?destination=right";
    assert_eq!(gateway.ask("DELETE", path, Some(TOKEN)).await.status, 204);
    let unknown = "/ledger/clerk/msg_1?destination=nowhere";
    assert_eq!(
        gateway.ask("DELETE", unknown, Some(TOKEN)).await.status,
        404
    );

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    assert_eq!((left.count(), right.count()), (1, 2));
}

#[tokio::test]
async fn everything_since_a_time_can_be_forgotten() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&guarded(upstream.url())).await;
    for id in ["msg_1", "msg_2", "msg_3"] {
        gateway.send(&Message::new(id)).await;
    }

    let answer = gateway
        .ask("DELETE", "/ledger/clerk?since=2h", Some(TOKEN))
        .await;

    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(
        gateway.send(&Message::new("msg_2")).await.told(),
        (200, "delivered")
    );
    let bad = gateway
        .ask("DELETE", "/ledger/clerk?since=soon", Some(TOKEN))
        .await;
    assert_eq!(bad.status, 400);
    let bare = gateway.ask("DELETE", "/ledger/clerk", Some(TOKEN)).await;
    assert!([400, 404, 405].contains(&bare.status), "{bare:?}");
    assert_eq!(
        gateway.send(&Message::new("msg_2")).await.told(),
        (200, "duplicate")
    );
}

#[tokio::test]
async fn admin_can_be_off() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&clerk_to(upstream.url()))
        .no_admin()
        .start()
        .await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    let told = gateway.stderr();
    let mut admin = told.lines().filter(|line| line.starts_with("admin"));
    assert!(!admin.any(|line| line.contains("http://")), "{told}");
}

#[tokio::test]
async fn a_crowd_of_silent_connections_does_not_make_it_look_dead() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Connection::open(gateway.admin()).await);
    }
    // Who is closed comes again at once.
    let mut crowding = JoinSet::new();
    for mut silent in crowd {
        let admin = gateway.admin();
        crowding.spawn(async move {
            loop {
                silent.closed().await;
                silent = Connection::open(admin).await;
            }
        });
    }

    for _ in 0..3 {
        let asked = std::time::Instant::now();
        assert_eq!(gateway.ask("GET", "/healthz", None).await.status, 200);
        // It was 10 s, and is a third of one; a probe gives it 1 s.
        assert!(asked.elapsed().as_secs() < 3, "{:?}", asked.elapsed());
    }
}
