use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::check::Whole;
use crate::deliver::{FileConfig, KindConfig};
use crate::setting::SecretReader;

/// Checks that there is a place on this machine's disk for what is to be written: that
/// a start, which makes files there, would not be the first to find it missing.
pub(super) fn check(whole: &Whole<'_>) {
    if whole.reader.secrets() == SecretReader::Skip {
        return;
    }
    for destination in whole.destinations() {
        if let KindConfig::File(FileConfig::Path(path)) = &destination.kind {
            file(
                whole,
                &format!("destinations.{}.path", destination.name),
                path,
            );
        }
    }
    if let Some(journal) = whole.ledger.and_then(|ledger| ledger.journal.as_deref()) {
        folder(whole, "ledger.journal", journal);
    }
}

/// A file that is written, and made where it is not there.
fn file(whole: &Whole<'_>, key: &str, path: &Path) {
    match fs::metadata(path).map(|found| found.file_type()) {
        Ok(found) if found.is_dir() => {
            let hint = "name a file in it, as in `\"FOLDER/events.jsonl\"`";
            whole.reader.error(key, "is a folder", hint);
        }
        Ok(found) if found.is_fifo() => {
            let hint = "name a file, or `\"-\"` for stdout: a pipe cannot be synced";
            whole.reader.error(key, "is a pipe", hint);
        }
        _ => parent(whole, key, path, "hookward makes the file, not its folder"),
    }
}

/// A folder that is made where it is not there.
fn folder(whole: &Whole<'_>, key: &str, path: &Path) {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => whole.reader.error(
            key,
            "is a file, and wants to be a folder",
            "name a folder of its own: hookward makes it where it is not there",
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            parent(
                whole,
                key,
                path,
                "hookward makes the last folder, not those before it",
            );
        }
        // What may not be looked at may still be used by who runs it.
        _ => {}
    }
}

fn parent(whole: &Whole<'_>, key: &str, path: &Path, hint: &str) {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => return,
    };
    let message = match fs::metadata(parent) {
        Ok(found) if found.is_dir() => return,
        Ok(_) => format!("is in `{}`, which is a file", parent.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            format!("is in `{}`, which is not there", parent.display())
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            format!("is in `{}`, part of which is a file", parent.display())
        }
        Err(_) => return,
    };
    whole.reader.error(key, message, hint);
}
