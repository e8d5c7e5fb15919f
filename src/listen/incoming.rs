use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes};
use tokio_util::io::poll_read_buf;

use super::stream::Wire;

/// The body of a request, on its way: [`read_body`](super::read_body) reads it.
pub struct Incoming(pub(super) Kind);

pub(super) enum Kind {
    /// It came along with the head.
    Here(Bytes),
    /// Some of it is still to come.
    Coming(Coming),
    /// hyper reads it.
    Hyper(hyper::body::Incoming),
}

/// A body of known length whose rest is read from the connection itself, by
/// whoever reads the body: nothing is handed over piece by piece.
pub(super) struct Coming {
    /// Always there, until it is given back.
    wire: Option<Wire>,
    /// What is still to be read (bytes).
    left: u64,
    lender: Arc<Lent>,
}

/// Where the connection finds its bytes again once the body is read, or not wanted.
#[derive(Default)]
pub(super) struct Lent(Mutex<Option<Wire>>);

impl Lent {
    /// What was given back.
    pub(super) fn take(&self) -> Option<Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Incoming {
    /// A body that is here.
    pub fn here(bytes: Bytes) -> Self {
        Self(Kind::Here(bytes))
    }

    /// The next `length` bytes of `wire`, which goes to `lender` after that.
    pub(super) fn coming(wire: Wire, length: u64, lender: Arc<Lent>) -> Self {
        Self(Kind::Coming(Coming {
            wire: Some(wire),
            left: length,
            lender,
        }))
    }

    /// One that hyper reads.
    pub(super) fn hyper(body: hyper::body::Incoming) -> Self {
        Self(Kind::Hyper(body))
    }
}

impl Coming {
    /// What is still to be read (bytes).
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Reads more of it into `bytes`, `room` at most, which it must have and which must
    /// not be nothing (bytes).
    ///
    /// # Errors
    /// When the connection breaks, or ends before the body does.
    pub(super) fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(wire) = &mut self.wire else {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        };
        let room = usize::try_from(self.left).map_or(room, |left| left.min(room));
        let read = if wire.read.is_empty() {
            ready!(poll_read_buf(
                Pin::new(&mut wire.stream),
                cx,
                &mut bytes.limit(room)
            ))?
        } else {
            let here = room.min(wire.read.len());
            bytes.extend_from_slice(&wire.read[..here]);
            wire.read.advance(here);
            if wire.read.is_empty() {
                wire.read = bytes::BytesMut::new();
            }
            here
        };
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= read as u64;
        Poll::Ready(Ok(read))
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let wire = mem::take(&mut self.wire);
        *self.lender.0.lock().unwrap_or_else(PoisonError::into_inner) = wire;
    }
}
