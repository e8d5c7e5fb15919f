use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::folder::{Damage, Folder, Owned};
use super::shelf::Shelf;
use super::slices::{Broken, Change, Slices};
use crate::ledger::LedgerAway;
use crate::ledger::record::Millis;

/// What the writer is asked to do.
pub(super) enum Order {
    /// To write these, each of another id.
    Write(Vec<Change>, Answer),
    /// To drop what was last accepted before a time, and to sort what is past.
    Tidy(Millis, Answer),
    /// To open everything anew: somebody could not read.
    Distrust(String),
    /// To end as a fault in the code would end it.
    #[cfg(test)]
    Panic(Answer),
}

type Answer = oneshot::Sender<Result<(), LedgerAway>>;

/// How far the writer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It reads what is there.
    Opening,
    /// Another process owns the folder.
    Elsewhere,
    /// It takes orders, or will when the disk does.
    Running,
    /// It has given up; why.
    Refused(String),
}

/// The thread that alone writes. While it waits for the disk, orders gather, and
/// one fsync serves all of them.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) shelf: Arc<Shelf>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) progress: watch::Sender<Progress>,
    /// Held from the first time it was ours until the end.
    pub(super) folder: Option<Folder>,
    /// Whether a write has failed since the folder was opened.
    pub(super) failed: bool,
}

/// What is written at once, at most: what may be under way, nearly.
const TOGETHER: usize = 1024;
/// Between two tries to open what could not be opened: at first, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why the folder is not open.
enum Closed {
    Elsewhere,
    Disk(String),
    Refused(String),
}

impl Writer {
    /// Works until nobody can give an order any more.
    pub(super) fn run(mut self) {
        let mut pause = PAUSE;
        while !self.orders.is_closed() {
            match self.open() {
                Ok(slices) => {
                    pause = PAUSE;
                    self.shelf.open(slices);
                    self.tell(Progress::Running);
                    if let Err(why) = self.work() {
                        self.failed = true;
                        tracing::error!(
                            why,
                            "the ledger's journal cannot be used; requests are refused until it can"
                        );
                        self.shelf.close(why);
                    }
                }
                Err(Closed::Elsewhere) => {
                    pause = PAUSE;
                    self.shelf
                        .close("another process owns the journal's folder".into());
                    self.tell(Progress::Elsewhere);
                }
                Err(Closed::Disk(why)) => {
                    self.shelf.close(why);
                    // Once it ran, it goes on trying.
                    self.tell(Progress::Running);
                }
                Err(Closed::Refused(why)) => {
                    let ran = *self.progress.borrow() == Progress::Running;
                    self.shelf.close(why.clone());
                    if !ran {
                        self.tell(Progress::Refused(why));
                        break;
                    }
                }
            }
            self.refuse();
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.shelf.close("the journal is closed".into());
        self.refuse();
    }

    fn tell(&self, progress: Progress) {
        self.progress.send_if_modified(|told| {
            let modified = *told != progress;
            *told = progress;
            modified
        });
    }

    /// Answers those whose orders came while it is closed.
    fn refuse(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Write(_, answer) | Order::Tidy(_, answer) = order {
                // Who has stopped waiting needs no answer.
                let _ = answer.send(self.shelf.up());
            }
        }
    }

