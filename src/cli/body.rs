use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::print::{Complaint, Print};
use crate::setting::shown_path;

/// A body larger than this is somebody's mistake (bytes).
const LARGEST: u64 = 64 << 20;

/// Reads the body that `file` names, byte for byte; stdin for `-` and none.
pub(super) fn read(file: Option<&PathBuf>, print: &mut Print<'_>) -> Result<Bytes, Complaint> {
    match file {
        Some(path) if path.as_path() != Path::new("-") => {
            let name = shown_path(path);
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            whole(file, &name)
        }
        _ => {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                print.note("reading the body from the terminal; end it with Ctrl-D");
            }
            whole(stdin.lock(), "stdin")
        }
    }
}

fn whole(from: impl Read, name: &str) -> Result<Bytes, Complaint> {
    let mut body = Vec::new();
    from.take(LARGEST + 1)
        .read_to_end(&mut body)
        .map_err(|error| unreadable(name, &error))?;
    if body.len() as u64 > LARGEST {
        return Err(Complaint::usage(format!(
            "the body in `{name}` is over {} MiB",
            LARGEST >> 20
        )));
    }
    Ok(body.into())
}

fn unreadable(name: &str, error: &io::Error) -> Complaint {
    Complaint::usage(format!("cannot read the body from `{name}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("body");
        std::fs::write(&path, b"\xff{}\r\n\0").unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let body = read(Some(&path), &mut Print::new(&mut out, &mut err)).unwrap();
        assert_eq!(&body[..], b"\xff{}\r\n\0");
    }

    #[test]
    fn a_body_without_end_is_not_read_for_ever() {
        let refused = whole(io::repeat(b'x'), "stdin").unwrap_err();
        assert!(refused.to_string().contains("over 64 MiB"));
    }
}
