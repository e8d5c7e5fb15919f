//! With `ledger.journal`, ids and receipts survive a kill and a restart (§4, P3).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::support::{Gateway, Message, Reply, Upstream, before_the_next_look, clerk_to, within};

fn journalled(folder: &Path, rest: &str) -> String {
    format!("[ledger]\njournal = '{}'\n{rest}", folder.display())
}

/// Starts it and waits until it has read its journal.
async fn ready(config: &str) -> Gateway {
    let gateway = Gateway::start(config).await;
    is_ready(&gateway).await;
    gateway
}

async fn is_ready(gateway: &Gateway) {
    within("the gateway to be ready", async {
        while gateway.ask("GET", "/readyz?strict", None).await.status != 200 {
            before_the_next_look().await;
        }
    })
    .await;
}

async fn killed(mut gateway: Gateway) {
    gateway.signal(Signal::KILL);
    gateway.ended().await;
}

/// What the senders were told of each id: whether it is done.
type Told = Arc<Mutex<HashMap<String, bool>>>;

/// Sends new ids, one after the other, until the gateway is gone.
async fn send_until_killed(gateway: Arc<Gateway>, sender: usize, round: usize, told: Told) {
    for number in 0.. {
        let id = format!("msg_{round}_{sender}_{number}");
        told.lock().unwrap().insert(id.clone(), false);
        let sent = tokio::spawn({
            let (gateway, message) = (Arc::clone(&gateway), Message::new(&id));
            async move { gateway.send(&message).await.status }
        });
        match sent.await {
            Ok(200) => told.lock().unwrap().insert(id, true),
            Ok(status) => panic!("{id} was answered {status}"),
            Err(_) => return,
        };
    }
}

/// As many rounds as `HOOKWARD_TEST_KILLS` says, or three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_was_acknowledged_nothing_is_lost_or_sent_again_over_kills_under_load() {
    let rounds = std::env::var("HOOKWARD_TEST_KILLS").ok();
    let rounds: usize = rounds.map_or(3, |rounds| rounds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let config = journalled(&dir.path().join("ids"), &clerk_to(upstream.url()));
    let told: Told = Arc::default();
    for round in 0..rounds {
        let gateway = Arc::new(Gateway::start(&config).await);
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let sent = send_until_killed(gateway.clone(), sender, round, told.clone());
                tokio::spawn(sent)
            })
            .collect();
        let before = upstream.count();
        // Another moment each time.
        upstream.reached(before + 60 + 17 * (round % 7)).await;
        gateway.signal(Signal::KILL);
        for sender in senders {
            within("the senders to notice", sender).await.unwrap();
        }
        let gateway = Gateway::start(&config).await;
        let all = told.lock().unwrap().clone();
        for (id, done) in all {
            let answer = gateway.send(&Message::new(&id)).await;
            assert_eq!(answer.status, 200, "{id}");
            if done {
                assert_eq!(answer.word(), "duplicate", "{id} was acknowledged");
            }
            told.lock().unwrap().insert(id, true);
        }
        killed(gateway).await;
    }
    let mut sent: HashMap<String, usize> = HashMap::new();
    for request in upstream.requests() {
        *sent.entry(request.id().to_owned()).or_default() += 1;
    }
    let told = told.lock().unwrap();
    let sent_ids: HashSet<_> = sent.keys().collect();
    assert_eq!(sent_ids, told.keys().collect(), "each arrived");
    // What was under way at a kill may come twice: eight senders, one each.
    let twice = sent.values().filter(|&&count| count > 1).count();
    assert!(twice <= 8 * rounds, "{twice} were sent again");
    assert!(sent.values().all(|&count| count <= 2), "{sent:?}");
}

#[tokio::test]
async fn after_a_kill_repeats_conflicts_and_receipts_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let billing = Upstream::start().await;
    let audit = Upstream::sequence(vec![
        Reply::Status(200),
        Reply::Status(500),
        Reply::Status(200),
    ])
    .await;
    let config = journalled(
        &dir.path().join("ids"),
        &format!(
            r#"
[sources.clerk]
secrets = "env:KEY"
to = ["billing", "audit"]
[destinations.billing]
type = "http"
url = "{}"
[destinations.audit]
type = "http"
url = "{}"
"#,
            billing.url(),
            audit.url()
        ),
    );
    let gateway = Gateway::start(&config).await;
    assert_eq!(
        gateway.send(&Message::new("all")).await.told(),
        (200, "delivered")
    );
    assert_eq!(
        gateway.send(&Message::new("half")).await.told(),
        (502, "failed")
    );
    killed(gateway).await;

    let gateway = Gateway::start(&config).await;
    assert_eq!(
        gateway.send(&Message::new("all")).await.told(),
        (200, "duplicate")
    );
    let other = Message::new("all").body("{}");
    assert_eq!(gateway.send(&other).await.told(), (409, "conflict"));
    assert_eq!(
        gateway.send(&Message::new("half")).await.told(),
        (200, "delivered")
    );
    assert_eq!((billing.count(), audit.count()), (2, 3));
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value("hookward_ledger_entries", &[]), 2.0);
    assert_eq!(metrics.value("hookward_ledger_up", &[]), 1.0);
}

#[tokio::test]
async fn a_second_process_waits_for_the_folder_unready_and_then_serves() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let config = journalled(&dir.path().join("ids"), &clerk_to(upstream.url()));
    let first = Gateway::start(&config).await;
    let message = Message::new("m");
    assert_eq!(first.send(&message).await.status, 200);

    let second = Gateway::start(&config).await;
    assert_eq!(second.ask("GET", "/healthz", None).await.status, 200);
    assert_eq!(second.ask("GET", "/readyz", None).await.status, 503);
    killed(first).await;
    is_ready(&second).await;
    assert_eq!(second.send(&message).await.told(), (200, "duplicate"));
}

