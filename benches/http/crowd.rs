use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::answer::Answer;
use crate::messages::Messages;

/// Whoever has not answered by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Open connections to one target, served by the thread that calls, with as few
/// system calls as can be: what sends is not to be the limit.
pub struct Crowd {
    address: SocketAddr,
    epoll: OwnedFd,
    /// Wakes the open loop when a request is due: waiting itself can only be told
    /// whole milliseconds.
    timer: OwnedFd,
    members: Vec<Member>,
    ready: Vec<epoll::Event>,
}

struct Member {
    stream: TcpStream,
    /// The request under way, how much of it is written, and since when it is due.
    sending: Option<(usize, usize, Instant)>,
    answer: Answer,
}

/// What became of a load.
#[derive(Default)]
pub struct Load {
    /// Requests that were answered 2xx.
    pub accepted: usize,
    /// Those that were answered otherwise, or not.
    pub refused: usize,
    /// From the first request to the last answer.
    pub took: Duration,
    /// How long each answer took, from when its request was due (microseconds).
    pub latencies: Vec<f64>,
}

/// The number that events of the timer carry.
const TIMER: u64 = u64::MAX;

impl Crowd {
    /// Opens so many connections.
    pub fn open(address: SocketAddr, size: usize) -> Self {
        let clock = TimerfdClockId::Monotonic;
        let mut crowd = Self {
            address,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
            timer: timerfd_create(clock, TimerfdFlags::NONBLOCK).unwrap(),
            members: Vec::with_capacity(size),
            ready: Vec::with_capacity(512),
        };
        let data = epoll::EventData::new_u64(TIMER);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&crowd.epoll, &crowd.timer, data, flags).unwrap();
        for number in 0..size {
            let stream = crowd.connect(number);
            crowd.members.push(Member {
                stream,
                sending: None,
                answer: Answer::default(),
            });
        }
        crowd
    }

    /// How many connections it has.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    fn connect(&self, number: usize) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        let data = epoll::EventData::new_u64(number as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &stream, data, flags).unwrap();
        stream
    }

    /// Closed loop: each connection sends the next request when its last was
    /// answered, for so long or until there are no more.
    pub fn press(&mut self, messages: &Messages, lasting: Duration) -> Load {
        let mut load = Load::default();
        let mut next = 0..messages.len();
        let began = Instant::now();
        let until = began + lasting;
        let mut under_way = 0;
        for number in 0..self.members.len() {
            let Some(request) = next.next() else { break };
            under_way += 1;
            self.send(number, (request, Instant::now()), messages);
        }
        while under_way > 0 {
            for number in self.wait(until + PATIENCE) {
                let Some(answered) = self.turn(number, messages, &mut load) else {
                    continue;
                };
                let more = Some(answered).filter(|&now| now < until);
                match more.and_then(|now| Some((next.next()?, now))) {
                    Some(request) => self.send(number, request, messages),
                    None => under_way -= 1,
                }
            }
        }
        load.took = began.elapsed();
        load
    }

    /// Open loop: so many requests a second, at random times as strangers send
    /// them, whether or not the last were answered. One that finds no connection
    /// free waits for one, and its latency counts that.
    pub fn offer(&mut self, messages: &Messages, rate: f64) -> Load {
        let mut load = Load::default();
        let mut free: Vec<usize> = (0..self.members.len()).collect();
        let mut waiting = VecDeque::new();
        let began = Instant::now();
        let mut due = began;
        let mut next = 0..messages.len();
        let mut coming = next.next();
        while coming.is_some() || !waiting.is_empty() || free.len() < self.members.len() {
            let now = Instant::now();
            while let Some(request) = coming.filter(|_| due <= now) {
                waiting.push_back((request, due));
                coming = next.next();
                due += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rate);
            }
            while !waiting.is_empty() {
                let Some(number) = free.pop() else { break };
                if let Some(request) = waiting.pop_front() {
                    self.send(number, request, messages);
                }
            }
            if coming.is_some() {
                self.wake_in(due.saturating_duration_since(Instant::now()));
            }
            for number in self.wait(due + PATIENCE) {
                if self.turn(number, messages, &mut load).is_some() {
                    free.push(number);
                }
            }
        }
        load.took = began.elapsed();
        load
    }

    /// Every connection sends one request, one after the other, so that each is
    /// one that is kept alive.
    pub fn greet(&mut self, messages: &Messages) -> Load {
        let mut load = Load::default();
        for number in 0..self.members.len() {
            self.send(number, (number, Instant::now()), messages);
            let until = Instant::now() + PATIENCE;
            while self.members[number].sending.is_some() {
                for number in self.wait(until) {
                    self.turn(number, messages, &mut load);
                }
            }
        }
        load
    }

    fn wake_in(&self, time: Duration) {
        let time = time.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: time.try_into().unwrap(),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).unwrap();
    }

    /// Who can read or write.
    fn wait(&mut self, until: Instant) -> Vec<usize> {
        assert!(Instant::now() < until, "no answer within {PATIENCE:?}");
        self.ready.clear();
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&moment)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("waiting: {error}"),
        }
        let numbers = self.ready.iter().map(|event| event.data.u64());
        let numbers = numbers.filter(|&number| number != TIMER);
        numbers.map(|number| number as usize).collect()
    }

    fn send(&mut self, number: usize, (request, due): (usize, Instant), messages: &Messages) {
        let member = &mut self.members[number];
        member.sending = Some((request, 0, due));
        // What is wrong is told again when it is read.
        let _ = member.write(messages);
    }

    /// Goes on with one connection; when its request was answered.
    fn turn(&mut self, number: usize, messages: &Messages, load: &mut Load) -> Option<Instant> {
        let member = &mut self.members[number];
        let (_, _, due) = member.sending?;
        let status = match member.write(messages).and_then(|()| member.read()) {
            Ok(None) => return None,
            Ok(Some(status)) => status,
            Err(_) => {
                self.members[number].answer = Answer::default();
                self.members[number].stream = self.connect(number);
                0
            }
        };
        self.members[number].sending = None;
        let now = Instant::now();
        load.latencies.push((now - due).as_secs_f64() * 1e6);
        match status {
            200..=299 => load.accepted += 1,
            _ => load.refused += 1,
        }
        Some(now)
    }
}

impl Member {
    /// Writes what is left of its request, as far as that goes.
    fn write(&mut self, messages: &Messages) -> io::Result<()> {
        let Some((request, written, _)) = &mut self.sending else {
            return Ok(());
        };
        let (head, body) = messages.request(*request);
        while *written < head.len() + body.len() {
            let rest = [
                IoSlice::new(head.get(*written..).unwrap_or_default()),
                IoSlice::new(&body[written.saturating_sub(head.len())..]),
            ];
            match self.stream.write_vectored(&rest) {
                Ok(more) => *written += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads on; the status of the answer once that is whole.
    fn read(&mut self) -> io::Result<Option<u16>> {
        loop {
            let room = self.answer.room();
            let size = room.len();
            match self.stream.read(room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    if let Some(status) = self.answer.came(read) {
                        return Ok(Some(status));
                    }
                    // There is no more, and what comes wakes us.
                    if read < size {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
