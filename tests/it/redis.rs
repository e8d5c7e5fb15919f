//! Replicas that share a ledger in Redis act as one (P3).

use tokio::task::JoinSet;

use crate::support::{Gateway, Message, Redis, Reply, TOKEN, Upstream, clerk_to, within};

/// A configuration with its ledger in this Redis; `more` stands in its table.
pub fn sharing(redis: &Redis, more: &str, rest: &str) -> String {
    format!(
        "admin.token = \"env:TOKEN\"\nledger.redis = {{ url = \"{}\"{more} }}\n{rest}",
        redis.url()
    )
}

/// Two gateways that share a ledger and do the same.
async fn two(redis: &Redis, more: &str, rest: &str) -> [Gateway; 2] {
    let config = sharing(redis, more, rest);
    [connected(&config).await, connected(&config).await]
}

/// A gateway that has its connection.
pub async fn connected(config: &str) -> Gateway {
    let gateway = Gateway::start(config).await;
    gateway.line(&["the ledger's Redis is there"]).await;
    gateway
}

#[tokio::test]
async fn what_one_replica_delivered_is_known_to_the_other() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let [one, two] = two(&redis, "", &clerk_to(upstream.url())).await;
    let message = Message::new("msg_1");
    let sealed = message.clone().at(-10).seal();

    assert_eq!(one.post("/clerk", &sealed).await.told(), (200, "delivered"));

    let again = two.post("/clerk", &sealed).await;
    assert_eq!(again.told(), (200, "duplicate"));
    assert!(again.header("hookward-first").is_some());
    assert_eq!(two.send(&message).await.told(), (200, "duplicate"));
    let other_body = Message::new("msg_1").body("{}");
    assert_eq!(two.send(&other_body).await.told(), (409, "conflict"));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn the_same_request_to_both_at_once_is_one_delivery_a_thousand_times() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let [one, two] = two(&redis, "", &clerk_to(upstream.url())).await;
    let mut senders = JoinSet::new();
    for worker in 0..4 {
        let (mut left, mut right) = (one.connect().await, two.connect().await);
        senders.spawn(async move {
            for number in 0..250 {
                let message = Message::new(&format!("msg_{worker}_{number}")).seal();
                let (left, right) = tokio::join!(
                    left.post("/clerk", &message),
                    right.post("/clerk", &message)
                );
                for answer in [&left, &right] {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            }
        });
    }

    senders.join_all().await;

    assert_eq!(upstream.count(), 1000);
    let mut ids: Vec<_> = upstream
        .requests()
        .iter()
        .map(|r| r.id().to_owned())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
}

#[tokio::test]
async fn an_event_costs_two_round_trips_and_a_duplicate_one() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = connected(&sharing(&redis, "", &clerk_to(upstream.url()))).await;
    let mut connection = gateway.connect().await;
    let messages: Vec<_> = (0..50)
        .map(|number| Message::new(&format!("msg_{number}")).seal())
        .collect();
    let before = redis.calls().await;

    for message in &messages {
        let answer = connection.post("/clerk", message).await;
        assert_eq!(answer.told(), (200, "delivered"));
    }
    assert_eq!(redis.calls().await - before, 100);
    for message in &messages {
        let answer = connection.post("/clerk", message).await;
        assert_eq!(answer.told(), (200, "duplicate"));
    }

    assert_eq!(redis.calls().await - before, 150);
}

