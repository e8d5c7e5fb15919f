use std::hash::Hasher as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;
use zeroize::Zeroizing;

use crate::config::Config;

/// How often the files are looked at.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// Tells when the files of a configuration hold something new. A file that is
/// being written is not read half: two looks in a row have to agree.
///
/// Files are compared by content, because Kubernetes swaps a folder behind a
/// link, where times and inodes tell little.
pub(super) struct Watch {
    known: u64,
    last: u64,
}

/// The files of a configuration.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    config.file.iter().chain(&config.files).cloned().collect()
}

impl Watch {
    /// Watches the files of `config` from now on, if that is wanted.
    pub(super) fn wanted(config: &Config) -> Option<Self> {
        config.server.watch.then(|| Self::new(&files(config)))
    }

    pub(super) fn new(files: &[PathBuf]) -> Self {
        let known = look(files);
        Self { known, last: known }
    }

    /// Looks again: whether there is something new that has come to rest.
    pub(super) fn changed(&mut self, files: &[PathBuf]) -> bool {
        let seen = look(files);
        let at_rest = seen == self.last;
        self.last = seen;
        let changed = at_rest && seen != self.known;
        if changed {
            self.known = seen;
        }
        changed
    }
}

/// No file of a configuration is longer (bytes).
const LARGEST: u64 = 4 * 1024 * 1024;

/// A digest of what all files hold; one that cannot be read counts as its absence.
fn look(files: &[PathBuf]) -> u64 {
    let mut digest = Xxh3::new();
    for file in files {
        match content(file) {
            Ok(content) => {
                digest.write_u64(content.len() as u64);
                digest.write(&content);
            }
            Err(_) => digest.write_u64(u64::MAX),
        }
    }
    digest.finish()
}

fn content(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reading a pipe would wait for a writer, and a device may never end.
    let found = std::fs::metadata(file)?;
    if !found.is_file() || found.len() > LARGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    std::fs::read(file).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_new_counts_when_it_has_come_to_rest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookward.toml");
        let files = [file.clone()];
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(&files);
        assert!(!watch.changed(&files));

        std::fs::write(&file, "ab").unwrap();
        assert!(!watch.changed(&files), "seen once");
        std::fs::write(&file, "abc").unwrap();
        assert!(!watch.changed(&files), "still moving");
        assert!(watch.changed(&files), "at rest");
        assert!(!watch.changed(&files), "told once");

        std::fs::remove_file(&file).unwrap();
        assert!(!watch.changed(&files));
        assert!(watch.changed(&files), "its absence is new, too");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("hookward.toml");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        let (looked, has_looked) = std::sync::mpsc::channel();

        std::thread::spawn(move || looked.send(Watch::new(&[pipe]).known));

        assert!(has_looked.recv_timeout(Duration::from_secs(20)).is_ok());
    }
}
