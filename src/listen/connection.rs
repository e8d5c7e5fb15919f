use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Stop;
use super::room::Room;
use crate::message::Protocol;

/// What a connection is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A head must be whole this long after its first byte; the first one, with
    /// the TLS handshake before it, this long after the connection was accepted.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long one that has proven nothing may wait, or take for a head, while all
    /// places are taken. With TLS `header_timeout`: a handshake is not held to less.
    pub crowded_timeout: Duration,
    /// Connections at one time; further ones wait unaccepted.
    pub max_connections: usize,
}

/// A write that gets nothing across for this long ends the connection: the
/// sender does not read its answer.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// How long the rest of a refused body is read off before the connection closes
/// (contract §5).
const LINGER: Duration = Duration::from_secs(1);

/// One accepted connection: who is there, and what it is doing. The socket, the
/// task that keeps the deadlines and the service share it.
///
/// All marks are made by the connection's own task; the atomics are only there
/// so that the service may look at it from another.
pub struct Connection {
    peer: Option<IpAddr>,
    protocol: Protocol,
    house: House,
    accepted: Instant,
    phase: AtomicU8,
    /// The first byte of the present head (nanoseconds since `accepted`).
    began: AtomicU64,
    /// When a phase that has a deadline is over (nanoseconds since `accepted`).
    until: AtomicU64,
    /// Since when a write gets nothing across (nanoseconds since `accepted`); 0
    /// while none waits.
    stalled: AtomicU64,
    /// Whether the sender may be sending what nobody reads.
    unread: AtomicBool,
    close_after: AtomicBool,
    /// Whether the last request that came on it proved itself.
    proven: AtomicBool,
}

/// Where a connection came in.
pub(super) struct House {
    pub(super) limits: Limits,
    pub(super) room: Arc<Room>,
    pub(super) stop: Stop,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Accepted; nothing came yet.
    Greeting,
    /// Between requests.
    Waiting,
    /// A head is coming.
    Head,
    /// The service has the request. It keeps its own deadlines.
    Handling,
    /// The answer is known and being written.
    Answering,
    /// Closing; what is still coming is read off.
    Lingering,
}

impl Connection {
    pub(super) fn new(peer: Option<IpAddr>, protocol: Protocol, house: House) -> Self {
        Self {
            peer,
            protocol,
            accepted: Instant::now(),
            phase: AtomicU8::new(Phase::Greeting as u8),
            began: AtomicU64::new(0),
            until: AtomicU64::new(nanoseconds(house.limits.header_timeout)),
            stalled: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            close_after: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            house,
        }
    }

    /// The address at the other end, IPv4 as IPv4; none over a unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// How requests come in on it.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// When the first byte of the present head arrived. For a request that was
    /// sent before the previous one was answered: when that answer was out.
    pub fn began(&self) -> Instant {
        self.at(self.began.load(Ordering::Relaxed))
    }

    /// The present answer is the last: it carries `connection: close`.
    pub fn close_after(&self) {
        self.close_after.store(true, Ordering::Relaxed);
    }

    /// The present request proved itself: the connection is kept although the house
    /// is full, until the next request, which has to prove itself again. Else one
    /// message would buy a place for ever.
    pub fn proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether the listener is closed, so that a new request is to be refused.
    pub fn is_closing(&self) -> bool {
        self.house.stop.is_closing()
    }

    /// The body was read to its end, so nothing of it is still coming.
    pub(super) fn body_ended(&self) {
        self.unread.store(false, Ordering::Relaxed);
    }

    /// The TLS handshake is done: its bytes were not those of a head.
    pub(super) fn shook_hands(&self) {
        self.unread.store(false, Ordering::Relaxed);
        // The first head often comes along with the end of the handshake, and
        // then no further read tells of it.
        self.began.store(self.now(), Ordering::Relaxed);
        self.enter(Phase::Greeting);
    }

    /// Bytes were read from the socket.
    pub(super) fn came(&self) {
        let phase = self.phase();
        if !matches!(phase, Phase::Greeting | Phase::Waiting) {
            return;
        }
        let now = self.now();
        self.began.store(now, Ordering::Relaxed);
        if phase == Phase::Waiting {
            self.until.store(
                now + nanoseconds(self.house.limits.header_timeout),
                Ordering::Relaxed,
            );
        }
        self.unread.store(true, Ordering::Relaxed);
        self.enter(Phase::Head);
    }

