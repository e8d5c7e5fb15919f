//! The sender is told the truth, in one of the words of the table, and nothing
//! of what is behind (P2).

use crate::support::{Answer, Connection, Gateway, Message, Reply, Upstream, clerk_to};

/// The words that stand for success.
const GOOD: [&str; 3] = ["delivered", "duplicate", "unmatched"];

/// Checks that an answer is formed as every answer is, and gives status and word.
fn formed(answer: &Answer) -> (u16, String) {
    let word = answer.word().to_owned();
    assert!(!word.is_empty(), "{answer:?}");
    let json = answer.json();
    let members = json.as_object().unwrap();
    if GOOD.contains(&word.as_str()) {
        assert_eq!(json["result"], word.as_str());
        assert!(members.keys().all(|k| k == "result" || k == "id"), "{json}");
    } else {
        assert_eq!(json, serde_json::json!({ "error": word }));
    }
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let request = answer.header("hookward-request").unwrap_or_default();
    assert!(!request.is_empty(), "{answer:?}");
    let retry = answer.header("retry-after");
    assert_eq!(retry.is_some(), answer.status == 503, "{answer:?}");
    if let Some(seconds) = retry {
        assert!(seconds.parse::<u64>().unwrap() >= 1, "{answer:?}");
    }
    (answer.status, word)
}

#[tokio::test]
async fn success_names_the_message_and_a_duplicate_tells_when_it_was_first() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1");

    let first = gateway.send(&message).await;
    let again = gateway.send(&message).await;

    assert_eq!(formed(&first), (200, "delivered".into()));
    assert_eq!(
        first.json(),
        serde_json::json!({"result": "delivered", "id": "msg_1"})
    );
    assert_eq!(formed(&again), (200, "duplicate".into()));
    assert_eq!(again.json()["id"], "msg_1");
    let when: jiff::Timestamp = again.header("hookward-first").unwrap().parse().unwrap();
    assert!((when.as_second() - crate::support::now()).abs() < 60);
    assert_eq!(first.header("hookward-first"), None);
    assert_ne!(
        first.header("hookward-request"),
        again.header("hookward-request")
    );
}

#[tokio::test]
async fn the_edge_refuses_unknown_paths_other_methods_and_strangers() {
    let upstream = Upstream::start().await;
    let config = clerk_to(upstream.url())
        + r#"
[sources.inner]
secrets = "env:KEY"
allow_from = ["10.0.0.0/8", "192.0.2.1/32"]
to = "app"
"#;
    let gateway = Gateway::start(&config).await;
    let message = Message::new("msg_1").seal();

    for path in ["/", "/clerk/", "/Clerk", "/clerk2", "/%63lerk", "//clerk"] {
        let answer = gateway.post(path, &message).await;
        assert_eq!(formed(&answer), (404, "unknown_path".into()), "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = String::from_utf8(message.request("/clerk")).unwrap();
        let request = request.replacen("POST", method, 1);
        let mut connection = gateway.connect().await;
        connection.write(request.as_bytes()).await;
        let answer = connection.answer().await;
        assert_eq!(formed(&answer), (405, "method".into()), "{method}");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
    let answer = gateway.post("/inner", &message).await;
    assert_eq!(formed(&answer), (403, "forbidden".into()));
    assert_eq!(upstream.count(), 0);
    let metrics = gateway.metrics().await;
    gateway.line(&["forbidden", "127.0.0.1, is not in"]).await;
    gateway.line(&["unknown_path", "`/clerk/`"]).await;
    let unknown = [("source", ""), ("result", "unknown_path")];
    assert_eq!(metrics.value("hookward_requests_total", &unknown), 6.0);
    assert_eq!(metrics.answered("method"), 5.0);
}

#[tokio::test]
async fn a_query_string_is_ignored() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    let answer = gateway
        .post("/clerk?type=other&x=/../y", &Message::new("msg_1").seal())
        .await;

    assert_eq!(formed(&answer), (200, "delivered".into()));
    assert_eq!(upstream.only().path, "/hook");
}

#[tokio::test]
async fn malformed_and_unverified_are_each_one_word() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1").seal();

    let unverified = gateway.post("/clerk", &message.clone().body("{}")).await;
    let malformed = gateway.post("/clerk", &message.without("svix-id")).await;

    assert_eq!(formed(&unverified), (401, "unverified".into()));
    assert_eq!(formed(&malformed), (400, "malformed".into()));
}

