use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::reply::{Came, Reply, Rest};
use super::stream::Stream;

/// An open connection to a service, over which one request goes at a time.
///
/// It is spoken to by whoever delivers, without a task of its own: a connection of
/// hyper's has one, which costs two wake-ups and two hand-overs a request: about 2 µs,
/// an eighth of what hookward itself does for one. What is said here is little: a
/// POST with its length, and the head of an answer, whose body nobody reads.
pub(super) struct Wire {
    stream: Stream,
    /// The head of the request, and its body where that is small.
    request: Vec<u8>,
    /// What came and is not yet used.
    read: BytesMut,
    /// Set for the first request, and left where it is when the next one may take
    /// longer: set anew for each, it was a list to enter and to leave twice.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// Not a byte of the request left.
    Unwritten(String),
    /// It may have arrived.
    Midway(String),
    /// Nothing came in time; it may have arrived.
    Late,
}

/// Bodies up to this are written together with the head: a copy of so little costs
/// less than the second buffer of a vectored write (bytes).
const FLAT: usize = 16 * 1024;

/// The largest head of an answer with the interim ones before it, and the most that is
/// read at once (bytes).
const ANSWER: usize = 64 * 1024;

/// What is read at once of an answer that nobody expects to be long (bytes).
const READ: usize = 2 * 1024;

/// What a connection at rest keeps of its buffers (bytes).
const KEPT: usize = 4 * 1024;

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            request: Vec::new(),
            read: BytesMut::new(),
            timer: None,
        }
    }

    /// Whether the next request may go over it: the service has not closed it, as
    /// far as is known by now, nor sent what nobody asked for.
    pub(super) fn is_usable(&mut self) -> bool {
        self.read.is_empty() && self.stream.is_quiet()
    }

    /// Sends a request, whose head `write` writes, and waits for the head of its
    /// answer until `deadline`. Where that accepts before all of the request is out,
    /// the rest follows, as far as it is taken by then.
    ///
    /// True with the answer when all of the request is out.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP/1, or late.
    pub(super) async fn exchange(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        body: &[u8],
        deadline: Instant,
    ) -> Result<(Reply, bool), Broken> {
        self.request.clear();
        write(&mut self.request);
        let mut rest = body;
        if body.len() <= FLAT {
            self.request.extend_from_slice(body);
            rest = &[];
        }
        let mut sending = Sending {
            head: &self.request,
            body: rest,
            plain: self.stream.is_plain(),
            begun: false,
            flushed: self.stream.is_plain(),
            failed: None,
        };
        let (stream, read, timer) = (&mut self.stream, &mut self.read, &mut self.timer);
        let mut left = ANSWER;
        let answered = poll_fn(|context| {
            // An answer may come before all of the request is out.
            if let Poll::Ready(Err(error)) = sending.poll(stream, context) {
                if sending.plain && !sending.begun {
                    return Poll::Ready(Err(Broken::Unwritten(error.to_string())));
                }
                sending.failed = Some(error);
            }
            let Poll::Ready(reply) = poll_reply(stream, read, &mut left, context) else {
                return poll_late(timer, deadline, context).map(Err);
            };
            Poll::Ready(reply.map_err(|why| {
                // What kept the request from going out says more.
                Broken::Midway(sending.failed.as_ref().map_or(why, io::Error::to_string))
            }))
        })
        .await;
        let reply = answered?;
        if reply.status.is_success() {
            // It accepts before it has read all, and may read on: then it is to get all.
            poll_fn(|context| match sending.poll(stream, context) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => poll_late(timer, deadline, context).map(drop),
            })
            .await;
        }
        Ok((reply, sending.is_done()))
    }

    /// Reads off what there is of the body, without waiting.
    pub(super) fn skip(&mut self, rest: &mut Rest) -> Came {
        rest.skip(&mut self.read)
    }

    /// Waits until more has come, and how much that is (bytes); 0 at the end.
    pub(super) async fn more(&mut self) -> io::Result<usize> {
        poll_fn(|context| poll_read(&mut self.stream, &mut self.read, ANSWER, context)).await
    }

    /// Lets go of the memory that one large request or answer took.
    pub(super) fn rests(&mut self) {
        if self.request.capacity() > KEPT {
            self.request = Vec::new();
        }
        if self.read.capacity() > KEPT {
            self.read = BytesMut::new();
        }
    }
}

/// Ready when nothing more is to be waited for.
fn poll_late(
    timer: &mut Option<Pin<Box<Sleep>>>,
    deadline: Instant,
    context: &mut Context<'_>,
) -> Poll<Broken> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    loop {
        if deadline < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(context));
        if timer.deadline() >= deadline {
            return Poll::Ready(Broken::Late);
        }
    }
}

/// A request on its way.
struct Sending<'a> {
    head: &'a [u8],
    body: &'a [u8],
    plain: bool,
    begun: bool,
    flushed: bool,
    failed: Option<io::Error>,
}

impl Sending<'_> {
    fn is_done(&self) -> bool {
        self.head.is_empty() && self.body.is_empty() && self.flushed
    }

    fn poll(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed.is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut stream = Pin::new(stream);
        while !(self.head.is_empty() && self.body.is_empty()) {
            let written = if self.body.is_empty() {
                ready!(stream.as_mut().poll_write(context, self.head))?
            } else {
                let slices = [IoSlice::new(self.head), IoSlice::new(self.body)];
                ready!(stream.as_mut().poll_write_vectored(context, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            let of_head = written.min(self.head.len());
            self.head = &self.head[of_head..];
            self.body = &self.body[written - of_head..];
        }
        if !self.flushed {
            ready!(stream.poll_flush(context))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads the head of the answer, and what comes before it, of which `left` may still
/// come (bytes): what never ends would never let the deadline be looked at.
fn poll_reply(
    stream: &mut Stream,
    read: &mut BytesMut,
    left: &mut usize,
    context: &mut Context<'_>,
) -> Poll<Result<Reply, String>> {
    loop {
        let came = ready!(poll_read(stream, read, READ, context));
        let came = came.map_err(|error| error.to_string())?;
        if came == 0 {
            return Poll::Ready(Err("it was closed".into()));
        }
        if let Some(reply) = Reply::take(read)? {
            return Poll::Ready(Ok(reply));
        }
        *left = left.saturating_sub(came);
        if *left == 0 {
            return Poll::Ready(Err("the head of its answer has no end".into()));
        }
    }
}

/// Reads once, up to `most` (bytes).
fn poll_read(
    stream: &mut Stream,
    read: &mut BytesMut,
    most: usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    read.reserve(most);
    poll_read_buf(Pin::new(stream), context, read)
}
