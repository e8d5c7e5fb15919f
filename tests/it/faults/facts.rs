use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::support::{Recorded, within};

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Fact {
    /// A request is about to be sent to hookward in this life of it.
    Sent {
        request: u64,
        life: u32,
        id: String,
        body: String,
        /// Whether its signature is good.
        genuine: bool,
    },
    /// A request was answered; `about` is the id the answer names.
    Answered {
        request: u64,
        status: u16,
        word: String,
        about: Option<String>,
    },
    /// A request came to an end without an answer.
    Cut { request: u64 },
    /// A destination has an event.
    Arrived(Arrival),
}

/// An event at a destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arrival {
    pub destination: String,
    /// The life of hookward that sent it.
    pub life: u32,
    pub id: String,
    /// In base64.
    pub body: String,
    /// The three headers of the signature.
    pub signature: [String; 3],
    pub fate: Fate,
}

/// What a destination did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It accepted, and said so.
    Accepted,
    /// It refused, and said so.
    Refused,
    /// It read it and did not come to say anything.
    Cut,
    /// It was found there when all was over; nothing is known of when it came.
    Found,
}

/// The three headers of the signature.
pub const SIGNATURE: [&str; 3] = ["svix-id", "svix-timestamp", "svix-signature"];

impl Arrival {
    /// A request as a service recorded it. The configuration puts the life into
    /// `x-life`.
    pub fn at(destination: &str, request: &Recorded, fate: Fate) -> Self {
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        Self {
            destination: destination.into(),
            life: header("x-life").parse().unwrap_or(0),
            id: header("hookward-id"),
            body: STANDARD.encode(&request.body),
            signature: SIGNATURE.map(header),
            fate,
        }
    }
}

/// Everything that happened, in the order in which it was known, on the disk: what
/// a test that is itself killed leaves behind can still be judged.
///
/// A fact is on the disk before any later one.
pub struct Journal {
    path: PathBuf,
    notes: mpsc::Sender<Note>,
    count: watch::Receiver<usize>,
}

struct Note {
    fact: Option<Fact>,
    durable: Option<oneshot::Sender<()>>,
}

impl Journal {
    /// A journal in this file.
    pub fn create(path: &Path) -> Self {
        let file = File::create(path).unwrap();
        let (notes, received) = mpsc::channel();
        let (told, count) = watch::channel(0);
        std::thread::spawn(move || write(file, &received, &told));
        Self {
            path: path.to_owned(),
            notes,
            count,
        }
    }

    /// Notes a fact, and does not wait for the disk.
    pub fn note(&self, fact: Fact) {
        let (fact, durable) = (Some(fact), None);
        self.notes.send(Note { fact, durable }).unwrap();
    }

    /// Notes a fact, and waits until it is on the disk.
    pub async fn noted(&self, fact: Fact) {
        self.durable(Some(fact)).await;
    }

    /// How many facts there are.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until there are so many facts.
    pub async fn reached(&self, count: usize) {
        let mut now = self.count.clone();
        let what = format!("fact {count} in {:?}", self.path);
        let reached = now.wait_for(|there| *there >= count);
        within(&what, reached).await.unwrap();
    }

    /// Reads all of it back.
    pub async fn facts(&self) -> Vec<Fact> {
        self.durable(None).await;
        let lines = BufReader::new(File::open(&self.path).unwrap()).lines();
        lines
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect()
    }

    async fn durable(&self, fact: Option<Fact>) {
        let (told, synced) = oneshot::channel();
        let durable = Some(told);
        self.notes.send(Note { fact, durable }).unwrap();
        within("the journal to be synced", synced).await.unwrap();
    }
}

/// One sync for all who wait.
fn write(mut file: File, notes: &mpsc::Receiver<Note>, told: &watch::Sender<usize>) {
    while let Ok(first) = notes.recv() {
        let (mut lines, mut waiting, mut facts) = (Vec::new(), Vec::new(), 0);
        for note in std::iter::once(first).chain(notes.try_iter().take(1000)) {
            if let Some(fact) = note.fact {
                serde_json::to_writer(&mut lines, &fact).unwrap();
                lines.push(b'\n');
                facts += 1;
            }
            waiting.extend(note.durable);
        }
        file.write_all(&lines).unwrap();
        file.sync_data().unwrap();
        told.send_modify(|count| *count += facts);
        for durable in waiting {
            let _ = durable.send(());
        }
    }
}