#[tokio::test]
async fn who_waits_for_another_replica_is_answered_the_same() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    for (status, told) in [(200, (200, "delivered")), (500, (502, "failed"))] {
        let upstream = Upstream::always(Reply::Held(status)).await;
        let [one, two] = two(&redis, "", &clerk_to(upstream.url())).await;
        let message = Message::new(&format!("msg_{status}")).seal();
        let mut first = one.connect().await;
        first.write(&message.request("/clerk")).await;
        upstream.reached(1).await;
        let mut others = JoinSet::new();
        for _ in 0..10 {
            let (mut connection, message) = (two.connect().await, message.clone());
            others.spawn(async move { connection.post("/clerk", &message).await });
        }
        two.verified(10).await;

        upstream.release(1);

        assert_eq!(first.answer().await.told(), told);
        for answer in others.join_all().await {
            assert_eq!(answer.told(), told);
        }
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test]
async fn who_waits_longer_than_its_budget_is_told_in_flight() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::always(Reply::Held(200)).await;
    let rest = clerk_to(upstream.url());
    let one = connected(&sharing(&redis, "", &rest)).await;
    let impatient = format!("server.request_timeout = \"1s\"\n{rest}");
    let two = connected(&sharing(&redis, "", &impatient)).await;
    let message = Message::new("msg_1").seal();
    let mut first = one.connect().await;
    first.write(&message.request("/clerk")).await;
    upstream.reached(1).await;

    let answer = two.post("/clerk", &message).await;

    assert_eq!(answer.told(), (503, "in_flight"));
    assert!(answer.header("retry-after").is_some());
    upstream.release(1);
    assert_eq!(first.answer().await.told(), (200, "delivered"));
    assert_eq!(
        two.post("/clerk", &message).await.told(),
        (200, "duplicate")
    );
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_retry_at_another_replica_reaches_only_who_has_not_accepted() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let left = Upstream::start().await;
    let right = Upstream::sequence(vec![Reply::Status(500), Reply::Status(200)]).await;
    let rest = format!(
        "[sources.clerk]\nsecrets = \"env:KEY\"\nto = [\"left\", \"right\"]\n\
         [destinations.left]\ntype = \"http\"\nurl = \"{}\"\n\
         [destinations.right]\ntype = \"http\"\nurl = \"{}\"\n",
        left.url(),
        right.url()
    );
    let [one, two] = two(&redis, "", &rest).await;
    let message = Message::new("msg_1");

    assert_eq!(one.send(&message).await.told(), (502, "failed"));
    assert_eq!(two.send(&message).await.told(), (200, "delivered"));
    assert_eq!(one.send(&message).await.told(), (200, "duplicate"));

    assert_eq!((left.count(), right.count()), (1, 2));
}

#[tokio::test]
async fn a_replica_that_dies_keeps_an_id_for_its_lease_and_no_longer() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::sequence(vec![Reply::Never, Reply::Status(200)]).await;
    let [one, two] = two(&redis, ", lease = \"3s\"", &clerk_to(upstream.url())).await;
    let message = Message::new("msg_1").seal();
    let mut first = one.connect().await;
    first.write(&message.request("/clerk")).await;
    upstream.reached(1).await;
    let began = upstream.requests()[0].at;

    one.signal(rustix::process::Signal::KILL);

    assert_eq!(
        two.post("/clerk", &message).await.told(),
        (200, "delivered")
    );
    let waited = upstream.requests()[1].at - began;
    assert!(waited.as_millis() > 2900, "{waited:?}");
    assert!(waited.as_secs() < 6, "{waited:?}");
    assert_eq!(
        two.post("/clerk", &message).await.told(),
        (200, "duplicate")
    );
}

#[tokio::test]
async fn a_delivery_that_outlives_the_budget_keeps_its_id() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::always(Reply::Held(200)).await;
    let rest = format!(
        "server.request_timeout = \"1s\"\n{}timeout = \"30s\"\n",
        clerk_to(upstream.url())
    );
    let [one, two] = two(&redis, ", lease = \"2s\"", &rest).await;
    let message = Message::new("msg_1").seal();
    assert_eq!(one.post("/clerk", &message).await.told(), (504, "late"));

    // A second each: longer than the lease, which is renewed.
    for _ in 0..4 {
        assert_eq!(
            two.post("/clerk", &message).await.told(),
            (503, "in_flight")
        );
    }

    upstream.release(1);
    within("the receipt to count", async {
        while two.post("/clerk", &message).await.told() != (200, "duplicate") {}
    })
    .await;
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn an_id_is_looked_up_and_forgotten_through_any_replica() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let [one, two] = two(&redis, "", &clerk_to(upstream.url())).await;
    let ask = async |gateway: &Gateway, method: &str, path: &str| {
        let answer = gateway.ask(method, path, Some(TOKEN)).await;
        (answer.status, answer)
    };
    for number in 1..=3 {
        one.send(&Message::new(&format!("msg_{number}"))).await;
    }

    let (status, look) = ask(&two, "GET", "/ledger/clerk/msg_1").await;
    assert_eq!(
        (status, look.json()["state"].as_str()),
        (200, Some("delivered"))
    );
    assert_eq!(look.json()["destinations"][0]["destination"], "app");

    assert_eq!(ask(&two, "DELETE", "/ledger/clerk/msg_1").await.0, 204);
    assert_eq!(ask(&one, "GET", "/ledger/clerk/msg_1").await.0, 404);
    assert_eq!(ask(&one, "DELETE", "/ledger/clerk/msg_1").await.0, 404);
    let receipt = "/ledger/clerk/msg_2?destination=app";
    assert_eq!(ask(&two, "DELETE", receipt).await.0, 204);
    for id in ["msg_1", "msg_2"] {
        assert_eq!(one.send(&Message::new(id)).await.told(), (200, "delivered"));
    }
    let (_, forgotten) = ask(&two, "DELETE", "/ledger/clerk?since=1h").await;
    assert_eq!(forgotten.json()["forgotten"], 3);
    assert_eq!(
        one.send(&Message::new("msg_3")).await.told(),
        (200, "delivered")
    );
    assert_eq!(upstream.count(), 6);
}

