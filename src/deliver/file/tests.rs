use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;

use super::writer::Sync;
use super::{File, FileConfig, Writer};
use crate::deliver::fixture::{Built, NOW, budget, build, event, try_build};
use crate::deliver::{Failure, Kind, Reason, Receipt};
use crate::observe::AttemptOutcome;

fn config(path: &Path) -> String {
    format!("type = 'file'\npath = '{}'\n", path.display())
}

/// A destination whose syncs are `sync`.
fn synced(path: &Path, sync: Sync) -> Built {
    let mut built = build(&config(path));
    let writer = Writer::with_sync(&FileConfig::Path(path.to_owned()), sync).unwrap();
    let destination = Arc::get_mut(&mut built.destination).unwrap();
    let file = File::start(writer, 256, destination.clock.clone()).unwrap();
    destination.kind = Kind::File(file);
    built
}

async fn deliver(built: &Built) -> Result<Receipt, Failure> {
    built
        .destination
        .deliver(&event().proven(), budget(30))
        .await
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn an_event_is_one_line_of_json_in_a_file_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let built = build(&config(&path));
    let text = "{\"type\":\"user.created\",\n\"name\":\"Zoë \\u0000 \u{2028}\"}";
    let event = event()
        .body(text)
        .header("content-type", "application/json")
        .header("tracestate", "a=1")
        .header("tracestate", "b=2")
        .header("authorization", "Basic x")
        .proven();
    let sent = built.destination.deliver(&event, budget(30)).await;
    sent.unwrap();
    let request = event.origin().request.to_string();
    assert_eq!(
        lines(&path),
        [serde_json::json!({
            "source": "clerk",
            "id": "msg_1",
            "type": "user.created",
            "timestamp": 1_649_367_553,
            "received": "2023-11-14T22:13:20.000Z",
            "headers": {
                "content-type": "application/json",
                "tracestate": "a=1, b=2",
                "svix-id": "msg_1",
                "svix-timestamp": "1649367553",
                "svix-signature": "v1,c2lnbmF0dXJl",
                "hookward-source": "clerk",
                "hookward-id": "msg_1",
                "hookward-type": "user.created",
                "hookward-key": "main",
                "hookward-request": request,
                "idempotency-key": "clerk:msg_1",
                "x-forwarded-for": "192.0.2.7",
                "x-forwarded-proto": "https",
            },
            "body": text,
        })]
    );
    assert_eq!(NOW, 1_700_000_000);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_body_that_is_no_text_is_base64_and_an_open_source_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let built = build(&config(&path));
    let mut made = event().body(&b"\xff\x00"[..]);
    made.event_type = None;
    let event = made.unproven(true);
    built.destination.deliver(&event, budget(30)).await.unwrap();
    let line = &lines(&path)[0];
    assert_eq!(line["body_base64"], "/wA=");
    assert!(line.get("body").is_none());
    for none in ["id", "type", "timestamp"] {
        assert_eq!(line[none], Value::Null, "{none}");
    }
    assert_eq!(line["headers"]["svix-id"], "msg_1");
    assert!(line["headers"].get("hookward-id").is_none());
    assert!(line["headers"].get("idempotency-key").is_none());
}

#[tokio::test]
async fn what_is_in_the_file_stays_and_a_torn_line_is_cut_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    for (before, kept) in [
        ("", 0),
        ("{}\n", 1),
        ("{}\n{\"torn", 1),
        ("{\"sou", 0),
        ("{\"source\":\"clerk\",\"id", 0),
        (&format!("{{}}\n{{{}", "x".repeat(30_000)), 1),
    ] {
        fs::write(&path, before).unwrap();
        let built = build(&config(&path));
        deliver(&built).await.unwrap();
        assert_eq!(lines(&path).len(), kept + 1, "{before:.20}");
    }
}

#[tokio::test]
async fn a_file_that_holds_something_else_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    for somebody_elses in ["a note", "{\"a\":1}", "line\nthe last line"] {
        fs::write(&path, somebody_elses).unwrap();
        let Err(why) = Writer::open(&FileConfig::Path(path.clone())) else {
            panic!("{somebody_elses} was taken for a torn line");
        };
        let why = why.to_string();
        assert!(why.contains("is it the right file?"), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), somebody_elses);
    }
}

