//! The journal's folder before the store opens it: made, locked, and looked
//! through for what a crash has torn and what must not be opened.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use xxhash_rust::xxh3::Xxh3Default;

/// The folder, owned by this process until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

/// What became of a wish to own a folder.
#[derive(Debug)]
pub(super) enum Owned {
    /// It is ours.
    Here(Folder),
    /// Another process has it.
    Elsewhere,
}

/// What the store keeps not yet sorted, in the order of writing, is in files that
/// end so.
const LOG: &str = "jnl";
const LOCK: &str = "hookward.lock";

impl Folder {
    /// Makes the folder if it is not there, and locks it.
    ///
    /// # Errors
    /// When it cannot be made, or written to.
    pub(super) fn own(path: &Path) -> io::Result<Owned> {
        if !path.is_dir() {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.map_err(|error| match error.kind() {
                // What the system says, that there is one, is a riddle to who reads it.
                kind @ io::ErrorKind::AlreadyExists => {
                    io::Error::new(kind, "there is a file in its place")
                }
                _ => error,
            })?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Owned::Here(Self {
                path: path.to_owned(),
                lock,
            })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Owned::Elsewhere),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was removed or moved away: then nothing is at its path, or something
    /// else, and all that is written would be gone with the process. A disk that cannot
    /// tell is for the next write to find out; the lock is not let go for that.
    pub(super) fn is_gone(&self) -> bool {
        let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let owned = self.lock.metadata().map(place);
        match (owned, fs::metadata(self.path.join(LOCK)).map(place)) {
            (Ok(owned), Ok(found)) => found != owned,
            (_, Err(error)) => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ),
            (Err(_), Ok(_)) => false,
        }
    }

    /// Cuts off what a crash left half written at the very end: how many bytes.
    /// The store would do so by itself, but it would also cut off whatever stands
    /// behind a damage in the middle, which was promised to be kept.
    ///
    /// # Errors
    /// When a file cannot be read or cut, or is damaged elsewhere than at its end.
    pub(super) fn cut_torn_tail(&self) -> Result<u64, Damage> {
        let logs = self.logs()?;
        let mut cut = 0;
        for (number, log) in logs.iter().enumerate() {
            let bytes = fs::read(log)?;
            let good = good_length(&bytes);
            let torn = bytes[good..].iter().rposition(|&byte| byte != 0);
            let Some(torn) = torn else { continue };
            // A whole batch behind the bad place, or in a later file, was written
            // after the bad one was on disk: no crash tears there.
            let later = logs[number + 1..].iter().any(|later| has_batch(later));
            if later || any_batch(&bytes[good + 1..]) {
                return Err(Damage::Middle(log.clone(), good));
            }
            let file = OpenOptions::new().write(true).open(log)?;
            file.set_len(good as u64)?;
            file.sync_all()?;
            cut += torn as u64 + 1;
        }
        Ok(cut)
    }

    /// Writes what is not sorted yet once more, into new files. After a failed
    /// fsync the old ones may be whole in the system's memory and not on the disk,
    /// and no further fsync would say so.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn write_anew(&self) -> io::Result<()> {
        for log in self.logs()? {
            let bytes = fs::read(&log)?;
            let anew = log.with_extension("anew");
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&anew)?;
            file.write_all(&bytes[..good_length(&bytes)])?;
            file.sync_all()?;
            fs::rename(&anew, &log)?;
        }
        File::open(&self.path)?.sync_all()
    }

    /// The store's logs, the oldest first.
    fn logs(&self) -> io::Result<Vec<PathBuf>> {
        let mut logs = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            if let (Some(number), true) = (number, path.extension().is_some_and(|e| e == LOG)) {
                logs.push((number, path));
            }
        }
        logs.sort();
        Ok(logs.into_iter().map(|(_, path)| path).collect())
    }
}

/// Why a folder's logs cannot be used.
#[derive(Debug)]
pub(super) enum Damage {
    /// It cannot be read.
    Io(io::Error),
    /// Something is broken in this file, from there on, and good things follow.
    Middle(PathBuf, usize),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        Damage::Io(error)
    }
}

fn has_batch(log: &Path) -> bool {
    fs::read(log).is_ok_and(|bytes| batch(&bytes).is_some())
}

/// How many bytes of whole batches the log begins with.
fn good_length(bytes: &[u8]) -> usize {
    let mut good = 0;
    while let Some(length) = batch(&bytes[good..]) {
        good += length;
    }
    good
}

/// Whether a whole batch begins anywhere.
fn any_batch(bytes: &[u8]) -> bool {
    let mut starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == START);
    starts.any(|(at, _)| batch(&bytes[at..]).is_some())
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";

/// The length of the batch of fjall 3 that the bytes begin with, if one does:
///
/// ```text
/// 1 · items (4) · number (8)
/// each item: 2 · kind (1) · compression (1) · keyspace (8) · key (2)
///            value (4) · as stored (4) · the key · the value
///        or: 4 · keyspace (8)
/// 3 · XXH3-64 of all items (8) · "FJL" 3
/// ```
fn batch(bytes: &[u8]) -> Option<usize> {
    let mut at = Cursor { bytes, at: 0 };
    if at.byte()? != START {
        return None;
    }
    let items = at.number::<4>()?;
    at.skip(8)?;
    let mut sum = Xxh3Default::new();
    for _ in 0..items {
        let from = at.at;
        match at.byte()? {
            ITEM => {
                // No compression, as hookward writes it.
                at.skip(1)?;
                if at.byte()? != 0 {
                    return None;
                }
                at.skip(8)?;
                let key = at.number::<2>()?;
                at.skip(4)?;
                let value = at.number::<4>()?;
                at.skip(key.checked_add(value)?)?;
            }
            CLEAR => at.skip(8)?,
            _ => return None,
        }
        sum.update(&bytes[from..at.at]);
    }
    if at.byte()? != END || at.number::<8>()? as u64 != sum.digest() {
        return None;
    }
    let trailer = at.at;
    at.skip(TRAILER.len())?;
    (bytes[trailer..at.at] == TRAILER).then_some(at.at)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.bytes.get(self.at..self.at + N)?;
        self.at += N;
        let mut whole = [0; 8];
        whole[..N].copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(whole)).ok()
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.at.checked_add(count)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }
}
