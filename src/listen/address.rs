use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::setting::{Entry, Setting};

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The kernel keeps the path of a unix socket in 108 bytes, with a zero at its end.
const LONGEST_PATH: usize = 107;

impl Setting for Address {
    const FORM: &'static str =
        "an address and a port, as in `\"0.0.0.0:8080\"`, or `\"unix:/path\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        let text = entry.text().ok_or("is not an address")?;
        match text.trim().strip_prefix("unix:") {
            None => text
                .trim()
                .parse()
                .map(Address::Tcp)
                .map_err(|_| "is neither an address and a port nor a unix socket".into()),
            Some("") => Err("names a unix socket without a path".into()),
            Some(path) => {
                let path = entry.base().join(path);
                if path.as_os_str().len() > LONGEST_PATH {
                    return Err("names a unix socket whose path is over 107 bytes".into());
                }
                Ok(Address::Unix(path))
            }
        }
    }
}

/// Connections the kernel completes for us before they are accepted.
const BACKLOG: i32 = 4096;

/// A bound socket, on which connections wait until [`serve`](super::serve).
pub struct Listener {
    pub(super) socket: Bound,
}

pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl Listener {
    /// Binds and listens; no runtime is needed yet. A unix socket that nobody
    /// answers on is replaced; its mode is 0660, and it is removed at the end.
    ///
    /// # Errors
    /// When it cannot; the error's text names the address and the cause.
    pub fn bind(address: &Address) -> io::Result<Self> {
        let bound = match address {
            Address::Tcp(at) => bind_tcp(*at).map(Bound::Tcp),
            Address::Unix(path) => bind_unix(path),
        };
        match bound {
            Ok(socket) => Ok(Self { socket }),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("cannot listen on {address}: {}", cause(&error)),
            )),
        }
    }

    /// Where it is bound, as [`Address`] is written: `127.0.0.1:8080` (with the
    /// port that was found for port 0), or `unix:/path`.
    pub fn local(&self) -> String {
        match &self.socket {
            Bound::Tcp(listener) => match listener.local_addr() {
                Ok(address) => Address::Tcp(address).to_string(),
                Err(error) => format!("unknown ({})", error.kind()),
            },
            Bound::Unix(_, file) => Address::Unix(file.path.clone()).to_string(),
        }
    }
}

/// The cause in words, without the system's number.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse if error.raw_os_error().is_some() => {
            "something else listens there".into()
        }
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".into(),
        _ => error.to_string(),
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of a process before us may still be closing.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<Bound> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    // Before listening: until then nobody can connect, whatever the umask is.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(Bound::Unix(socket.into(), file))
}

/// Removes a socket that nobody answers on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let other = |text| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return other("there is a file that is not a socket");
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One whose queue is full would make a blocking connect wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => other("something else listens there"),
    }
}

/// The file of a unix socket; dropping it removes the file, unless another
/// process has put its own there since.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Nothing is left to do about one that cannot be removed.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &Address) -> String {
        Listener::bind(address).err().unwrap().to_string()
    }

    #[test]
    fn port_0_is_bound_and_told() {
        let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let at: SocketAddr = listener.local().parse().unwrap();
        assert_ne!(at.port(), 0);
        let told = refusal(&Address::Tcp(at));
        assert_eq!(
            told,
            format!("cannot listen on {at}: something else listens there")
        );
    }

    #[test]
    fn a_unix_socket_is_for_owner_and_group_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        assert_eq!(listener.local(), format!("unix:{}", path.display()));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn only_a_socket_that_nobody_answers_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::Unix(dir.path().join("in"));
        let Address::Unix(path) = &address else {
            unreachable!()
        };
        let other = std::os::unix::net::UnixListener::bind(path).unwrap();
        assert!(refusal(&address).ends_with("/in: something else listens there"));
        drop(other);
        let listener = Listener::bind(&address).unwrap();

        // A process that took our place keeps its socket.
        std::fs::remove_file(path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(path).unwrap();
        drop(listener);
        assert!(path.exists());

        std::fs::remove_file(path).unwrap();
        std::fs::write(path, "precious").unwrap();
        assert!(refusal(&address).ends_with("there is a file that is not a socket"));
        assert_eq!(std::fs::read(path).unwrap(), b"precious");
    }
}
