use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use super::Listener;
use super::address::{Bound, SocketFile};
use super::io::Socket;

/// A connection fresh from the kernel, which no runtime watches yet.
pub(super) struct Accepted {
    socket: Fresh,
    /// None over a unix socket.
    pub(super) peer: Option<IpAddr>,
}

enum Fresh {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepted {
    fn tcp(stream: TcpStream, peer: SocketAddr) -> Self {
        Self {
            socket: Fresh::Tcp(stream),
            peer: Some(peer.ip().to_canonical()),
        }
    }

    fn unix(stream: UnixStream) -> Self {
        Self {
            socket: Fresh::Unix(stream),
            peer: None,
        }
    }

    /// Has the present runtime watch the socket.
    ///
    /// # Errors
    /// When it cannot.
    pub(super) fn watch(self) -> io::Result<Socket> {
        match self.socket {
            Fresh::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                // Answers are written whole; waiting for more would only delay
                // them. A socket that refuses is already gone, which its reader
                // will find.
                let _ = stream.set_nodelay(true);
                tokio::net::TcpStream::from_std(stream).map(Socket::Tcp)
            }
            Fresh::Unix(stream) => {
                stream.set_nonblocking(true)?;
                tokio::net::UnixStream::from_std(stream).map(Socket::Unix)
            }
        }
    }
}

/// A listening socket that the runtime watches.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Acceptor {
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        match listener.socket {
            Bound::Tcp(socket) => TcpListener::from_std(socket).map(Acceptor::Tcp),
            Bound::Unix(socket, file) => {
                UnixListener::from_std(socket).map(|socket| Acceptor::Unix(socket, file))
            }
        }
    }

    /// The next connection. It is taken from the runtime that accepted it, for
    /// the one that will serve it.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        match self {
            Acceptor::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::tcp(stream.into_std()?, peer))
            }
            Acceptor::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::unix(stream.into_std()?))
            }
        }
    }

    /// Takes what still waits in the kernel's queue, at most `room`, and closes
    /// the socket. The runtime is not asked, because it may not have heard yet
    /// of what the kernel already has.
    pub(super) fn last(self, room: usize) -> Vec<Accepted> {
        match self {
            Acceptor::Tcp(listener) => {
                let listener = listener.into_std().into_iter();
                let last = listener.flat_map(|l| std::iter::from_fn(move || l.accept().ok()));
                let last = last.map(|(stream, peer)| Accepted::tcp(stream, peer));
                last.take(room).collect()
            }
            Acceptor::Unix(listener, _file) => {
                let listener = listener.into_std().into_iter();
                let last = listener.flat_map(|l| std::iter::from_fn(move || l.accept().ok()));
                last.map(|(stream, _)| Accepted::unix(stream))
                    .take(room)
                    .collect()
            }
        }
    }
}

/// Whether an accept failed because of the one connection it was for.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// How long to wait after an accept that failed for want of something: without
/// a pause it would fail again at once, and for ever, since the connection
/// that cannot be taken stays in the queue.
pub(super) struct Pause {
    next: Duration,
    told: Option<Instant>,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            next: Self::LEAST,
            told: None,
        }
    }
}

impl Pause {
    /// The first wait; each further one is twice as long.
    const LEAST: Duration = Duration::from_millis(100);
    /// The longest wait.
    const MOST: Duration = Duration::from_secs(1);
    /// How long one line in the log is enough.
    const QUIET: Duration = Duration::from_secs(5);

    /// An accept went well.
    pub(super) fn over(&mut self) {
        self.next = Self::LEAST;
    }

    /// How long to wait now.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::MOST);
        pause
    }

    /// Tells the log, unless it was told just now.
    pub(super) fn tell(&mut self, error: &io::Error) {
        if self.told.is_some_and(|told| told.elapsed() < Self::QUIET) {
            return;
        }
        self.told = Some(Instant::now());
        let hint = match Errno::from_io_error(error) {
            Some(Errno::MFILE) => "the limit of open files of this process is reached",
            Some(Errno::NFILE) => "the machine's limit of open files is reached",
            Some(Errno::NOBUFS | Errno::NOMEM) => "the kernel has no memory left",
            _ => "",
        };
        tracing::error!(%error, hint, "cannot accept connections; trying again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_start_anew_when_an_accept_went_well() {
        let mut pause = Pause::default();
        let mut next = || pause.next().as_millis();
        let pauses = [next(), next(), next(), next(), next(), next()];
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        pause.over();
        assert_eq!(pause.next().as_millis(), 100);
    }

    #[test]
    fn only_what_ends_with_the_one_connection_is_tried_again_at_once() {
        let is_passing = |errno: Errno| is_passing(&errno.into());
        assert!(is_passing(Errno::CONNABORTED) && is_passing(Errno::INTR));
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!is_passing(errno), "{errno}");
        }
    }
}