#[tokio::test]
async fn a_second_process_that_waited_for_shutdown_timeout_ends_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let config = journalled(&dir.path().join("ids"), &clerk_to(upstream.url()));
    let _first = Gateway::start(&config).await;
    let config = format!("[server]\nshutdown_timeout = '1500ms'\n{config}");
    let mut second = Gateway::start(&config).await;
    assert_eq!(second.ended().await.code(), Some(1));
    second
        .line(&["`ledger.journal` is owned by another process"])
        .await;
    second.line(&["a folder of its own"]).await;
}

fn disk_of(gateway: &Gateway, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

#[tokio::test]
async fn a_folder_that_is_removed_is_noticed_before_anything_more_is_promised() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ids");
    let upstream = Upstream::start().await;
    let config = journalled(&folder, &clerk_to(upstream.url()));
    let gateway = ready(&config).await;
    assert_eq!(gateway.send(&Message::new("before")).await.status, 200);

    std::fs::remove_dir_all(&folder).unwrap();
    let noticed = gateway.send(&Message::new("noticed")).await;
    assert_eq!(noticed.told(), (503, "unavailable"));
    gateway.line(&["its folder was removed"]).await;
    is_ready(&gateway).await;
    assert_eq!(gateway.send(&Message::new("after")).await.status, 200);
    killed(gateway).await;

    let gateway = ready(&config).await;
    let again = gateway.send(&Message::new("after")).await;
    assert_eq!(again.told(), (200, "duplicate"));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_answers_503_and_service_resumes_when_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let config = journalled(&dir.path().join("ids"), &clerk_to(upstream.url()));
    let gateway = Gateway::with(&config).without_file_signal().start().await;
    let send = |id: &str| {
        let message = Message::new(id);
        let gateway = &gateway;
        async move { gateway.send(&message).await }
    };
    assert_eq!(send("before").await.status, 200);

    disk_of(&gateway, Some(1));
    let refused = send("during").await;
    assert_eq!(refused.told(), (503, "unavailable"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(
        upstream.count(),
        2,
        "it was delivered, and that is not on disk"
    );
    for _ in 0..5 {
        assert_eq!(send("during").await.told(), (503, "unavailable"));
        assert_eq!(send("new").await.told(), (503, "unavailable"));
    }
    assert_eq!(upstream.count(), 2, "nothing is delivered in vain");
    assert_eq!(gateway.ask("GET", "/readyz", None).await.status, 200);
    let strict = gateway.ask("GET", "/readyz?strict", None).await;
    assert_eq!(strict.status, 503);
    assert!(
        strict.text().contains("degraded: ledger"),
        "{}",
        strict.text()
    );
    assert_eq!(
        gateway.metrics().await.value("hookward_ledger_up", &[]),
        0.0
    );
    assert_eq!(send("before").await.told(), (200, "duplicate"));

    disk_of(&gateway, None);
    is_ready(&gateway).await;
    assert_eq!(send("during").await.told(), (200, "duplicate"));
    assert_eq!(send("new").await.told(), (200, "delivered"));
    assert_eq!(upstream.count(), 3);
    assert_eq!(
        gateway.metrics().await.value("hookward_ledger_up", &[]),
        1.0
    );

    killed(gateway).await;
    let gateway = Gateway::start(&config).await;
    for id in ["before", "during", "new"] {
        let again = gateway.send(&Message::new(id)).await;
        assert_eq!(again.told(), (200, "duplicate"), "{id}");
    }
}

#[tokio::test]
async fn a_journal_damaged_in_the_middle_refuses_to_start_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let folder = dir.path().join("ids");
    let config = journalled(&folder, &clerk_to(upstream.url()));
    let gateway = Gateway::start(&config).await;
    for number in 0..5 {
        let message = Message::new(&format!("msg_{number}"));
        assert_eq!(gateway.send(&message).await.status, 200);
    }
    killed(gateway).await;
    let logs = std::fs::read_dir(&folder).unwrap();
    let mut logs = logs.map(|entry| entry.unwrap().path());
    let log = logs.find(|path| path.extension().is_some_and(|e| e == "jnl"));
    let log = log.unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&log, bytes).unwrap();

    let mut gateway = Gateway::with(&config).start_to_fail().await;
    assert_eq!(gateway.ended().await.code(), Some(1));
    gateway.line(&["`ledger.journal` is damaged"]).await;
    gateway.line(&["move the folder away"]).await;
}

#[tokio::test]
async fn what_a_person_forgets_stays_forgotten_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let config = journalled(&dir.path().join("ids"), &clerk_to(upstream.url()));
    let config = format!("[admin]\ntoken = 'env:TOKEN'\n{config}");
    let gateway = ready(&config).await;
    for id in ["a", "b"] {
        assert_eq!(gateway.send(&Message::new(id)).await.status, 200);
    }
    killed(gateway).await;
    let gateway = ready(&config).await;
    let token = Some(crate::support::TOKEN);
    let forgotten = gateway.ask("DELETE", "/ledger/clerk/a", token).await;
    assert_eq!(forgotten.status, 204);
    killed(gateway).await;
    let gateway = ready(&config).await;
    assert_eq!(
        gateway.ask("GET", "/ledger/clerk/a", token).await.status,
        404
    );
    assert_eq!(
        gateway.ask("GET", "/ledger/clerk/b", token).await.status,
        200
    );
    assert_eq!(gateway.send(&Message::new("a")).await.word(), "delivered");
    assert_eq!(gateway.send(&Message::new("b")).await.word(), "duplicate");
}