#[tokio::test]
async fn lines_that_wait_together_are_synced_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let syncs = Arc::new(AtomicUsize::new(0));
    let (begun, first_begun) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let counted = Arc::clone(&syncs);
    let sync = move |file: &fs::File| {
        counted.fetch_add(1, Ordering::SeqCst);
        begun.send(()).unwrap();
        // The first sync waits for the others to queue up; then it is let go.
        let _ = wait.recv();
        file.sync_data()
    };
    let built = synced(&path, Box::new(sync));
    let first = tokio::spawn({
        let destination = Arc::clone(&built.destination);
        async move { destination.deliver(&event().proven(), budget(30)).await }
    });
    tokio::task::yield_now().await;
    let first_begun = tokio::task::spawn_blocking(move || {
        first_begun.recv().unwrap();
        first_begun
    });
    let _first_begun = first_begun.await.unwrap();
    let event = event().proven();
    let mut rest: Vec<_> = (0..20)
        .map(|_| Box::pin(built.destination.deliver(&event, budget(30))))
        .collect();
    for delivery in &mut rest {
        // Polled once, it is queued.
        tokio::select! {
            biased;
            _ = delivery => unreachable!("nothing is synced yet"),
            () = std::future::ready(()) => {}
        }
    }
    drop(go_on);
    first.await.unwrap().unwrap();
    for delivery in rest {
        delivery.await.unwrap();
    }
    assert_eq!(syncs.load(Ordering::SeqCst), 2);
    assert_eq!(lines(&path).len(), 21);
}

#[tokio::test]
async fn a_full_disk_is_a_failure_that_names_it() {
    let built = build(&config(Path::new("/dev/full")));
    let failure = deliver(&built).await.unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Failed);
    assert!(!failure.may_have_arrived);
    let told = failure.to_string();
    assert!(told.contains("No space left on device"), "{told}");
    assert_eq!(built.metric("destination_up", ""), "0");
}

#[tokio::test]
async fn a_failed_sync_is_in_doubt_and_the_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let moved = dir.path().join("moved.jsonl");
    let failed = AtomicUsize::new(0);
    let sync = move |_: &fs::File| match failed.fetch_add(1, Ordering::SeqCst) {
        0 => Err(io::Error::other("disk on fire")),
        _ => Ok(()),
    };
    let built = synced(&path, Box::new(sync));
    let failure = deliver(&built).await.unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Unconfirmed);
    assert_eq!(failure.reason, Reason::Sync("disk on fire".into()));
    assert!(failure.may_have_arrived);
    fs::rename(&path, &moved).unwrap();
    deliver(&built).await.unwrap();
    assert_eq!(lines(&path).len(), 1, "a new file under the old name");
}

#[tokio::test]
async fn after_a_rotation_the_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let built = build(&config(&path));
    deliver(&built).await.unwrap();
    fs::rename(&path, dir.path().join("events.1")).unwrap();
    deliver(&built).await.unwrap();
    assert!(!path.exists(), "not before it is told to");
    built.destination.reopen();
    deliver(&built).await.unwrap();
    assert_eq!(lines(&path).len(), 1);
    assert_eq!(lines(&dir.path().join("events.1")).len(), 2);
}

#[tokio::test]
async fn a_file_that_was_emptied_from_outside_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let built = build(&config(&path));
    deliver(&built).await.unwrap();
    fs::File::create(&path).unwrap();
    deliver(&built).await.unwrap();
    assert_eq!(lines(&path).len(), 1);
}

#[tokio::test]
async fn a_line_not_begun_by_the_end_of_the_budget_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let (begun, first_begun) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let sync = move |_: &fs::File| {
        let _ = begun.send(());
        let _ = wait.lock().unwrap().recv();
        Ok(())
    };
    let built = synced(&path, Box::new(sync));
    let first = tokio::spawn({
        let destination = Arc::clone(&built.destination);
        async move { destination.deliver(&event().proven(), budget(30)).await }
    });
    tokio::task::yield_now().await;
    tokio::task::spawn_blocking(move || first_begun.recv().unwrap())
        .await
        .unwrap();
    // The disk hangs in the first sync; the second line has no time left.
    tokio::time::pause();
    let event = event().proven();
    let failure = built
        .destination
        .deliver(&event, budget(1))
        .await
        .unwrap_err();
    tokio::time::resume();
    assert_eq!(failure.outcome, AttemptOutcome::Late);
    assert!(!failure.may_have_arrived);
    drop(go_on);
    first.await.unwrap().unwrap();
    deliver(&built).await.unwrap();
    assert_eq!(lines(&path).len(), 2, "the first and the last");
}