#[tokio::test]
async fn whatever_the_service_refuses_with_is_failed_and_never_relayed() {
    for status in [300, 301, 304, 308, 400, 401, 404, 410, 429, 500, 502, 599] {
        let reply = format!(
            "HTTP/1.1 {status} Gone\r\nlocation: /elsewhere\r\nset-cookie: a=b\r\nwebhook-delivery: stop\r\nretry-after: 7\r\nx-inner: yes\r\ncontent-length: 13\r\n\r\nsecret inside"
        );
        let upstream = Upstream::always(Reply::Raw(reply)).await;
        let gateway = Gateway::start(&clerk_to(upstream.url())).await;

        let answer = gateway.send(&Message::new("msg_1")).await;

        assert_eq!(formed(&answer), (502, "failed".into()), "{status}");
        let names: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        for name in [
            "location",
            "set-cookie",
            "webhook-delivery",
            "retry-after",
            "x-inner",
        ] {
            assert!(!names.contains(&name), "{answer:?}");
        }
        assert!(!answer.text().contains("inside"));
        assert_eq!(upstream.count(), 1, "{status} is not tried twice");
    }
}

#[tokio::test]
async fn what_an_accepting_service_says_is_not_relayed_either() {
    let reply =
        "HTTP/1.1 202 OK\r\nset-cookie: a=b\r\nx-inner: yes\r\ncontent-length: 6\r\n\r\ninside";
    let upstream = Upstream::always(Reply::Raw(reply.into())).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    let answer = gateway.send(&Message::new("msg_1")).await;

    assert_eq!(formed(&answer), (200, "delivered".into()));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("x-inner"), None);
    assert!(!answer.text().contains("inside"));
}

#[tokio::test]
async fn a_service_that_does_not_answer_in_its_time_is_late() {
    let upstream = Upstream::always(Reply::Never).await;
    let config = clerk_to(upstream.url()) + "timeout = \"300ms\"\n";
    let gateway = Gateway::start(&config).await;

    let answer = gateway.send(&Message::new("msg_1")).await;

    assert_eq!(formed(&answer), (504, "late".into()));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn the_budget_ends_late_the_next_is_told_in_flight_and_the_receipt_counts() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let config = format!(
        "server.request_timeout = \"1s\"\n{}timeout = \"30s\"\n",
        clerk_to(upstream.url())
    );
    let gateway = Gateway::start(&config).await;
    let message = Message::new("msg_1");

    let late = gateway.send(&message).await;
    let meanwhile = gateway.send(&message).await;

    assert_eq!(formed(&late), (504, "late".into()));
    assert_eq!(formed(&meanwhile), (503, "in_flight".into()));
    upstream.release(1);
    let labels = [
        ("source", "clerk"),
        ("destination", "app"),
        ("outcome", "accepted"),
    ];
    gateway
        .metrics_until("the attempt to count", |metrics| {
            metrics.value("hookward_deliveries_total", &labels) == 1.0
        })
        .await;
    let after = gateway.send(&message).await;
    assert_eq!(formed(&after), (200, "duplicate".into()));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_destination_that_is_full_is_busy_at_once() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let config = clerk_to(upstream.url()) + "max_in_flight = 1\n";
    let gateway = Gateway::start(&config).await;
    let mut first = gateway.connect().await;
    let held = Message::new("msg_1").seal();
    first.write(&held.request("/clerk")).await;
    upstream.reached(1).await;

    let second = gateway.send(&Message::new("msg_2")).await;

    assert_eq!(formed(&second), (503, "busy".into()));
    upstream.release(2);
    assert_eq!(first.answer().await.told(), (200, "delivered"));
    let retried = gateway.send(&Message::new("msg_2")).await;
    assert_eq!(formed(&retried), (200, "delivered".into()));
}

