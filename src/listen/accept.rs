use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use super::Listener;
use super::address::{Bound, SocketFile};
use super::io::Socket;

/// A connection fresh from the kernel.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    /// None over a unix socket.
    pub(super) peer: Option<IpAddr>,
}

impl Accepted {
    fn tcp(stream: TcpStream, peer: IpAddr) -> Self {
        // Answers are written whole; waiting for more would only delay them.
        // A socket that refuses is already gone, which its reader will find.
        let _ = stream.set_nodelay(true);
        Self {
            socket: Socket::Tcp(stream),
            peer: Some(peer.to_canonical()),
        }
    }

    fn unix(stream: UnixStream) -> Self {
        Self {
            socket: Socket::Unix(stream),
            peer: None,
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

    /// The next connection.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        match self {
            Acceptor::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::tcp(stream, peer.ip()))
            }
            Acceptor::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::unix(stream))
            }
        }
    }

    /// Takes what still waits in the kernel's queue, at most `room`, and closes
    /// the socket. The runtime is not asked, because it may not have heard yet
    /// of what the kernel already has.
    pub(super) fn last(self, room: usize) -> Vec<Accepted> {
        let mut last = Vec::new();
        match self {
            Acceptor::Tcp(listener) => {
                let listener = listener.into_std().into_iter();
                let accepted = listener.flat_map(|l| std::iter::from_fn(move || l.accept().ok()));
                for (stream, peer) in accepted.take(room) {
                    let stream = stream.set_nonblocking(true).map(|()| stream);
                    let stream = stream.and_then(TcpStream::from_std);
                    last.extend(stream.map(|stream| Accepted::tcp(stream, peer.ip())));
                }
            }
            Acceptor::Unix(listener, _file) => {
                let listener = listener.into_std().into_iter();
                let accepted = listener.flat_map(|l| std::iter::from_fn(move || l.accept().ok()));
                for (stream, _) in accepted.take(room) {
                    let stream = stream.set_nonblocking(true).map(|()| stream);
                    let stream = stream.and_then(UnixStream::from_std);
                    last.extend(stream.map(Accepted::unix));
                }
            }
        }
        last
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
