use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use bytes::{Buf as _, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::tcp::AsyncTcpStream;

use super::{mend, refuse};

/// tokio, as lapin's runtime, for connections that are [`Guarded`].
pub(super) type GuardedRuntime = Runtime<RuntimeParts<Tokio, Guarding>>;

pub(super) fn guarded_runtime() -> GuardedRuntime {
    Runtime::new(RuntimeParts::new(
        Tokio::current(),
        Guarding(Tokio::current()),
    ))
}

/// A connection whose frames are mended before lapin reads them.
pub(super) struct Guarded {
    inner: AsyncTcpStream<<Tokio as Reactor>::TcpStream>,
    sieve: Sieve,
}

impl Guarded {
    pub(super) fn over(inner: AsyncTcpStream<<Tokio as Reactor>::TcpStream>) -> Self {
        Self {
            inner,
            sieve: Sieve::default(),
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        while !buffer.is_empty() && this.sieve.is_empty() {
            let room = this.sieve.room();
            let read = ready!(Pin::new(&mut this.inner).poll_read(context, room))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            this.sieve.read(read)?;
        }
        Poll::Ready(Ok(this.sieve.give(buffer)))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

/// What was read of a connection and not yet handed on.
#[derive(Default)]
struct Sieve {
    bytes: BytesMut,
    /// So many bytes were looked at, from the first.
    seen: usize,
    /// So many more belong to a frame that need not be looked at.
    passing: usize,
    /// What is read at once; behind the bytes.
    spare: Vec<u8>,
}

const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// Kind, channel and length of a frame; and what ends it (bytes).
const HEAD: usize = 7;
const END: usize = 1;
/// What is read at once (bytes): about a frame's worth.
const AT_ONCE: usize = 64 * 1024;
/// A method or header is no longer than a frame, of 128 KiB where nobody asks for
/// more. What is, is not AMQP (bytes).
const LONGEST: usize = 1024 * 1024;

impl Sieve {
    fn is_empty(&self) -> bool {
        self.seen == 0
    }

    fn room(&mut self) -> &mut [u8] {
        self.spare.resize(AT_ONCE, 0);
        &mut self.spare
    }

    /// Takes what was read into the room.
    fn read(&mut self, count: usize) -> io::Result<()> {
        self.bytes.extend_from_slice(&self.spare[..count]);
        loop {
            let passed = self.passing.min(self.bytes.len() - self.seen);
            self.seen += passed;
            self.passing -= passed;
            let ahead = &mut self.bytes[self.seen..];
            let Some((&mut [kind, _, _, a, b, c, d], rest)) = ahead.split_first_chunk_mut::<HEAD>()
            else {
                return Ok(());
            };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let frame = HEAD + length + END;
            if kind == METHOD || kind == HEADER {
                if length > LONGEST {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let Some(payload) = rest.get_mut(..length) else {
                    // Not all of it is here.
                    return Ok(());
                };
                match kind {
                    METHOD => {
                        refuse::method(payload)?;
                        mend::method(payload);
                    }
                    _ => {
                        refuse::header(payload)?;
                        mend::header(payload);
                    }
                }
            }
            self.passing = frame;
        }
    }

    /// Hands on what was looked at.
    fn give(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.seen.min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes.advance(count);
        self.seen -= count;
        count
    }
}

/// tokio's, whose connections are guarded.
#[derive(Clone, Debug)]
pub(super) struct Guarding(Tokio);

impl Reactor for Guarding {
    type TcpStream = Guarded;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        // lapin is given its connections.
        Err::<Guarded, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Guarded::over(AsyncTcpStream::Plain(connecting.await?))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1], &length[..], payload, b"\xce"].concat()
    }

    /// What comes out when so much is read at once, and so much is asked for.
    fn through(bytes: &[u8], read: usize, asked: usize) -> Vec<u8> {
        let mut sieve = Sieve::default();
        let mut out = Vec::new();
        let mut buffer = vec![0; asked];
        for chunk in bytes.chunks(read) {
            sieve.room()[..chunk.len()].copy_from_slice(chunk);
            sieve.read(chunk.len()).unwrap();
            while !sieve.is_empty() {
                let given = sieve.give(&mut buffer);
                out.extend_from_slice(&buffer[..given]);
            }
        }
        out
    }

    #[test]
    fn frames_are_mended_however_they_are_cut() {
        let deliver = b"\x00\x3c\x00\x3c\x01t\0\0\0\0\0\0\0\x01\0\x01\xff\x02a\xff";
        let mended = b"\x00\x3c\x00\x3c\x01t\0\0\0\0\0\0\0\x01\0\x01?\x02a?";
        let header = b"\x00\x3c\0\0\0\0\0\0\0\0\0\x05\x80\0\x02\xc3\x28";
        let whole = b"\x00\x3c\0\0\0\0\0\0\0\0\0\x05\x80\0\x02?\x28";
        let body = b"\x01\xff\xfe\0\xce";
        let sent = [
            frame(1, deliver),
            frame(2, header),
            frame(3, body),
            frame(8, b""),
        ]
        .concat();
        let read = [
            frame(1, mended),
            frame(2, whole),
            frame(3, body),
            frame(8, b""),
        ]
        .concat();
        for cut in 1..=sent.len() {
            for asked in [1, 7, 1000] {
                assert_eq!(through(&sent, cut, asked), read, "{cut} {asked}");
            }
        }
    }

    #[test]
    fn what_no_broker_says_never_gets_to_lapin() {
        let declare = frame(1, b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\0");
        let endless = frame(2, b"\0\x3c\0\0\0\0\x01\0\0\0\0\0\0\0");
        for refused in [declare, endless] {
            let mut sieve = Sieve::default();
            let sent = [frame(8, b""), refused].concat();
            sieve.room()[..sent.len()].copy_from_slice(&sent);
            let error = sieve.read(sent.len()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(sieve.give(&mut [0; 99]), frame(8, b"").len());
        }
    }

    #[test]
    fn what_is_longer_than_any_frame_is_not_waited_for() {
        let mut sieve = Sieve::default();
        let head = b"\x02\0\x01\xff\xff\xff\xff";
        sieve.room()[..head.len()].copy_from_slice(head);
        assert!(sieve.read(head.len()).is_err());
    }
}