#[tokio::test]
async fn a_server_with_all_its_places_taken_is_busy_at_once() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let config = format!("server.max_in_flight = 1\n{}", clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;
    let mut first = gateway.connect().await;
    let held = Message::new("msg_1").seal();
    first.write(&held.request("/clerk")).await;
    upstream.reached(1).await;

    let second = gateway.send(&Message::new("msg_2")).await;

    assert_eq!(formed(&second), (503, "busy".into()));
    upstream.release(1);
    assert_eq!(first.answer().await.told(), (200, "delivered"));
}

#[tokio::test]
async fn a_source_has_no_more_than_its_share_and_forgeries_take_none_of_it() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let config = clerk_to(upstream.url()).replace("to =", "max_in_flight = 1\nto =")
        + "[sources.other]\nsecrets = \"env:KEY\"\nto = \"app\"\n";
    let gateway = Gateway::start(&config).await;
    // Half of a forged body, for as long as the test runs.
    let mut forger = gateway.connect().await;
    let forged = Message::new("msg_0").seal();
    forger.write(&forged.head("/clerk")).await;
    let mut first = gateway.connect().await;
    let held = Message::new("msg_1").seal();
    first.write(&held.request("/clerk")).await;
    upstream.reached(1).await;

    let same = gateway.send(&Message::new("msg_2")).await;
    let mut other = gateway.connect().await;
    let message = Message::new("msg_3").seal();
    other.write(&message.request("/other")).await;
    upstream.reached(2).await;

    assert_eq!(formed(&same), (503, "busy".into()));
    upstream.release(2);
    assert_eq!(first.answer().await.told(), (200, "delivered"));
    assert_eq!(other.answer().await.told(), (200, "delivered"));
}

#[tokio::test]
async fn an_open_circuit_is_unavailable_at_once_and_closes_when_the_service_is_back() {
    let upstream = Upstream::sequence(vec![Reply::Reset, Reply::Reset, Reply::Status(200)]).await;
    let config =
        clerk_to(upstream.url()) + "circuit_breaker = { failures = 2, open_for = \"300ms\" }\n";
    let gateway = Gateway::start(&config).await;

    for id in ["msg_1", "msg_2"] {
        let answer = gateway.send(&Message::new(id)).await;
        assert_eq!(formed(&answer), (502, "failed".into()));
    }
    let open = gateway.send(&Message::new("msg_3")).await;

    assert_eq!(formed(&open), (503, "unavailable".into()));
    assert_eq!(upstream.count(), 2, "nothing is tried while it is open");
    crate::support::within("the service to be found again", async {
        loop {
            let answer = gateway.send(&Message::new("msg_3")).await;
            match answer.status {
                503 => assert_eq!(answer.word(), "unavailable"),
                _ => return assert_eq!(formed(&answer), (200, "delivered".into())),
            }
        }
    })
    .await;
    let metrics = gateway.metrics().await;
    let labels = [("destination", "app")];
    assert_eq!(metrics.value("hookward_circuit_open", &labels), 0.0);
}

#[tokio::test]
async fn who_meets_an_open_circuit_is_asked_to_wait_until_it_is_tried_again() {
    let upstream = Upstream::always(Reply::Reset).await;
    for (open_for, wait) in [("300ms", 1..=1), ("10m", 590..=600)] {
        let breaker = format!("circuit_breaker = {{ failures = 1, open_for = \"{open_for}\" }}\n");
        let gateway = Gateway::start(&(clerk_to(upstream.url()) + &breaker)).await;
        gateway.send(&Message::new("msg_1")).await;

        let open = gateway.send(&Message::new("msg_2")).await;

        assert_eq!(open.told(), (503, "unavailable"));
        let told: u64 = open.header("retry-after").unwrap().parse().unwrap();
        assert!(wait.contains(&told), "{told}");
    }
}