#[tokio::test]
async fn what_runs_on_another_replica_is_not_forgotten() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::always(Reply::Held(200)).await;
    let [one, two] = two(&redis, "", &clerk_to(upstream.url())).await;
    let mut first = one.connect().await;
    let message = Message::new("msg_1").seal();
    first.write(&message.request("/clerk")).await;
    upstream.reached(1).await;

    let look = two.ask("GET", "/ledger/clerk/msg_1", Some(TOKEN)).await;
    assert_eq!(look.json()["state"], "running");
    for (path, status) in [
        ("/ledger/clerk/msg_1", 409),
        ("/ledger/clerk?since=1h", 200),
    ] {
        let answer = two.ask("DELETE", path, Some(TOKEN)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }

    upstream.release(1);
    assert_eq!(first.answer().await.told(), (200, "delivered"));
    assert_eq!(
        two.post("/clerk", &message).await.told(),
        (200, "duplicate")
    );
}

#[tokio::test]
async fn nothing_is_kept_but_what_somebody_accepted_and_that_not_for_ever() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::sequence(vec![Reply::Status(200), Reply::Status(500)]).await;
    let rest = clerk_to(upstream.url()).replace("to = \"app\"\n", "")
        + "[[routes]]\ntypes = \"user.*\"\nto = \"app\"\n";
    let config = format!("ledger.retention = \"1h\"\n{rest}");
    let gateway = connected(&sharing(&redis, ", prefix = \"h*w:\"", &config)).await;

    assert_eq!(
        gateway.send(&Message::new("msg_1")).await.told(),
        (200, "delivered")
    );
    assert_eq!(gateway.send(&Message::new("msg_2")).await.status, 502);
    let unmatched = Message::new("msg_3").of_type("other");
    assert_eq!(gateway.send(&unmatched).await.told(), (200, "unmatched"));
    let untyped = Message::new("msg_4").body("{}");
    assert_eq!(gateway.send(&untyped).await.told(), (422, "untyped"));

    let keys = within("leases to be given back", async {
        loop {
            let keys = redis.keys().await;
            if keys.len() <= 1 {
                return keys;
            }
        }
    })
    .await;
    assert!(
        keys[0].starts_with("h*w:") && keys[0].len() == 26,
        "{keys:?}"
    );
    let left: u64 = redis.ask(&["PTTL", &keys[0]]).await;
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    let forgotten = gateway
        .ask("DELETE", "/ledger/clerk?since=1h", Some(TOKEN))
        .await;
    assert!(redis.keys().await.is_empty(), "{}", forgotten.text());
}

#[tokio::test]
async fn a_deliberate_resend_is_one_for_all_replicas() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start().await;
    let rest = clerk_to(upstream.url()).replace("to =", "resend_after = \"1s\"\nto =");
    let [one, two] = two(&redis, "", &rest).await;
    let first = Message::new("msg_1").at(-20).seal();
    assert_eq!(one.post("/clerk", &first).await.told(), (200, "delivered"));

    let again = within("the resend to be taken", async {
        loop {
            let again = Message::new("msg_1").seal();
            if two.post("/clerk", &again).await.told() == (200, "delivered") {
                return again;
            }
        }
    })
    .await;

    assert_eq!(one.post("/clerk", &again).await.told(), (200, "duplicate"));
    assert_eq!(one.post("/clerk", &first).await.told(), (200, "duplicate"));
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("hookward-resend"), Some("true"));
}
