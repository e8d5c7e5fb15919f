use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::FileConfig;
use crate::deliver::claim::Turn;

/// A line that waits to be written.
pub(super) struct Job {
    pub(super) line: Vec<u8>,
    pub(super) turn: Turn,
    pub(super) done: oneshot::Sender<Result<(), Trouble>>,
}

/// Why a line has no receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is not in the file.
    NotWritten(String),
    /// It may be in the file.
    InDoubt(String),
}

/// Writes the lines of one file.
pub(super) struct Writer {
    path: Option<PathBuf>,
    open: Option<Open>,
    reopen: Arc<AtomicBool>,
    sync: Sync,
}

/// How a file is synced; tests count it and make it fail.
pub(super) type Sync = Box<dyn Fn(&fs::File) -> io::Result<()> + Send>;

struct Open {
    file: fs::File,
    /// A regular file: can be synced and cut back.
    regular: bool,
}

/// As many lines as are written and synced at once (bytes); one longer line is
/// written alone.
const BATCH: usize = 4 * 1024 * 1024;

impl Writer {
    /// Opens the file of `config`; a torn line at its end is cut back.
    pub(super) fn open(config: &FileConfig) -> Result<Self, String> {
        Self::with_sync(config, Box::new(fs::File::sync_data))
    }

    pub(super) fn with_sync(config: &FileConfig, sync: Sync) -> Result<Self, String> {
        let path = match config {
            FileConfig::Stdout => None,
            FileConfig::Path(path) => Some(path.clone()),
        };
        let open = open(path.as_deref())
            .map_err(|error| format!("`{config}` cannot be opened: {error}"))?;
        Ok(Self {
            path,
            open: Some(open),
            reopen: Arc::default(),
            sync,
        })
    }

    /// Set by whoever wants the file opened again.
    pub(super) fn reopen(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.reopen)
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut batch = Batch::default();
            batch.take(first);
            while batch.lines.len() < BATCH
                && let Ok(job) = jobs.try_recv()
            {
                batch.take(job);
            }
            if batch.waiting.is_empty() {
                continue;
            }
            let outcome = self.append(&batch.lines);
            for done in batch.waiting {
                // Whoever stopped waiting needs no answer.
                let _ = done.send(outcome.clone());
            }
        }
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), Trouble> {
        let removed = self.open.as_ref().is_some_and(Open::is_removed);
        if self.reopen.swap(false, Ordering::Relaxed) || removed {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let opened = open(self.path.as_deref())
                    .map_err(|error| Trouble::NotWritten(error.to_string()))?;
                none.insert(opened)
            }
        };
        open.append(lines, &self.sync).map_err(|failed| {
            if !failed.usable {
                self.open = None;
            }
            failed.trouble
        })
    }
}

#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    waiting: Vec<oneshot::Sender<Result<(), Trouble>>>,
}

impl Batch {
    /// Takes a line in, unless it was taken back.
    fn take(&mut self, job: Job) {
        if !job.turn.begin() {
            return;
        }
        if self.lines.is_empty() {
            self.lines = job.line;
        } else {
            self.lines.extend_from_slice(&job.line);
        }
        self.waiting.push(job.done);
    }
}

impl Open {
    /// Whether somebody removed the file: what is written to it now is gone with
    /// the last who has it open.
    fn is_removed(&self) -> bool {
        let found = self.file.metadata();
        self.regular && found.is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Writes all lines or none, and syncs.
    fn append(&self, lines: &[u8], sync: &Sync) -> Result<(), Failed> {
        self.write(lines)?;
        if !self.regular {
            return Ok(());
        }
        // The kernel tells of a lost page once: another sync of this file would
        // succeed and mean nothing.
        sync(&self.file).map_err(|error| Failed {
            trouble: Trouble::InDoubt(error.to_string()),
            usable: false,
        })
    }

    fn write(&self, lines: &[u8]) -> Result<(), Failed> {
        let mut file = &self.file;
        let _alone = self.regular.then(|| Alone::with(file));
        let not_written = |error: &io::Error, usable| Failed {
            trouble: Trouble::NotWritten(error.to_string()),
            usable,
        };
        // Asked each time: a rotation may have emptied the file.
        let length = match file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) => return Err(not_written(&error, false)),
        };
        let mut written = 0;
        while written < lines.len() {
            let error = match file.write(&lines[written..]) {
                Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
                Ok(more) => {
                    written += more;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let cut = || self.regular && file.set_len(length).is_ok();
            if written == 0 || cut() {
                return Err(not_written(&error, true));
            }
            return Err(Failed {
                trouble: Trouble::InDoubt(error.to_string()),
                usable: false,
            });
        }
        Ok(())
    }
}

/// Why lines have no receipt, and whether the file can be used further.
struct Failed {
    trouble: Trouble,
    usable: bool,
}

/// While one of them lives, nobody else writes the file or cuts it back: a
/// reload that changes a destination opens its file anew while lines of the old
/// one are still being written, and a second hookward may be started by mistake.
struct Alone<'a>(&'a fs::File);

impl<'a> Alone<'a> {
    /// Waits for the lock. A file system without locks has no second writer, or
    /// bad luck.
    fn with(file: &'a fs::File) -> Option<Self> {
        file.lock().is_ok().then_some(Self(file))
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Closing the file would do it, too.
        let _ = self.0.unlock();
    }
}

fn open(path: Option<&Path>) -> io::Result<Open> {
    let Some(path) = path else {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        let file = fs::File::from(stdout);
        return Ok(Open {
            file,
            regular: false,
        });
    };
    if let Ok(metadata) = fs::metadata(path)
        && (metadata.file_type().is_fifo() || metadata.is_dir())
    {
        // Opening a pipe would wait for its reader.
        return Err(io::Error::other("it is a pipe or a folder, not a file"));
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let regular = file.metadata()?.is_file();
    if regular {
        cut_torn_line(&file)?;
        // A synced line in a file whose name is lost would be lost too.
        if let Some(folder) = path.parent() {
            let here = folder.as_os_str().is_empty();
            let folder = if here { Path::new(".") } else { folder };
            fs::File::open(folder)?.sync_all()?;
        }
    }
    Ok(Open { file, regular })
}

/// What every line begins with.
const LINE_BEGINS: &[u8] = b"{\"source\":";

/// Cuts back what follows the last end of line: a line whose writing was
/// interrupted, and which nobody was told of. Anything else that stands there is
/// somebody else's, in a file that was named by mistake.
fn cut_torn_line(mut file: &fs::File) -> io::Result<()> {
    let _alone = Alone::with(file);
    let length = file.metadata()?.len();
    let mut block = [0u8; 8192];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(last) = part.iter().rposition(|&byte| byte == b'\n') {
            end = start + last as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        let mut head = Vec::with_capacity(LINE_BEGINS.len());
        file.seek(SeekFrom::Start(end))?;
        file.take(LINE_BEGINS.len() as u64).read_to_end(&mut head)?;
        // After whole lines any object is taken for one of ours.
        let ours = LINE_BEGINS.starts_with(&head) || (end > 0 && head[0] == b'{');
        if !ours {
            return Err(io::Error::other(
                "it does not end with an end of line, and what stands there is not an event: is it the right file?",
            ));
        }
        file.set_len(end)?;
    }
    Ok(())
}
