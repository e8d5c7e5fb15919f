use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::audit::holds_no_secret;
use super::facts::{Fact, Journal};
use super::lives::{At, MARKER, Place, alive};
use crate::support::{
    Answer, Connection, KEY, Message, OTHER_KEY, Sealed, TOKEN, before_the_next_look, within,
};

/// Senders that try each of their messages until it is a success, and whatever
/// else senders and attackers do: repeat what succeeded, hang up, forge.
pub struct Load {
    ended: Arc<AtomicBool>,
    senders: JoinSet<u64>,
}

impl Load {
    /// So many senders. What they do follows from the seed.
    pub fn start(journal: &Arc<Journal>, place: &Place, senders: usize, seed: u64) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let mut all = JoinSet::new();
        for number in 0..senders {
            let sender = Sender::new(journal, place, number);
            let dice = Rng::with_seed(seed.wrapping_add(number as u64));
            all.spawn(sender.work(Arc::clone(&ended), dice));
        }
        let senders = all;
        Self { ended, senders }
    }

    /// Lets every sender bring the message it is at to its success: how many
    /// messages there were in all.
    pub async fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        let counts = within("every message to succeed", self.senders.join_all()).await;
        counts.into_iter().sum()
    }
}

/// For so long a message is repeated as it is: well within its window.
const FRESH: Duration = Duration::from_secs(60);

/// Tells requests apart in one journal.
static REQUEST: AtomicU64 = AtomicU64::new(0);

/// One sender, on one connection as long as that lasts.
pub struct Sender {
    journal: Arc<Journal>,
    place: Place,
    number: usize,
    connection: Option<(At, Connection)>,
}

impl Sender {
    /// A sender whose ids begin with this number.
    pub fn new(journal: &Arc<Journal>, place: &Place, number: usize) -> Self {
        Self {
            journal: Arc::clone(journal),
            place: place.clone(),
            number,
            connection: None,
        }
    }

    async fn work(mut self, ended: Arc<AtomicBool>, mut dice: Rng) -> u64 {
        let mut count = 0;
        let mut known = VecDeque::new();
        while !ended.load(Ordering::Relaxed) {
            count += 1;
            let filler = "x".repeat(dice.usize(..2000));
            let id = format!("msg_{}_{count}", self.number);
            let body =
                format!("{{\"type\":\"user.created\",\"id\":\"{id}\",\"filler\":\"{filler}\"}}");
            let message = Message::new(&id).body(body);
            if dice.u8(..8) == 0 {
                self.send(&message.clone().key(OTHER_KEY).seal(), false)
                    .await;
            }
            let sealed = message.seal();
            if dice.u8(..16) == 0 {
                self.hang_up(&sealed).await;
            }
            let mut last = sealed;
            while self.send(&last, true).await.is_none_or(|a| a.status >= 500) {
                // Svix signs anew, and repeats at once after an error.
                if dice.bool() {
                    last = message.seal();
                }
                before_the_next_look().await;
            }
            known.push_back((Instant::now(), last));
            known.retain(|(at, _)| at.elapsed() < FRESH);
            if dice.u8(..8) == 0 && !known.is_empty() {
                let again = known[dice.usize(..known.len())].1.clone();
                self.send(&again, true).await;
            }
        }
        // What was forgotten shows when everything comes again.
        for (_, again) in known {
            self.send(&again, true).await;
        }
        count
    }

    /// Sends a request and reads its answer, if it is answered.
    pub async fn send(&mut self, message: &Sealed, genuine: bool) -> Option<Answer> {
        let (at, mut connection) = self.connection().await;
        let request = self.sent(message, at, genuine).await;
        let written = connection.try_write(&message.request("/clerk")).await;
        let answer = match written {
            Ok(()) => connection.try_answer().await.ok(),
            Err(_) => None,
        };
        let Some(answer) = answer else {
            self.journal.noted(Fact::Cut { request }).await;
            return None;
        };
        holds_no_secret(&format!("{answer:?}"), &[KEY, TOKEN, MARKER]);
        holds_no_secret(&answer.text(), &[KEY, TOKEN, MARKER]);
        let json = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let about = json.and_then(|json| Some(json.get("id")?.as_str()?.to_owned()));
        let told = Fact::Answered {
            request,
            status: answer.status,
            word: answer.word().to_owned(),
            about,
        };
        self.journal.noted(told).await;
        self.connection = Some((at, connection));
        Some(answer)
    }

    /// Sends a request, and does not wait for its answer.
    async fn hang_up(&mut self, message: &Sealed) {
        let (at, mut connection) = self.connection().await;
        let request = self.sent(message, at, true).await;
        let _ = connection.try_write(&message.request("/clerk")).await;
        self.journal.noted(Fact::Cut { request }).await;
    }

    async fn sent(&mut self, message: &Sealed, at: At, genuine: bool) -> u64 {
        let request = REQUEST.fetch_add(1, Ordering::Relaxed);
        let sent = Fact::Sent {
            request,
            life: at.life,
            id: message.header("svix-id").to_owned(),
            body: STANDARD.encode(&message.body),
            genuine,
        };
        self.journal.noted(sent).await;
        request
    }

    async fn connection(&mut self) -> (At, Connection) {
        loop {
            let now = alive(&mut self.place).await;
            match self.connection.take() {
                Some((at, connection)) if at.life == now.life => return (at, connection),
                _ => {}
            }
            if let Ok(stream) = TcpStream::connect(now.address).await {
                let _ = stream.set_nodelay(true);
                return (now, Connection::over(stream));
            }
            before_the_next_look().await;
        }
    }
}
