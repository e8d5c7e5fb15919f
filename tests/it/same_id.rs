//! What was delivered is not delivered again, and what was not can be (P3).

use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::{Connection, Gateway, Message, Reply, TOKEN, Upstream, clerk_to, within};

#[tokio::test]
async fn a_retry_signed_anew_is_a_duplicate_and_so_is_the_very_same_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1");
    let sealed = message.clone().at(-10).seal();

    assert_eq!(
        gateway.post("/clerk", &sealed).await.told(),
        (200, "delivered")
    );
    assert_eq!(
        gateway.post("/clerk", &sealed).await.told(),
        (200, "duplicate")
    );
    assert_eq!(gateway.send(&message).await.told(), (200, "duplicate"));
    assert_eq!(
        gateway.send(&message.webhook()).await.told(),
        (200, "duplicate")
    );

    assert_eq!(upstream.count(), 1);
    let metrics = gateway.metrics().await;
    let repeats = |kind| {
        metrics.value(
            "hookward_repeats_total",
            &[("source", "clerk"), ("kind", kind)],
        )
    };
    assert_eq!(
        (repeats("same_timestamp"), repeats("new_timestamp")),
        (1.0, 2.0)
    );
}

#[tokio::test]
async fn a_delivered_id_with_another_body_is_a_conflict() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;

    gateway.send(&Message::new("msg_1")).await;
    let answer = gateway.send(&Message::new("msg_1").body("{}")).await;

    assert_eq!(answer.told(), (409, "conflict"));
    assert_eq!(upstream.count(), 1);
    assert_eq!(gateway.metrics().await.refused("conflict"), 1.0);
}

#[tokio::test]
async fn ids_belong_to_their_source() {
    let upstream = Upstream::start().await;
    let config =
        clerk_to(upstream.url()) + "[sources.other]\nsecrets = \"env:KEY\"\nto = \"app\"\n";
    let gateway = Gateway::start(&config).await;
    let message = Message::new("msg_1").seal();

    assert_eq!(
        gateway.post("/clerk", &message).await.told(),
        (200, "delivered")
    );
    assert_eq!(
        gateway.post("/other", &message).await.told(),
        (200, "delivered")
    );
}