/// A configuration that sends everything to all of these.
fn fan_out(destinations: &[(&str, String)]) -> String {
    let names: Vec<_> = destinations.iter().map(|(name, _)| *name).collect();
    let mut config = format!("[sources.clerk]\nsecrets = \"env:KEY\"\nto = {names:?}\n");
    for (name, settings) in destinations {
        config.push_str(&format!(
            "[destinations.{name}]\ntype = \"http\"\n{settings}\n"
        ));
    }
    config
}

#[tokio::test]
async fn of_several_that_failed_the_answer_is_the_worst_and_all_were_tried() {
    let good = Upstream::start().await;
    let bad = Upstream::always(Reply::Status(500)).await;
    let never = Upstream::always(Reply::Never).await;
    let reset = Upstream::always(Reply::Reset).await;
    let good_one = ("good", format!("url = \"{}\"", good.url()));
    let bad_one = ("bad", format!("url = \"{}\"", bad.url()));
    let late_one = (
        "late",
        format!("url = \"{}\"\ntimeout = \"300ms\"", never.url()),
    );
    let away_one = (
        "away",
        format!(
            "url = \"{}\"\ncircuit_breaker = {{ failures = 1, open_for = \"10m\" }}",
            reset.url()
        ),
    );

    let gateway = Gateway::start(&fan_out(&[
        good_one.clone(),
        late_one.clone(),
        away_one.clone(),
        bad_one,
    ]))
    .await;
    let answer = gateway.send(&Message::new("msg_1")).await;
    assert_eq!(formed(&answer), (502, "failed".into()));
    assert_eq!((good.count(), bad.count(), never.count()), (1, 1, 1));

    let gateway = Gateway::start(&fan_out(&[good_one.clone(), away_one.clone(), late_one])).await;
    let opening = gateway.send(&Message::new("msg_1")).await;
    assert_eq!(formed(&opening), (502, "failed".into()));
    let answer = gateway.send(&Message::new("msg_2")).await;
    assert_eq!(
        formed(&answer),
        (504, "late".into()),
        "late before unavailable"
    );

    let gateway = Gateway::start(&fan_out(&[good_one, away_one])).await;
    gateway.send(&Message::new("msg_1")).await;
    let answer = gateway.send(&Message::new("msg_2")).await;
    assert_eq!(formed(&answer), (503, "unavailable".into()));
}

#[tokio::test]
async fn a_destination_that_is_not_required_is_tried_and_never_part_of_the_answer() {
    let good = Upstream::start().await;
    let bad = Upstream::always(Reply::Status(500)).await;
    let config = fan_out(&[
        ("good", format!("url = \"{}\"", good.url())),
        (
            "extra",
            format!("url = \"{}\"\nrequired = false", bad.url()),
        ),
    ]);
    let gateway = Gateway::start(&config).await;

    let answer = gateway.send(&Message::new("msg_1")).await;

    assert_eq!(formed(&answer), (200, "delivered".into()));
    bad.reached(1).await;
    let labels = [
        ("source", "clerk"),
        ("destination", "extra"),
        ("outcome", "refused"),
    ];
    gateway
        .metrics_until("it to be counted", |metrics| {
            metrics.value("hookward_deliveries_total", &labels) == 1.0
        })
        .await;
}

