//! Requests as the senders of webhooks send them: a POST over HTTP/1.1 with its
//! `content-length`, and nothing asked of the connection.
//!
//! They are read and answered here, in the connection's own task and with one
//! read and one write each. Whatever else comes, be it good HTTP or not, is left
//! unread, and hyper goes on with the connection from there: this is no second
//! opinion on what HTTP is, but a short way for what is beyond doubt. Both use
//! `httparse`, and here stricter. In a profile hyper, its map of headers and its answers
//! took 2.4 of the 28 µs of a whole event.

mod answer;
mod date;
mod head;

use std::convert::Infallible;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Method;
use tokio::io::AsyncWrite as _;
use tower::Service;

use super::incoming::{Incoming, Lent};
use super::stream::Wire;
use super::{Connection, Request, Response, Target};
use crate::message::Headers;
use head::Head;

/// A connection on which only usual requests have come.
pub(super) struct Usual<S: Service<Request>> {
    connection: Arc<Connection>,
    service: S,
    /// None while a body that is still coming has it.
    wire: Option<Wire>,
    state: State<S::Future>,
    /// Whether it ends with the present answer, or now where there is none.
    leaving: bool,
}

enum State<F> {
    /// A head is waited for, or coming; so many reads have brought a part of it.
    Head(u8),
    /// The service has the request.
    Handling(Pin<Box<F>>, Option<Arc<Lent>>),
    /// An answer goes out.
    Answering(Answer),
    /// The connection is being closed.
    Closing,
}

/// An answer on its way.
struct Answer {
    text: Vec<u8>,
    /// How much of it is out (bytes).
    written: usize,
    /// Whether the connection closes after it.
    last: bool,
}

/// How it came out.
pub(super) enum End {
    /// The connection is over.
    Over,
    /// Something else comes on it.
    Unusual(Wire),
}

/// A head that needs more reads than this is not a usual one: each reads it anew.
const READS: u8 = 8;

impl<S> Usual<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    pub(super) fn new(connection: Arc<Connection>, service: S, wire: Wire) -> Self {
        Self {
            connection,
            service,
            wire: Some(wire),
            state: State::Head(0),
            leaving: false,
        }
    }

    /// The present answer is to be the last.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// What is left for who goes on with the connection.
    pub(super) fn into_parts(self) -> (Arc<Connection>, S) {
        (self.connection, self.service)
    }

    /// Takes the connection as far as it goes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let end = match &mut self.state {
                State::Head(_) => ready!(self.poll_head(cx)),
                State::Handling(..) => ready!(self.poll_handling(cx)),
                State::Answering(..) => ready!(self.poll_answering(cx)),
                State::Closing => {
                    if let Some(wire) = &mut self.wire {
                        // Whether it went well is all one: it is dropped now.
                        let _ = ready!(Pin::new(&mut wire.stream).poll_shutdown(cx));
                    }
                    Some(End::Over)
                }
            };
            if let Some(end) = end {
                return Poll::Ready(end);
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let (State::Head(reads), Some(wire)) = (&mut self.state, &mut self.wire) else {
            return Poll::Ready(Some(End::Over));
        };
        let Ok(()) = ready!(self.service.poll_ready(cx));
        if !wire.read.is_empty() {
            // What was read together with the request before it is heard of only here.
            self.connection.came();
        }
        match Head::read(&wire.read) {
            Head::Usual(head) => self.handle(head),
            Head::Partial if self.leaving && wire.read.is_empty() => self.state = State::Closing,
            Head::Partial if *reads < READS => match ready!(wire.poll_fill(cx)) {
                Ok(0) => self.state = State::Closing,
                Ok(_) => *reads += 1,
                Err(_) => return Poll::Ready(Some(End::Over)),
            },
            Head::Partial | Head::Other => {
                return Poll::Ready(self.wire.take().map(End::Unusual));
            }
        }
        Poll::Ready(None)
    }

    /// Hands the request with this head to the service.
    fn handle(&mut self, head: head::Usual) {
        let Some(mut wire) = self.wire.take() else {
            return;
        };
        self.connection.head_whole(head.body > 0);
        let text = mem::take(&mut wire.read).freeze();
        let rest = text.slice(head.length..);
        let here = usize::try_from(head.body).ok();
        let (body, lent) = match here.filter(|length| *length <= rest.len()) {
            Some(length) => {
                wire.read.extend_from_slice(&rest[length..]);
                self.wire = Some(wire);
                (Incoming::here(rest.slice(..length)), None)
            }
            None => {
                wire.read.extend_from_slice(&rest);
                let lent = Arc::new(Lent::default());
                let body = Incoming::coming(wire, head.body, Arc::clone(&lent));
                (body, Some(lent))
            }
        };
        let request = Request {
            method: Method::POST,
            target: Target::new(text.slice(Range::from(head.target))),
            headers: Headers::of(
                text,
                head.headers
                    .iter()
                    .map(|&(name, value)| (name.into(), value.into())),
            ),
            body,
        };
        let work = Box::pin(self.service.call(request));
        self.state = State::Handling(work, lent);
    }

    fn poll_handling(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let State::Handling(work, lent) = &mut self.state else {
            return Poll::Ready(Some(End::Over));
        };
        let answered = work.as_mut().poll(cx);
        let lent = match answered {
            Poll::Ready(_) => lent.take(),
            Poll::Pending => lent.clone(),
        };
        if answered.is_ready() {
            // A body that was not read to its end gives the wire back by that.
            self.state = State::Closing;
        }
        if let Some(lent) = lent
            && self.wire.is_none()
        {
            self.wire = lent.take();
        }
        let Poll::Ready(Ok(answer)) = answered else {
            return match self.wire.as_mut().is_some_and(|wire| wire.poll_gone(cx)) {
                true => Poll::Ready(Some(End::Over)),
                false => Poll::Pending,
            };
        };
        let last = self.connection.answered();
        self.state = State::Answering(Answer {
            text: answer::written(&answer, last),
            written: 0,
            last,
        });
        Poll::Ready(None)
    }

    fn poll_answering(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let (State::Answering(answer), Some(wire)) = (&mut self.state, &mut self.wire) else {
            return Poll::Ready(Some(End::Over));
        };
        while answer.written < answer.text.len() {
            let rest = &answer.text[answer.written..];
            match ready!(Pin::new(&mut wire.stream).poll_write(cx, rest)) {
                Ok(written @ 1..) => answer.written += written,
                Ok(0) | Err(_) => return Poll::Ready(Some(End::Over)),
            }
        }
        if ready!(Pin::new(&mut wire.stream).poll_flush(cx)).is_err() {
            return Poll::Ready(Some(End::Over));
        }
        self.state = match answer.last {
            true => State::Closing,
            false => State::Head(0),
        };
        Poll::Ready(None)
    }
}