    /// Owns the folder, cuts a torn tail off, and reads what is there.
    fn open(&mut self) -> Result<Slices, Closed> {
        let io = |error: std::io::Error| Closed::Disk(error.to_string());
        if self.folder.is_none() {
            match Folder::own(&self.path) {
                Ok(Owned::Here(folder)) => self.folder = Some(folder),
                Ok(Owned::Elsewhere) => return Err(Closed::Elsewhere),
                Err(error) if is_mistaken(&error) => {
                    return Err(Closed::Refused(format!("cannot be made: {error}")));
                }
                Err(error) => return Err(io(error)),
            }
            if *self.progress.borrow() == Progress::Elsewhere {
                self.tell(Progress::Opening);
            }
        }
        let Some(folder) = &self.folder else {
            return Err(Closed::Elsewhere);
        };
        match folder.cut_torn_tail() {
            Ok(0) => {}
            Ok(bytes) => tracing::warn!(
                bytes,
                "the ledger's journal ended in what was never written whole, and nobody was told was kept; it is cut off"
            ),
            Err(Damage::Io(error)) => return Err(io(error)),
            Err(Damage::Middle(file, at)) => {
                return Err(Closed::Refused(format!(
                    "is damaged in the middle: `{}` from byte {at} on",
                    file.display()
                )));
            }
        }
        if self.failed {
            folder.write_anew().map_err(io)?;
        }
        match Slices::open(folder.path()) {
            Ok(slices) => {
                if self.failed {
                    tracing::info!("the ledger's journal can be used again");
                }
                self.failed = false;
                Ok(slices)
            }
            Err(Broken::Disk(why)) => {
                self.failed = true;
                Err(Closed::Disk(why))
            }
            Err(Broken::Content(why)) => Err(Closed::Refused(format!("is damaged: {why}"))),
        }
    }

    /// Carries out orders until something fails.
    fn work(&mut self) -> Result<(), String> {
        while let Some(order) = self.orders.blocking_recv() {
            let mut orders = vec![order];
            while orders.len() < TOGETHER
                && let Ok(order) = self.orders.try_recv()
            {
                orders.push(order);
            }
            if self.folder.as_ref().is_none_or(Folder::is_gone) {
                // Made anew, as at a start.
                self.folder = None;
                return Err("its folder was removed".into());
            }
            self.carry_out(orders)?;
            self.shelf.goes_on();
        }
        Ok(())
    }

    fn carry_out(&self, orders: Vec<Order>) -> Result<(), String> {
        let mut changes: Vec<Change> = Vec::with_capacity(orders.len());
        let (mut answers, mut expire, mut distrusted) = (Vec::new(), None, None);
        for order in orders {
            match order {
                Order::Write(more, answer) => {
                    changes.extend(more);
                    answers.push(answer);
                }
                Order::Tidy(before, answer) => {
                    expire = Some(before);
                    answers.push(answer);
                }
                Order::Distrust(why) => distrusted = Some(why),
                #[cfg(test)]
                Order::Panic(answer) => std::panic::resume_unwind(Box::new(answer)),
            }
        }
        let done = self.write(changes);
        let done = match (done, expire) {
            (Ok(()), Some(before)) => self.tidy(before),
            (done, _) => done,
        };
        let done = done.map_err(|broken| match broken {
            Broken::Disk(why) | Broken::Content(why) => why,
        });
        for answer in answers {
            let told = done.clone().map_err(|reason| LedgerAway { reason });
            let _ = answer.send(told);
        }
        done?;
        distrusted.map_or(Ok(()), Err)
    }

    fn tidy(&self, before: Millis) -> Result<(), Broken> {
        self.shelf.expire(before)?;
        self.shelf.sort()
    }

    fn write(&self, mut changes: Vec<Change>) -> Result<(), Broken> {
        if changes.is_empty() {
            return Ok(());
        }
        // Of one id the last counts; only one whose first wait was broken off
        // comes twice.
        let mut seen = std::collections::HashSet::with_capacity(changes.len());
        changes.reverse();
        changes.retain(|change| seen.insert(change.id.bytes()));
        self.shelf.write(&changes)
    }
}

impl Drop for Writer {
    /// After a panic nobody writes any more, so nothing may be delivered any more.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = "the journal's thread has failed";
            tracing::error!(
                why,
                "the ledger's journal cannot be used; requests are refused until a restart"
            );
            self.shelf.close(why.into());
        }
    }
}

/// Whether the folder's place is wrong, which no patience puts right.
fn is_mistaken(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::NotFound | Kind::NotADirectory | Kind::PermissionDenied | Kind::AlreadyExists
    )
}
