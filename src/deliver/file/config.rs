use std::fmt;
use std::path::PathBuf;

use crate::setting::Section;

/// A file destination as it was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileConfig {
    /// `"-"`
    Stdout,
    /// A file; created when it is missing.
    Path(PathBuf),
}

impl FileConfig {
    pub(in crate::deliver) fn read(section: &mut Section<'_>) -> Option<Self> {
        let Some(entry) = section.entry("path") else {
            section.missing("path", "a path, or `\"-\"` for stdout");
            return None;
        };
        if entry.text().as_deref() == Some("-") {
            return Some(FileConfig::Stdout);
        }
        entry.read().map(FileConfig::Path)
    }
}

impl fmt::Display for FileConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileConfig::Stdout => f.write_str("-"),
            FileConfig::Path(path) => path.display().fmt(f),
        }
    }
}
