use std::fmt;
use std::path::PathBuf;

/// How much a [`Problem`] weighs: errors keep a configuration from taking over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and somebody should look.
    Warning,
}

impl Severity {
    /// The word it is printed as.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, and the line (from 1) where it is known.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
    },
    /// An environment variable, by name.
    Env(String),
    /// A command-line argument, by name.
    Argument(&'static str),
    /// Nowhere: a default, or something missing from a set-up without a file.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line: None } => write!(f, "{}", path.display()),
            Place::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Place::Env(name) => write!(f, "environment variable {name}"),
            Place::Argument(name) => write!(f, "{name}"),
            Place::Nowhere => Ok(()),
        }
    }
}

/// One thing that is wrong with a configuration: which key, what, where, and
/// the way out. It never holds a value that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it weighs.
    pub severity: Severity,
    /// The key, written as in the file: `routes[2].to`. Empty for the whole.
    pub key: String,
    /// What is wrong, as the rest of a sentence that begins with the key.
    pub message: String,
    /// Where it was written.
    pub place: Place,
    /// The way out.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity.word())?;
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        f.write_str(&self.message)?;
        if self.place != Place::Nowhere {
            write!(f, "\n  --> {}", self.place)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Every problem found in one reading, in the order of finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Whether any of them keeps the configuration from being used.
    pub fn any_error(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Those that keep the configuration from being used.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.iter().filter(|p| p.severity == Severity::Error)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    /// One after the other, an empty line between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
