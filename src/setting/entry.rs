use std::path::Path;

use figment::value::{Num, Value};

use super::{Place, Problem, Reader, Section, Setting, Severity};

/// One value of the configuration: its key as written, the value, and where it
/// came from.
pub struct Entry<'a> {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) reader: &'a Reader,
}

impl<'a> Entry<'a> {
    /// The key, written as in the file: `sources.clerk.secrets[1]`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value as figment read it.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What the whole reading shares.
    pub fn reader(&self) -> &'a Reader {
        self.reader
    }

    /// Where it was written.
    pub fn place(&self) -> Place {
        (self.reader.locate)(&self.key, self.value.tag())
    }

    /// The folder a relative path in it starts from: that of the file, or the
    /// working folder for what the environment or an argument gave.
    pub fn base(&self) -> &'a Path {
        if self.is_always_text() {
            Path::new("")
        } else {
            self.reader.base()
        }
    }

    /// The value as a text, if it is one. A number or truth value given by the
    /// environment counts, because there everything is a text.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Value::String(_, text) => Some(text.clone()),
            Value::Char(_, c) => Some(c.to_string()),
            _ => None,
        }
    }

    /// The value as a whole number, if it is one (or, in the environment, its text).
    pub fn integer(&self) -> Option<i128> {
        match &self.value {
            Value::Num(_, num) if !matches!(num, Num::F32(_) | Num::F64(_)) => num
                .to_i128()
                .or_else(|| num.to_u128().and_then(|n| i128::try_from(n).ok())),
            Value::String(_, text) if self.is_always_text() => {
                text.trim().replace('_', "").parse().ok()
            }
            _ => None,
        }
    }

    /// The value as true or false, if it is one (or, in the environment, its text).
    pub fn truth(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(_, truth) => Some(*truth),
            Value::String(_, text) if self.is_always_text() => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        matches!(self.value, Value::Dict(..))
    }

    /// Reads it as a `T`, or adds a problem.
    pub fn read<T: Setting>(&self) -> Option<T> {
        match T::read(self) {
            Ok(setting) => Some(setting),
            Err(message) => {
                self.error(message, T::FORM);
                None
            }
        }
    }

    /// The entries of a list; one value is a list of itself.
    pub fn items(self) -> Vec<Entry<'a>> {
        let Entry { key, value, reader } = self;
        match value {
            Value::Array(_, values) => values
                .into_iter()
                .enumerate()
                .map(|(index, value)| Entry {
                    key: format!("{key}[{index}]"),
                    value,
                    reader,
                })
                .collect(),
            value => vec![Entry { key, value, reader }],
        }
    }

    /// Opens it as a table, or adds a problem.
    pub fn section(self) -> Option<Section<'a>> {
        let place = self.place();
        let Entry { key, value, reader } = self;
        match value {
            Value::Dict(_, dict) => Some(Section {
                key,
                dict,
                place,
                asked: Vec::new(),
                reader,
            }),
            value => {
                let entry = Entry { key, value, reader };
                entry.error("is not a table", "");
                None
            }
        }
    }

    /// Adds an error at this place. An empty `hint` is none.
    pub fn error(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.problem(Severity::Error, message.into(), hint.into());
    }

    /// Adds a warning at this place. An empty `hint` is none.
    pub fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.problem(Severity::Warning, message.into(), hint.into());
    }

    fn problem(&self, severity: Severity, message: String, hint: String) {
        self.reader.push(Problem {
            severity,
            key: self.key.clone(),
            message,
            place: self.place(),
            hint: Some(hint).filter(|hint| !hint.is_empty()),
        });
    }

    fn is_always_text(&self) -> bool {
        matches!(self.place(), Place::Env(_) | Place::Argument(_))
    }
}