#[tokio::test]
async fn a_disk_that_hangs_is_late_and_may_have_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let (begun, first_begun) = mpsc::channel();
    let (_go_on, wait) = mpsc::channel::<()>();
    let sync = move |_: &fs::File| {
        let _ = begun.send(());
        let _ = wait.recv();
        Ok(())
    };
    let built = synced(&path, Box::new(sync));
    let hung = tokio::spawn({
        let destination = Arc::clone(&built.destination);
        async move { destination.deliver(&event().proven(), budget(1)).await }
    });
    tokio::task::yield_now().await;
    tokio::task::spawn_blocking(move || first_begun.recv().unwrap())
        .await
        .unwrap();
    tokio::time::pause();
    let failure = hung.await.unwrap().unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Late);
    assert_eq!(failure.reason, Reason::Timeout(Duration::from_secs(8)));
    assert!(failure.may_have_arrived);
}

#[tokio::test]
async fn the_thread_ends_with_its_destination() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let (alive, ended) = mpsc::channel::<()>();
    let sync = move |_: &fs::File| {
        let _ = &alive;
        Ok(())
    };
    let built = synced(&path, Box::new(sync));
    deliver(&built).await.unwrap();
    drop(built);
    // The thread owned the other end.
    assert!(ended.recv_timeout(Duration::from_secs(10)).is_err());
    assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn what_keeps_a_file_from_being_opened_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |path: &Path| try_build(&config(path)).err().unwrap();
    let missing = told(&dir.path().join("none/events"));
    assert!(missing.starts_with("destination `billing`: `"), "{missing}");
    assert!(missing.contains("No such file or directory"), "{missing}");
    assert!(told(dir.path()).contains("it is a pipe or a folder"));
}

/// The limit on a file's size makes a write fail halfway. It counts for a whole
/// process, so this test runs itself again in one of its own.
#[tokio::test]
async fn a_write_that_fails_halfway_is_cut_back() {
    const FILE: &str = "HOOKWARD_TEST_LIMITED_FILE";
    if let Some(path) = std::env::var_os(FILE) {
        return in_a_limited_file(Path::new(&path)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("deliver::file::tests::a_write_that_fails_halfway_is_cut_back")
        .env(FILE, dir.path().join("events.jsonl"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
}

async fn in_a_limited_file(path: &Path) {
    let built = build(&config(path));
    deliver(&built).await.unwrap();
    let large = event().body("x".repeat(20_000)).proven();
    let failure = built
        .destination
        .deliver(&large, budget(30))
        .await
        .unwrap_err();
    assert_eq!(failure.outcome, AttemptOutcome::Failed);
    assert!(!failure.may_have_arrived);
    assert!(failure.to_string().contains("too large"), "{failure}");
    assert_eq!(lines(path).len(), 1, "cut back");
    deliver(&built).await.unwrap();
    assert_eq!(lines(path).len(), 2);
}

#[tokio::test]
async fn what_is_written_after_the_file_was_removed_is_in_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let built = build(&config(&path));
    deliver(&built).await.unwrap();
    fs::remove_file(&path).unwrap();

    deliver(&built).await.unwrap();

    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn a_line_that_another_is_still_writing_is_not_cut_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    // As a writer before a reload does, or a second hookward by mistake.
    let mut other = fs::File::create(&path).unwrap();
    other.lock().unwrap();
    other.write_all(b"{\"source\":").unwrap();
    let (opened, is_open) = mpsc::channel();
    let opening = FileConfig::Path(path.clone());
    let opener = std::thread::spawn(move || {
        let opened_writer = Writer::open(&opening);
        opened.send(()).unwrap();
        opened_writer.map(|_| ())
    });

    let soon = Duration::from_millis(200);
    let early = is_open.recv_timeout(soon).is_ok();
    other.write_all(b"1}\n").unwrap();
    other.unlock().unwrap();

    opener.join().unwrap().unwrap();
    assert!(!early);
    assert_eq!(lines(&path).len(), 1);
}
