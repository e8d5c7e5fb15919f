use std::fs;
use std::path::PathBuf;

use super::folder::{Damage, Folder, Owned};
use super::*;
use crate::ledger::BodyDigest;
use crate::ledger::record::{Receipts, Standing};

const HOUR: u64 = 3_600_000;
const START: Millis = 1_700_000_000_000;

fn names() -> Arc<Names> {
    let names = Names::default();
    names.intern(&"clerk".into());
    Arc::new(names)
}

async fn open(path: &Path) -> Journal {
    let journal = Journal::open(path, &names(), HOUR).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    journal.usable(deadline).await.unwrap();
    journal
}

async fn refused(path: &Path) -> String {
    let journal = Journal::open(path, &names(), HOUR).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    match journal.usable(deadline).await {
        Err(Unusable::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn id(number: u64) -> IdDigest {
    IdDigest::of("clerk", number.to_string())
}

fn record(last: Millis) -> Record {
    Record {
        body: BodyDigest::of(b"{}"),
        signed: last / 1000,
        first: last,
        last,
        receipts: Receipts::new(),
        window_end: 0,
        source: 0,
        standing: Standing::Delivered,
    }
}

async fn put(journal: &Journal, number: u64) {
    journal.settle(id(number), &record(START)).await.unwrap();
}

async fn knows(journal: &Journal, number: u64) -> bool {
    journal.look(id(number)).await.unwrap().is_some()
}

/// The log that was written to last.
fn log(path: &Path) -> PathBuf {
    let files = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|e| e == "jnl"));
    logs.max().unwrap()
}

/// How many tables each slice has, from the fewest on.
fn tables(path: &Path) -> Vec<usize> {
    let inside = |path: &Path| {
        fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let all = inside(&path.join("keyspaces"));
    // The first is the store's own.
    let slices = all.filter(|path| path.file_name().is_some_and(|name| name != "0"));
    let mut tables: Vec<_> = slices
        .map(|path| inside(&path.join("tables")).count())
        .collect();
    tables.sort_unstable();
    tables
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A folder as a kill leaves it, with ids 0 to 4, each in a write of its own, and
/// the length of what is written in the log.
async fn killed(dir: &Path) -> (PathBuf, usize) {
    let (alive, dead) = (dir.join("alive"), dir.join("dead"));
    let journal = open(&alive).await;
    for number in 0..5 {
        put(&journal, number).await;
    }
    copy(&alive, &dead);
    let bytes = fs::read(log(&dead)).unwrap();
    let written = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    (dead, written)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (dead, _) = killed(dir.path()).await;
    let journal = open(&dead).await;
    for number in 0..5 {
        assert!(knows(&journal, number).await);
    }
    assert!(!knows(&journal, 5).await);
    assert_eq!(journal.count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_torn_at_any_byte_costs_the_last_write_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (dead, written) = killed(dir.path()).await;
    let mut bytes = fs::read(log(&dead)).unwrap();
    bytes.truncate(written);
    let last = {
        let Owned::Here(folder) = Folder::own(&dead).unwrap() else {
            panic!("it is owned")
        };
        fs::OpenOptions::new()
            .write(true)
            .open(log(&dead))
            .unwrap()
            .set_len(written as u64 - 1)
            .unwrap();
        let cut = folder.cut_torn_tail().unwrap();
        assert!(cut > 0);
        fs::metadata(log(&dead)).unwrap().len() as usize
    };
    for length in last..=written {
        fs::write(log(&dead), &bytes[..length]).unwrap();
        let Owned::Here(folder) = Folder::own(&dead).unwrap() else {
            panic!("it is owned")
        };
        let torn = if length == written { 0 } else { length - last };
        // Zeros at the end of what was cut are not told from room.
        assert!(folder.cut_torn_tail().unwrap() as usize <= torn, "{length}");
        let left = fs::metadata(log(&dead)).unwrap().len() as usize;
        assert!(
            left == last || length == written || left == length,
            "{length}"
        );
    }
    for length in [last, last + 1, (last + written) / 2, written - 1] {
        let torn = dir.path().join(format!("torn-{length}"));
        copy(&dead, &torn);
        fs::write(log(&torn), &bytes[..length]).unwrap();
        let journal = open(&torn).await;
        for number in 0..4 {
            assert!(knows(&journal, number).await, "{number} at {length}");
        }
        assert!(!knows(&journal, 4).await);
        put(&journal, 4).await;
        drop(journal);
        assert!(knows(&open(&torn).await, 4).await, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_changed_in_the_middle_of_the_log_is_refused_and_nothing_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (dead, written) = killed(dir.path()).await;
    // Without the room behind it, of which there is much.
    let mut bytes = fs::read(log(&dead)).unwrap();
    bytes.truncate(written);
    for at in (0..written / 2).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        fs::write(log(&dead), &damaged).unwrap();
        let Owned::Here(folder) = Folder::own(&dead).unwrap() else {
            panic!("it is owned")
        };
        let told = folder.cut_torn_tail();
        // Eight bytes of a batch's own number are under no checksum.
        if let Ok(cut) = told {
            assert_eq!(cut, 0, "{at}");
        } else {
            assert!(matches!(told, Err(Damage::Middle(..))), "{at}");
        }
        assert_eq!(fs::read(log(&dead)).unwrap(), damaged);
    }
    let mut damaged = bytes;
    damaged[written / 2] ^= 0x55;
    fs::write(log(&dead), &damaged).unwrap();
    assert!(refused(&dead).await.contains("damaged in the middle"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_changed_in_what_is_sorted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = open(&path).await;
    for some in (0..60).map(|n| n * 1000..(n + 1) * 1000) {
        let settled = some.map(|number| {
            let journal = &journal;
            async move { put(journal, number).await }
        });
        futures_util::future::join_all(settled).await;
    }
    // Another slice, so that the first is sorted when the journal is opened again.
    drop(journal);
    let mut tables = Vec::new();
    let mut folders = vec![path.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.to_string_lossy().contains("tables") {
                tables.push(entry);
            }
        }
    }
    let table = tables
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len());
    let table = table.expect("something is sorted");
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x55;
    fs::write(&table, bytes).unwrap();
    assert!(refused(&path).await.contains("damaged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_later_version_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    let mut bytes = vec![9, 1];
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, id(1).bits()).to_le_bytes();
    bytes.extend(&sum[..4]);
    let change = Change {
        id: id(1),
        bytes,
        last: Some(START),
    };
    let ordered = journal.order(|answer| Order::Write(vec![change], answer));
    ordered.await.unwrap();
    drop(journal);
    assert!(
        refused(dir.path())
            .await
            .contains("a later version of hookward")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_or_changed_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    for number in [1, 2, 3, 2] {
        put(&journal, number).await;
    }
    // In another slice.
    let later = record(START + HOUR);
    journal.settle(id(1), &later).await.unwrap();
    journal.forget(&[id(2), id(7)]).await.unwrap();
    assert_eq!(journal.count(), 2);
    drop(journal);
    let journal = open(dir.path()).await;
    assert_eq!(journal.count(), 2);
    assert!(knows(&journal, 1).await && !knows(&journal, 2).await && knows(&journal, 3).await);
    journal.expire(START).await;
    assert_eq!(journal.count(), 1);
    assert!(knows(&journal, 1).await && !knows(&journal, 3).await);
    drop(journal);
    assert_eq!(open(dir.path()).await.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_written_to_any_more_is_sorted_so_that_the_log_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    for number in 0..3 {
        let record = record(START + number * HOUR);
        journal.settle(id(number), &record).await.unwrap();
    }
    journal.expire(START - HOUR).await;
    // Closed, what was begun is done.
    drop(journal);
    let journal = open(dir.path()).await;
    assert_eq!(
        tables(dir.path()),
        [0, 1, 1],
        "the newest is still written to"
    );
    for number in 0..3 {
        assert!(knows(&journal, number).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fsync_serves_all_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    let settled = (0..640).map(|number| put(&journal, number));
    futures_util::future::join_all(settled).await;
    drop(journal);
    let bytes = fs::read(log(dir.path())).unwrap();
    let batches = bytes.windows(4).filter(|four| *four == b"FJL\x03").count();
    assert!(batches < 64, "{batches} writes for 640 ids");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_waits_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).await;
    put(&first, 1).await;
    let second = Journal::open(dir.path(), &names(), HOUR).unwrap();
    let soon = Instant::now() + Duration::from_millis(300);
    assert_eq!(second.usable(soon).await, Err(Unusable::Elsewhere));
    second.settle(id(2), &record(START)).await.unwrap_err();
    drop(first);
    let later = Instant::now() + Duration::from_secs(20);
    second.usable(later).await.unwrap();
    assert!(knows(&second, 1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("not").join("there");
    assert!(refused(&nowhere).await.contains("cannot be made"));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let told = refused(&file).await;
    assert_eq!(told, "cannot be made: there is a file in its place");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    put(&open(&path).await, 1).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let expected = if entry.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&entry), expected, "{}", entry.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gave_up_just_as_the_order_was_done_does_not_stall_it_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    put(&journal, 1).await;
    // As one whose patience ended while the writer answered, and told that it goes on.
    journal.shelf.stalls();
    journal.settle(id(2), &record(START)).await.unwrap_err();
    journal.expire(0).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(away) = journal.up() {
        assert!(Instant::now() < deadline, "{away:?}");
        tokio::task::yield_now().await;
    }
    put(&journal, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_whose_thread_has_ended_says_so_before_anything_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    put(&journal, 1).await;
    journal.order(Order::Panic).await.unwrap_err();
    let away = journal.up().unwrap_err();
    assert_eq!(away.reason, "the journal's thread has failed");
    journal.look(id(1)).await.unwrap_err();
}
