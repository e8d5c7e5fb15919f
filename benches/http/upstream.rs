use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::net::{RecvFlags, recv};

use crate::answer::{content_length, split};

/// The service behind: reads a request whole, throws it away and answers 200. It
/// is a thread of this process, pinned as this one is, and ends with it.
pub struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

/// One connection to it.
struct Member {
    stream: TcpStream,
    head: Vec<u8>,
    /// How much of a body is still to come.
    body: usize,
}

/// The largest piece of a body that is taken at a time (bytes).
const PIECE: usize = 256 * 1024;
/// Longer than any head here (bytes).
const ROOM: usize = 8192;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
/// The number that events of the listener carry.
const LISTENER: u64 = u64::MAX;

impl Upstream {
    /// Starts it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
        };
        let requests = Arc::clone(&upstream.requests);
        std::thread::spawn(move || serve(&listener, &requests));
        upstream
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has answered.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn serve(listener: &TcpListener, requests: &AtomicUsize) {
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&watch, listener, data, epoll::EventFlags::IN).unwrap();
    let mut members: Vec<Option<Member>> = Vec::new();
    let mut ready: Vec<epoll::Event> = Vec::with_capacity(512);
    let mut scratch = vec![0; PIECE];
    loop {
        ready.clear();
        match epoll::wait(&watch, spare_capacity(&mut ready), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the service's wait: {error}"),
        }
        for event in &ready {
            let number = event.data.u64();
            if number == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let data = epoll::EventData::new_u64(members.len() as u64);
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                    epoll::add(&watch, &stream, data, flags).unwrap();
                    members.push(Some(Member {
                        stream,
                        head: Vec::with_capacity(ROOM),
                        body: 0,
                    }));
                }
                continue;
            }
            let place = &mut members[number as usize];
            let goes_on = place
                .as_mut()
                .is_some_and(|member| member.turn(&mut scratch, requests));
            if !goes_on {
                *place = None;
            }
        }
    }
}

impl Member {
    /// Reads all there is, and answers what is whole. False when it has ended.
    fn turn(&mut self, scratch: &mut [u8], requests: &AtomicUsize) -> bool {
        loop {
            let read = if self.body > 0 {
                // A body is thrown away where it lies: what is not measured is not
                // to cost a copy.
                let wanted = self.body.min(scratch.len());
                let discarding = RecvFlags::TRUNC;
                recv(&self.stream, &mut scratch[..wanted], discarding).map(|(_, read)| read)
            } else {
                let room = spare_capacity(&mut self.head);
                recv(&self.stream, room, RecvFlags::empty()).map(|(_, read)| read)
            };
            let whole = match read {
                Ok(0) => return false,
                Ok(read) if self.body > 0 => {
                    self.body -= read;
                    self.body == 0
                }
                Ok(_) => self.begin(),
                Err(error) => {
                    return std::io::Error::from(error).kind() == ErrorKind::WouldBlock;
                }
            };
            if whole {
                requests.fetch_add(1, Ordering::Relaxed);
                // Nobody sends the next before this is answered, and its coming
                // wakes us: no look whether there is more.
                return self.stream.write_all(ANSWER).is_ok();
            }
        }
    }

    /// Looks at what is there of a head; whether it is the whole of a request.
    fn begin(&mut self) -> bool {
        let Some((head, body)) = split(&self.head) else {
            assert!(self.head.len() < ROOM, "a head of more than {ROOM} bytes");
            return false;
        };
        self.body = content_length(head) - body.len();
        self.head.clear();
        self.body == 0
    }
}