    /// A head is whole and its request goes to the service.
    pub(super) fn head_whole(&self, has_body: bool) {
        if self.phase() == Phase::Answering {
            // It was sent along with the previous one, whose answer is not yet out.
            self.began.store(self.now(), Ordering::Relaxed);
        }
        self.unread.store(has_body, Ordering::Relaxed);
        self.proven.store(false, Ordering::Relaxed);
        self.enter(Phase::Handling);
    }

    /// The service has answered. Whether this is the last answer, and has to say so.
    pub(super) fn answered(&self) -> bool {
        self.enter(Phase::Answering);
        // Where the body was not read to its end, the connection cannot go on.
        self.unread.load(Ordering::Relaxed)
            || self.close_after.load(Ordering::Relaxed)
            || self.house.stop.is_leaving()
            || self.is_in_the_way()
    }

    /// All that was written is with the kernel.
    pub(super) fn flushed(&self) {
        if self.phase() == Phase::Answering {
            let now = self.now();
            // A head that is already here began now; any other will say so.
            self.began.store(now, Ordering::Relaxed);
            self.until.store(
                now + nanoseconds(self.house.limits.idle_timeout),
                Ordering::Relaxed,
            );
            self.enter(Phase::Waiting);
        }
    }

    /// No request is waited for any more. Where it is still between two of them, the
    /// beginning of a head came along with the last one, and has the time of a head.
    pub(super) fn leaves(&self) {
        if self.phase() == Phase::Waiting {
            let head = self.now() + nanoseconds(self.house.limits.header_timeout);
            self.until.fetch_min(head, Ordering::Relaxed);
        }
    }

    /// A write got something across, or (`false`) could not.
    pub(super) fn wrote(&self, progress: bool) {
        let stalled = self.stalled.load(Ordering::Relaxed) != 0;
        if progress && stalled {
            self.stalled.store(0, Ordering::Relaxed);
        } else if !progress && !stalled {
            self.stalled.store(self.now().max(1), Ordering::Relaxed);
        }
    }

    /// The write side was shut down. Whether there is something to read off
    /// before the socket may close.
    pub(super) fn lingers(&self) -> bool {
        let lingers = self.unread.load(Ordering::Relaxed);
        if lingers {
            self.until
                .store(self.now() + nanoseconds(LINGER), Ordering::Relaxed);
            self.enter(Phase::Lingering);
        }
        lingers
    }

    /// Whether others wait for the place of this one, which has proven nothing.
    fn is_in_the_way(&self) -> bool {
        !self.proven.load(Ordering::Relaxed) && self.house.room.is_full()
    }

    /// Until when it may wait for a request, or take for its head. One that has
    /// proven nothing looks every now and then whether others wait for its place,
    /// and gives it up when it had the time of a crowd.
    fn patience(&self) -> Instant {
        let until = self.at(self.until.load(Ordering::Relaxed));
        if self.proven.load(Ordering::Relaxed) {
            return until;
        }
        let crowded = self.house.limits.crowded_timeout;
        if self.house.room.is_full() {
            return until.min(self.began() + crowded);
        }
        until.min(Instant::now() + crowded)
    }

    /// When the connection is to be dropped, as things stand.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stalled = self.stalled.load(Ordering::Relaxed);
        if stalled != 0 {
            return Some(self.at(stalled) + WRITE_STALL);
        }
        match self.phase() {
            Phase::Handling | Phase::Answering => None,
            Phase::Greeting | Phase::Waiting | Phase::Head => Some(self.patience()),
            Phase::Lingering => Some(self.at(self.until.load(Ordering::Relaxed))),
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Greeting,
            1 => Phase::Waiting,
            2 => Phase::Head,
            3 => Phase::Handling,
            4 => Phase::Answering,
            _ => Phase::Lingering,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        nanoseconds(self.accepted.elapsed())
    }

    fn at(&self, nanoseconds: u64) -> Instant {
        self.accepted + Duration::from_nanos(nanoseconds)
    }
}

/// Enough for five centuries.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
