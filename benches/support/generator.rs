use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Sends requests that were made beforehand over open connections, each as soon
/// as the one before it was answered, on a single thread.
pub struct Generator {
    pub address: SocketAddr,
    pub connections: usize,
    /// No more than that, however many requests there are.
    pub longest: Duration,
}

/// What became of a load.
#[derive(Debug)]
pub struct Load {
    /// Requests that were answered 200.
    pub accepted: usize,
    /// Those that were answered otherwise, or not.
    pub refused: usize,
    /// From the first request to the last answer.
    pub took: Duration,
    /// How long each answer took.
    pub latencies: Vec<Duration>,
}

struct Tally {
    next: Cell<usize>,
    load: RefCell<Load>,
}

impl Generator {
    /// Sends these, each once; `begin` is called when all connections are open.
    pub fn run(&self, requests: &[Vec<u8>], begin: impl FnOnce()) -> Load {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let requests: Rc<[Vec<u8>]> = requests.into();
        let tally = Rc::new(Tally {
            next: Cell::new(0),
            load: RefCell::new(Load {
                accepted: 0,
                refused: 0,
                took: Duration::ZERO,
                latencies: Vec::with_capacity(requests.len()),
            }),
        });
        LocalSet::new().block_on(&runtime, async {
            let mut streams = Vec::with_capacity(self.connections);
            for _ in 0..self.connections {
                let stream = TcpStream::connect(self.address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                streams.push(stream);
            }
            begin();
            let began = Instant::now();
            let until = began + self.longest;
            let senders: Vec<_> = streams
                .into_iter()
                .map(|stream| {
                    let (requests, tally) = (Rc::clone(&requests), Rc::clone(&tally));
                    tokio::task::spawn_local(send(stream, requests, tally, until))
                })
                .collect();
            for sender in senders {
                sender.await.unwrap();
            }
            tally.load.borrow_mut().took = began.elapsed();
        });
        let Some(tally) = Rc::into_inner(tally) else {
            unreachable!("every sender has ended")
        };
        tally.load.into_inner()
    }
}

async fn send(mut stream: TcpStream, requests: Rc<[Vec<u8>]>, tally: Rc<Tally>, until: Instant) {
    let mut buffer = Vec::with_capacity(2048);
    loop {
        let number = tally.next.get();
        let sent = Instant::now();
        let Some(request) = requests.get(number).filter(|_| sent < until) else {
            return;
        };
        tally.next.set(number + 1);
        let status = exchange(&mut stream, request, &mut buffer).await;
        let mut load = tally.load.borrow_mut();
        match status {
            Ok(true) => load.accepted += 1,
            Ok(false) => load.refused += 1,
            Err(_) => {
                load.refused += 1;
                return;
            }
        }
        load.latencies.push(sent.elapsed());
    }
}

/// Sends a request and reads its answer whole; whether it was 200.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> io::Result<bool> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if whole(buffer) {
            return Ok(buffer.starts_with(b"HTTP/1.1 200"));
        }
    }
}

fn whole(answer: &[u8]) -> bool {
    const LENGTH: &[u8] = b"content-length: ";
    let find = |what: &[u8]| answer.windows(what.len()).position(|part| part == what);
    let Some(head) = find(b"\r\n\r\n") else {
        return false;
    };
    let length = find(LENGTH).map_or(0, |at| {
        let digits = answer[at + LENGTH.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
    });
    answer.len() >= head + 4 + length
}
