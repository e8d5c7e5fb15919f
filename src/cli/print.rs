use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::setting::Problems;

/// The only place that prints: data goes to stdout, all else to stderr.
///
/// A reader of stdout that goes away (`hookward … | head`) ends the printing
/// quietly; any other trouble with stdout is told at the end, because a script
/// would take what it got for the whole.
pub(super) struct Print<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    lost: Option<io::Error>,
}

/// How a command ended, for the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: ok.
    Yes,
    /// 1: it could not start, or the answer is no.
    No,
    /// 64: bad usage or configuration (`EX_USAGE` of sysexits).
    Usage,
}

impl Exit {
    /// The number the shell sees.
    pub(super) fn code(self) -> u8 {
        match self {
            Exit::Yes => 0,
            Exit::No => 1,
            Exit::Usage => 64,
        }
    }

    /// [`Exit::Yes`] or [`Exit::No`].
    pub(super) fn answer(yes: bool) -> Self {
        if yes { Exit::Yes } else { Exit::No }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command cannot go on: what is wrong, the way out, and how it exits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    told: String,
    hint: Option<String>,
    exit: Exit,
}

impl Complaint {
    /// Bad usage or configuration.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            told: format!("error: {}", message.into()),
            hint: None,
            exit: Exit::Usage,
        }
    }

    /// The thing asked for did not come about.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::No,
            ..Self::usage(message)
        }
    }

    /// Adds the way out.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same, because of which it could not start.
    pub(super) fn at_start(self) -> Self {
        Self {
            exit: Exit::No,
            ..self
        }
    }

    /// How the command exits.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }
}

impl From<Problems> for Complaint {
    /// A configuration that cannot be used; each of its problems has its own hint.
    fn from(problems: Problems) -> Self {
        Self {
            told: problems.to_string(),
            hint: None,
            exit: Exit::Usage,
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl<'a> Print<'a> {
    /// Prints data to `out` and everything else to `err`.
    pub(super) fn new(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self {
            out,
            err,
            lost: None,
        }
    }

    /// One line, or several, of data.
    pub(super) fn data(&mut self, text: impl fmt::Display) {
        if self.lost.is_none() {
            self.lost = writeln!(self.out, "{text}")
                .and_then(|()| self.out.flush())
                .err();
        }
    }

    /// Something for the person at the terminal. Nobody can be told when that fails.
    pub(super) fn note(&mut self, text: impl fmt::Display) {
        let _ = writeln!(self.err, "{text}");
    }

    /// Problems of a configuration, an empty line between them.
    pub(super) fn problems(&mut self, problems: &Problems) {
        if !problems.is_empty() {
            self.note(problems);
        }
    }

    /// Whether nobody reads the data any more, so that there is no point in going on.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Ends the command: tells why it could not go on, or that its data was not written whole.
    pub(super) fn end(mut self, outcome: Result<Exit, Complaint>) -> Exit {
        match (outcome, self.lost.take()) {
            (Err(complaint), _) => {
                self.note(&complaint);
                complaint.exit()
            }
            (Ok(exit), Some(lost)) if lost.kind() != io::ErrorKind::BrokenPipe => {
                self.note(Complaint::failed(format!("cannot write to stdout: {lost}")));
                match exit {
                    Exit::Yes => Exit::No,
                    other => other,
                }
            }
            (Ok(exit), _) => exit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ended(kind: io::ErrorKind) -> (Exit, String) {
        let (mut out, mut err) = (Failing(kind), Vec::new());
        let mut print = Print::new(&mut out, &mut err);
        print.data("one");
        assert!(print.is_lost());
        let exit = print.end(Ok(Exit::Yes));
        (exit, String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_printing_quietly() {
        assert_eq!(ended(io::ErrorKind::BrokenPipe), (Exit::Yes, String::new()));
    }

    #[test]
    fn data_that_could_not_be_written_is_told_and_is_no_success() {
        let (exit, told) = ended(io::ErrorKind::StorageFull);
        assert_eq!(exit, Exit::No);
        assert!(
            told.starts_with("error: cannot write to stdout: "),
            "{told}"
        );
    }

    #[test]
    fn a_complaint_is_told_with_its_hint_and_exit_code() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let complaint = Complaint::usage("`--id` is not an id").hint("use another");
        let exit = Print::new(&mut out, &mut err).end(Err(complaint));
        assert_eq!(exit.code(), 64);
        assert_eq!(err, b"error: `--id` is not an id\nhint: use another\n");
        assert!(out.is_empty());
    }
}
