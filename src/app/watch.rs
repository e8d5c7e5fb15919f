use std::hash::Hasher as _;
use std::path::PathBuf;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

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

impl Watch {
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

/// A digest of what all files hold; one that cannot be read counts as its absence.
fn look(files: &[PathBuf]) -> u64 {
    let mut digest = Xxh3::new();
    for file in files {
        match std::fs::read(file) {
            Ok(content) => {
                digest.write_u64(content.len() as u64);
                digest.write(&content);
            }
            Err(_) => digest.write_u64(u64::MAX),
        }
    }
    digest.finish()
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
}
