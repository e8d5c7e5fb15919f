use std::fmt;
use std::path::PathBuf;

use super::Escaped;

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
        /// The column, from 1, in characters; only told where the file cannot be read as TOML.
        column: Option<usize>,
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
            Place::File { path, line, column } => {
                write!(f, "{}", path.display())?;
                for number in [line, column].into_iter().map_while(|number| *number) {
                    write!(f, ":{number}")?;
                }
                Ok(())
            }
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
            write!(f, "`{}` ", Escaped(&self.key))?;
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

impl serde::Serialize for Problem {
    /// The same parts that are printed, each a text; `place` and `hint` may be null.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let place = Some(&self.place).filter(|place| **place != Place::Nowhere);
        let mut parts = serializer.serialize_struct("Problem", 5)?;
        parts.serialize_field("severity", self.severity.word())?;
        parts.serialize_field("key", &self.key)?;
        parts.serialize_field("message", &self.message)?;
        parts.serialize_field("place", &place.map(ToString::to_string))?;
        parts.serialize_field("hint", &self.hint)?;
        parts.end()
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

    /// Puts errors before warnings, and each of the two in the order of the
    /// file; what was not written in a file comes last.
    pub fn sort(&mut self) {
        self.0.sort_by_key(|problem| {
            let line = match &problem.place {
                Place::File { line, column, .. } => (0, *line, *column),
                _ => (1, None, None),
            };
            (problem.severity == Severity::Warning, line)
        });
    }

    /// Takes over every problem of another reading.
    pub fn append(&mut self, mut other: Problems) {
        self.0.append(&mut other.0);
    }

    /// What came about, or `None` and every problem taken over.
    pub fn keep<T>(&mut self, result: Result<T, Problems>) -> Option<T> {
        result.map_err(|problems| self.append(problems)).ok()
    }

    /// Whether any of them keeps the configuration from being used.
    pub fn any_error(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Those that keep the configuration from being used.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.iter().filter(|p| p.severity == Severity::Error)
    }

    /// Those that only want to be looked at.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.iter().filter(|p| p.severity == Severity::Warning)
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

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(severity: Severity, key: &str, line: Option<usize>) -> Problem {
        Problem {
            severity,
            key: key.into(),
            message: "is wrong".into(),
            place: Place::File {
                path: "a.toml".into(),
                line,
                column: None,
            },
            hint: None,
        }
    }

    #[test]
    fn a_key_cannot_draw_a_problem_of_its_own() {
        let told = problem(Severity::Error, "a\nerror: b", None).to_string();
        assert_eq!(told, "error: `a\\nerror: b` is wrong\n  --> a.toml");
    }

    #[test]
    fn errors_come_first_and_in_the_order_of_the_file() {
        let mut problems = Problems::default();
        for (severity, key, line) in [
            (Severity::Warning, "w1", Some(1)),
            (Severity::Error, "e9", Some(9)),
            (Severity::Error, "e2", Some(2)),
        ] {
            problems.push(problem(severity, key, line));
        }
        problems.sort();
        let order: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(order, ["e2", "e9", "w1"]);
    }
}
