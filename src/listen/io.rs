use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Connection;

/// A stream socket of either kind.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Socket::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

/// How much of a refused body is read off before the connection closes
/// (contract §5; bytes).
const LINGER: usize = 64 * 1024;

/// A socket that tells its [`Connection`] what moves, and that closes so that
/// the last answer arrives.
///
/// It lies below TLS, where it sees every byte that really moves.
pub(super) struct Io {
    socket: Socket,
    connection: Arc<Connection>,
    close: Close,
    /// What may still come of a TLS handshake that is not done (bytes).
    handshake: Option<usize>,
}

/// How far closing has come.
enum Close {
    Open,
    /// Our side is shut; this many bytes may still be read off.
    Lingering(usize),
    Done,
}

impl Io {
    pub(super) fn new(socket: Socket, connection: Arc<Connection>) -> Self {
        Self {
            socket,
            connection,
            close: Close::Open,
            handshake: None,
        }
    }

    /// A TLS handshake comes first, for which so much may come (bytes). Without that,
    /// TLS keeps 64 KiB of one that never ends.
    pub(super) fn expect_handshake(&mut self, most: usize) {
        self.handshake = Some(most);
    }

    /// The TLS handshake is done.
    pub(super) fn shook_hands(&mut self) {
        self.handshake = None;
        self.connection.shook_hands();
    }

    /// Ready when a read may bring something.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads off what is coming. Closing a socket with unread bytes makes the
    /// kernel reset it, and a reset can overtake the answer on its way.
    fn poll_read_off(&mut self, cx: &mut Context<'_>, mut left: usize) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); 4096];
        while left > 0 {
            let mut buf = ReadBuf::uninit(&mut space);
            match either!(&mut self.socket, s => s.poll_read(cx, &mut buf)) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    left = left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    self.close = Close::Lingering(left);
                    return Poll::Pending;
                }
            }
        }
        self.close = Close::Done;
        Poll::Ready(())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(either!(&mut self.socket, s => s.poll_read(cx, buf)))?;
        let came = buf.filled().len() - before;
        if came > 0 {
            self.connection.came();
        }
        if let Some(left) = &mut self.handshake {
            *left = left.checked_sub(came).ok_or(ErrorKind::InvalidData)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = either!(&mut self.socket, s => s.poll_write(cx, buf));
        self.connection.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = either!(&mut self.socket, s => s.poll_write_vectored(cx, bufs));
        self.connection.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush; that it is asked says that all was written.
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let left = match self.close {
            Close::Open => {
                ready!(either!(&mut self.socket, s => s.poll_shutdown(cx)))?;
                if !self.connection.lingers() {
                    self.close = Close::Done;
                    return Poll::Ready(Ok(()));
                }
                LINGER
            }
            Close::Lingering(left) => left,
            Close::Done => return Poll::Ready(Ok(())),
        };
        self.poll_read_off(cx, left).map(Ok)
    }
}