#[tokio::test]
async fn a_hundred_at_once_are_one_delivery_and_none_is_told_before_it_is_true() {
    let upstream = Upstream::always(Reply::Held(200)).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1").seal();
    let mut waiting = JoinSet::new();
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..100 {
        let mut connection = gateway.connect().await;
        let (message, answered) = (message.clone(), answered.clone());
        waiting.spawn(async move {
            let answer = connection.post("/clerk", &message).await;
            answered.send(()).unwrap();
            answer
        });
    }
    upstream.reached(1).await;
    gateway
        .metrics_until("all hundred to be in flight", |metrics| {
            metrics.value("hookward_in_flight", &[]) >= 100.0
        })
        .await;
    assert!(answers.try_recv().is_err(), "told before it was true");

    upstream.release(1);

    let answers = waiting.join_all().await;
    for answer in &answers {
        assert_eq!(answer.told(), (200, "delivered"));
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn those_that_waited_for_a_failure_are_told_the_failure() {
    let upstream = Upstream::sequence(vec![Reply::Held(500), Reply::Status(200)]).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1").seal();
    let mut waiting = JoinSet::new();
    for _ in 0..10 {
        let mut connection = gateway.connect().await;
        let message = message.clone();
        waiting.spawn(async move { connection.post("/clerk", &message).await });
    }
    gateway
        .metrics_until("all ten to be in flight", |metrics| {
            metrics.value("hookward_in_flight", &[]) >= 10.0
        })
        .await;

    upstream.release(1);

    for answer in waiting.join_all().await {
        assert_eq!(answer.told(), (502, "failed"));
    }
    assert_eq!(upstream.count(), 1);
    assert_eq!(
        gateway.post("/clerk", &message).await.told(),
        (200, "delivered")
    );
    assert_eq!(
        gateway.post("/clerk", &message).await.told(),
        (200, "duplicate")
    );
}

#[tokio::test]
async fn what_failed_is_tried_anew_when_the_sender_tries_again() {
    let upstream = Upstream::sequence(vec![
        Reply::Status(500),
        Reply::Reset,
        Reply::Status(410),
        Reply::Status(200),
    ])
    .await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1");

    for _ in 0..3 {
        assert_eq!(gateway.send(&message).await.told(), (502, "failed"));
    }
    assert_eq!(gateway.send(&message).await.told(), (200, "delivered"));
    assert_eq!(gateway.send(&message).await.told(), (200, "duplicate"));
    assert_eq!(upstream.count(), 4);
}

#[tokio::test]
async fn an_id_not_yet_delivered_runs_with_the_body_now_signed() {
    let left = Upstream::start().await;
    let right = Upstream::sequence(vec![Reply::Status(500), Reply::Status(200)]).await;
    let gateway = Gateway::start(&to_both(&left, &right)).await;

    gateway.send(&Message::new("msg_1")).await;
    let answer = gateway
        .send(&Message::new("msg_1").body(r#"{"type":"b"}"#))
        .await;

    assert_eq!(answer.told(), (200, "delivered"));
    assert_eq!((left.count(), right.count()), (1, 2));
    assert_eq!(right.requests()[1].body, br#"{"type":"b"}"#);
    let metrics = gateway.metrics().await;
    let labels = [("source", "clerk")];
    assert_eq!(metrics.value("hookward_body_changed_total", &labels), 1.0);
}

/// A source that sends to `left` and `right`.
fn to_both(left: &Upstream, right: &Upstream) -> String {
    format!(
        r#"
[sources.clerk]
secrets = "env:KEY"
to = ["left", "right"]
[destinations.left]
type = "http"
url = "{}"
[destinations.right]
type = "http"
url = "{}"
"#,
        left.url(),
        right.url()
    )
}

#[tokio::test]
async fn after_a_fan_out_of_which_one_half_failed_the_retry_reaches_only_that_half() {
    let left = Upstream::start().await;
    let right = Upstream::sequence(vec![Reply::Status(500), Reply::Status(200)]).await;
    let gateway = Gateway::start(&to_both(&left, &right)).await;
    let message = Message::new("msg_1");

    assert_eq!(gateway.send(&message).await.told(), (502, "failed"));
    assert_eq!((left.count(), right.count()), (1, 1));
    assert_eq!(gateway.send(&message).await.told(), (200, "delivered"));
    assert_eq!((left.count(), right.count()), (1, 2));
    assert_eq!(gateway.send(&message).await.told(), (200, "duplicate"));
    assert_eq!((left.count(), right.count()), (1, 2));
}

#[tokio::test]
async fn one_slow_destination_holds_up_no_other() {
    let left = Upstream::always(Reply::Held(200)).await;
    let right = Upstream::start().await;
    let gateway = Gateway::start(&to_both(&left, &right)).await;
    let mut connection = gateway.connect().await;
    let message = Message::new("msg_1").seal();

    connection.write(&message.request("/clerk")).await;

    left.reached(1).await;
    right.reached(1).await;
    left.release(1);
    assert_eq!(connection.answer().await.told(), (200, "delivered"));
}

#[tokio::test]
async fn the_newest_five_hundred_of_four_thousand_are_still_known_in_a_ledger_for_a_thousand() {
    let upstream = Upstream::start().await;
    let config = format!("ledger.max_entries = 1000\n{}", clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;
    let mut senders = JoinSet::new();
    // Eight connections in step, so that the newest are the newest.
    for worker in 0..8 {
        let mut connection = gateway.connect().await;
        senders.spawn(async move {
            for number in 0..500 {
                let message = Message::new(&format!("msg_{number}_{worker}")).seal();
                assert_eq!(connection.post("/clerk", &message).await.status, 200);
            }
        });
    }
    senders.join_all().await;
    assert_eq!(upstream.count(), 4000);
    let newest: Vec<String> = upstream.requests()[3500..]
        .iter()
        .map(|request| request.id().to_owned())
        .collect();

    let mut connection = gateway.connect().await;
    for id in &newest {
        let answer = connection.post("/clerk", &Message::new(id).seal()).await;
        assert_eq!(answer.told(), (200, "duplicate"), "{id}");
    }

    assert_eq!(upstream.count(), 4000);
    let forgotten = "hookward_ledger_evictions_total";
    let metrics = gateway.metrics_until("the others to be forgotten", |metrics| {
        metrics.value(forgotten, &[]) >= 3000.0
            && metrics.value("hookward_ledger_entries", &[]) <= 1000.0
    });
    let metrics = metrics.await;
    // All of them were fresh when they were forgotten.
    assert_eq!(
        metrics.value("hookward_ledger_window_breaches_total", &[]),
        metrics.value(forgotten, &[])
    );
}

#[tokio::test]
async fn forgeries_leave_nothing_in_the_ledger() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    // `FORGERIES=100000` for the long run.
    let forgeries = std::env::var("FORGERIES").map_or(10_000, |n| n.parse().unwrap());
    let mut senders = JoinSet::new();
    for worker in 0..4 {
        let mut connection = gateway.connect().await;
        senders.spawn(async move {
            let forged = Message::new("msg_1").seal();
            for number in 0..forgeries / 4 {
                let forged = forged
                    .clone()
                    .with("svix-id", &format!("f_{number}_{worker}"));
                assert_eq!(connection.post("/clerk", &forged).await.status, 401);
            }
        });
    }

    senders.join_all().await;

    assert_eq!(upstream.count(), 0);
    let metrics = gateway.only_this_in_the_ledger().await;
    assert_eq!(metrics.refused("no_key_matched"), f64::from(forgeries));
}

#[tokio::test]
async fn a_deliberate_resend_is_delivered_again_and_says_so() {
    let upstream = Upstream::start().await;
    let config = clerk_to(upstream.url()).replace("to =", "resend_after = \"1s\"\nto =");
    let gateway = Gateway::start(&config).await;
    let first = Message::new("msg_1").at(-20).seal();

    assert_eq!(
        gateway.post("/clerk", &first).await.told(),
        (200, "delivered")
    );
    // The signed time is not newer: a replay, whenever it comes.
    assert_eq!(
        gateway.post("/clerk", &first).await.told(),
        (200, "duplicate")
    );
    let again = within("the resend to be taken", async {
        loop {
            let answer = gateway.send(&Message::new("msg_1")).await;
            if answer.word() != "duplicate" {
                return answer;
            }
        }
    })
    .await;

    assert_eq!(again.told(), (200, "delivered"));
    assert_eq!(
        gateway.post("/clerk", &first).await.told(),
        (200, "duplicate")
    );
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("hookward-resend"), None);
    assert_eq!(requests[1].header("hookward-resend"), Some("true"));
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_delivery_whose_outcome_is_not_known_is_made_again() {
    let upstream = Upstream::sequence(vec![Reply::ResetInHead, Reply::Status(200)]).await;
    let gateway = Gateway::start(&clerk_to(upstream.url())).await;
    let message = Message::new("msg_1");

    assert_eq!(gateway.send(&message).await.told(), (502, "failed"));
    assert_eq!(upstream.count(), 1, "not tried twice by ourselves");
    assert_eq!(gateway.send(&message).await.told(), (200, "delivered"));

    let requests = upstream.requests();
    let key = requests[0].header("idempotency-key");
    assert_eq!(key, Some("clerk:msg_1"));
    assert_eq!(requests[1].header("idempotency-key"), key);
}

#[tokio::test]
async fn what_is_forgotten_on_purpose_is_delivered_again() {
    let upstream = Upstream::start().await;
    let config = format!("admin.token = \"env:TOKEN\"\n{}", clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;
    let message = Message::new("msg_1");
    gateway.send(&message).await;

    let answer = gateway
        .ask("DELETE", "/ledger/clerk/msg_1", Some(TOKEN))
        .await;

    assert_eq!(answer.status, 204);
    assert_eq!(gateway.send(&message).await.told(), (200, "delivered"));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_message_nobody_wants_leaves_no_record() {
    let upstream = Upstream::start().await;
    let config = clerk_to(upstream.url()).replace("to = \"app\"\n", "")
        + "[[routes]]\nfrom = \"clerk\"\ntypes = \"order.*\"\nto = \"app\"\n";
    let gateway = Gateway::start(&config).await;
    let mut connection = Connection::open(gateway.address()).await;

    for _ in 0..2 {
        let answer = connection
            .post("/clerk", &Message::new("msg_1").seal())
            .await;
        assert_eq!(answer.told(), (200, "unmatched"));
    }

    let wanted = Message::new("msg_2").of_type("order.paid");
    assert_eq!(gateway.send(&wanted).await.told(), (200, "delivered"));
    gateway.ledger_counts(1.0).await;
}