#[tokio::test]
async fn what_is_no_http_is_answered_with_a_bare_status() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let many: String = (0..150).map(|n| format!("x-{n}: y\r\n")).collect();
    let cases = [
        (&[400][..], "hello, is this a webhook?\r\n\r\n".to_owned()),
        (
            &[400],
            "POST /clerk HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".into(),
        ),
        (
            &[431],
            format!("POST /clerk HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        ),
        (
            &[414, 431],
            format!("POST /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000)),
        ),
    ];

    for (statuses, request) in cases {
        let mut connection = gateway.connect().await;
        // The other side may refuse before it has taken everything.
        let _ = connection.try_write(request.as_bytes()).await;
        let answer = connection.try_answer().await;
        let what = &request[..20];
        let answer = answer.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(
            statuses.contains(&answer.status),
            "{what} {}",
            answer.status
        );
        assert_eq!(answer.body, b"", "{what}");
        connection.closed().await;
    }
    assert_eq!(gateway.send(&Message::new("msg_1")).await.status, 200);
}

#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_is_not_read_at_all() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1").seal();
    let length = message.body.len().to_string();
    let two_lengths = message.clone().and("Content-Length", "3");
    let length_and_chunked = message.clone().and("Transfer-Encoding", "chunked");
    let same_twice = message.and("Content-Length", &length);

    for (what, request) in [("two", two_lengths), ("both", length_and_chunked)] {
        let mut connection = gateway.connect().await;
        let _ = connection.try_write(&request.request("/clerk")).await;
        if let Ok(answer) = connection.try_answer().await {
            assert_eq!(answer.status, 400, "{what}");
        }
    }
    // The same length twice is one length (RFC 9110 §8.6) or a refusal.
    let answer = gateway.post("/clerk", &same_twice).await;
    assert!([200, 400].contains(&answer.status));
    assert_eq!(upstream.count(), usize::from(answer.status == 200));
}

#[tokio::test]
async fn requests_on_one_connection_are_each_answered_in_turn() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let mut connection = gateway.connect().await;
    let good = Message::new("msg_1").seal();
    let bad = Message::new("msg_2").seal().body("{}");

    let pipelined = [
        good.request("/clerk"),
        bad.request("/clerk"),
        good.request("/clerk"),
    ];
    connection.write(&pipelined.concat()).await;

    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(connection.answer().await.word().to_owned());
    }
    assert_eq!(told, ["delivered", "unverified", "duplicate"]);
}

#[tokio::test]
async fn a_chunked_body_is_as_good_as_one_with_a_length() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1").seal();
    let head = String::from_utf8(message.head("/clerk")).unwrap();
    let head = head.replace(
        &format!("Content-Length: {}", message.body.len()),
        "Transfer-Encoding: chunked",
    );
    let mut request = head.into_bytes();
    for chunk in message.body.chunks(7) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let mut connection = gateway.connect().await;

    connection.write(&request).await;

    assert_eq!(connection.answer().await.told(), (200, "delivered"));
    let delivered = upstream.only();
    assert_eq!(delivered.body, message.body);
    let length = message.body.len().to_string();
    assert_eq!(delivered.header("content-length"), Some(length.as_str()));
    assert_eq!(delivered.header("transfer-encoding"), None);
}

#[tokio::test]
async fn a_sender_that_asks_first_whether_to_go_on_is_told_to() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1").seal().and("Expect", "100-continue");
    let mut connection = gateway.connect().await;

    connection.write(&message.head("/clerk")).await;
    let go_on = connection.answer().await;
    connection.write(&message.body).await;

    assert_eq!(go_on.status, 100);
    assert_eq!(connection.answer().await.told(), (200, "delivered"));
    assert_eq!(upstream.only().header("expect"), None);
}

#[tokio::test]
async fn a_unix_socket_is_listened_on_too() {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("in.sock");
    let config = clerk_to(upstream.url());
    let gateway = Gateway::with(&config)
        .env(
            "HOOKWARD_SERVER__LISTEN",
            &format!("unix:{}", socket.display()),
        )
        .start_on_socket()
        .await;

    let mut connection = Connection::open_unix(&socket).await;
    let answer = connection
        .post("/clerk", &Message::new("msg_1").seal())
        .await;

    assert_eq!(answer.told(), (200, "delivered"));
    let request = upstream.only();
    assert_eq!(
        request.header("x-forwarded-for"),
        None,
        "there is no address"
    );
    drop(gateway);
}
