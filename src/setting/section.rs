use figment::value::Dict;

use super::{Entry, Name, Place, Problem, Reader, Setting, Severity};

/// One table of the configuration while it is read. Keys that were never asked
/// for are reported when it is dropped, so no reader can forget to.
pub struct Section<'a> {
    pub(super) key: String,
    pub(super) dict: Dict,
    pub(super) place: Place,
    pub(super) asked: Vec<&'static str>,
    pub(super) reader: &'a Reader,
}

impl<'a> Section<'a> {
    /// The key of the table itself, written as in the file. Empty for the document.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the whole reading shares.
    pub fn reader(&self) -> &'a Reader {
        self.reader
    }

    /// The full key of `key` inside this table.
    pub fn key_of(&self, key: &str) -> String {
        if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }

    /// Takes a value out, whatever it is.
    pub fn entry(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        let value = self.dict.remove(key)?;
        Some(Entry {
            key: self.key_of(key),
            value,
            reader: self.reader,
        })
    }

    /// Reads a value that may be left out. `None` when it is not there, or is
    /// not a `T` (a problem is added).
    pub fn get<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.entry(key)?.read()
    }

    /// Reads a value, or takes the default.
    pub fn get_or<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// Reads a value that must be there.
    pub fn require<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        match self.entry(key) {
            Some(entry) => entry.read(),
            None => {
                self.missing(key, T::FORM);
                None
            }
        }
    }

    /// Reads a list; one value is a list of itself; empty when it is not there.
    /// Items that are not a `T` are left out, each with its problem.
    pub fn list<T: Setting>(&mut self, key: &'static str) -> Vec<T> {
        self.items(key).iter().filter_map(Entry::read).collect()
    }

    /// The entries of a list; one value is a list of itself; empty when it is not there.
    pub fn items(&mut self, key: &'static str) -> Vec<Entry<'a>> {
        self.entry(key).map(Entry::items).unwrap_or_default()
    }

    /// Opens a table inside; an empty one when it is not there.
    pub fn section(&mut self, key: &'static str) -> Section<'a> {
        match self.entry(key).and_then(Entry::section) {
            Some(section) => section,
            None => Section {
                key: self.key_of(key),
                dict: Dict::new(),
                place: self.place.clone(),
                asked: Vec::new(),
                reader: self.reader,
            },
        }
    }

    /// Opens every table of a table of named ones, in the order of the names.
    /// A key that is not a name is reported, and its table comes without one: what
    /// is wrong inside of it is to be told too.
    pub fn named(&mut self, key: &'static str) -> Vec<(Option<Name>, Section<'a>)> {
        let mut outer = self.section(key);
        std::mem::take(&mut outer.dict)
            .into_iter()
            .filter_map(|(name, value)| {
                let entry = Entry {
                    key: outer.key_of(&name),
                    value,
                    reader: outer.reader,
                };
                let name = Name::parse(&name);
                if name.is_none() {
                    entry.error("is not named as it may be", Name::FORM);
                }
                Some((name, entry.section()?))
            })
            .collect()
    }

    /// Takes every value that was not asked for, with its key: for tables whose
    /// keys are the user's own, as in `headers`.
    pub fn rest(&mut self) -> Vec<(String, Entry<'a>)> {
        std::mem::take(&mut self.dict)
            .into_iter()
            .map(|(key, value)| {
                let entry = Entry {
                    key: self.key_of(&key),
                    value,
                    reader: self.reader,
                };
                (key, entry)
            })
            .collect()
    }

    /// Adds the error that `key` is missing.
    pub fn missing(&self, key: &str, hint: impl Into<String>) {
        self.reader.push(Problem {
            severity: Severity::Error,
            key: self.key_of(key),
            message: "is missing".into(),
            place: self.place.clone(),
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
        });
    }

    /// Adds an error about the table as a whole. An empty `hint` is none.
    pub fn error(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.problem(Severity::Error, message.into(), hint.into());
    }

    /// Adds a warning about the table as a whole. An empty `hint` is none.
    pub fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.problem(Severity::Warning, message.into(), hint.into());
    }

    fn problem(&self, severity: Severity, message: String, hint: String) {
        self.reader.push(Problem {
            severity,
            key: self.key.clone(),
            message,
            place: self.place.clone(),
            hint: Some(hint).filter(|hint| !hint.is_empty()),
        });
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for (key, value) in std::mem::take(&mut self.dict) {
            let hint = match nearest(&key, &self.asked) {
                Some(known) => format!("did you mean `{known}`?"),
                None if self.asked.is_empty() => String::new(),
                None => {
                    let mut known = self.asked.clone();
                    known.sort_unstable();
                    known.dedup();
                    format!("known here: `{}`", known.join("`, `"))
                }
            };
            let entry = Entry {
                key: self.key_of(&key),
                value,
                reader: self.reader,
            };
            entry.error("is not a key hookward knows", hint);
        }
    }
}

/// The known key closest to a mistyped one, if any is close.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|known| (distance(key, known), *known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein's distance, in bytes; keys are short.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate().take(64) {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use figment::value::Value;

    use super::*;
    use crate::setting::SecretReader;
    use std::time::Duration;

    fn read(text: &str, ask: impl FnOnce(Section<'_>)) -> String {
        let value: toml::Table = text.parse().unwrap();
        let dict = Value::serialize(&value).unwrap().into_dict().unwrap();
        let reader = Reader::new("/etc", SecretReader::Skip, Place::Nowhere, |_, _| {
            Place::Nowhere
        });
        ask(reader.document(dict));
        reader.into_problems().to_string()
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let told = read(
            "max_bodi = 1\nidle = 'soon'\n[sources.A]\n[sources.b]\n",
            |mut document| {
                document.get::<u64>("max_body");
                document.get::<Duration>("idle");
                for (_, mut source) in document.named("sources") {
                    source.require::<String>("path");
                }
            },
        );
        for expected in [
            "`idle` is not a duration",
            "`sources.A` is not named as it may be",
            "`sources.A.path` is missing",
            "`sources.b.path` is missing",
            "`max_bodi` is not a key hookward knows\nhint: did you mean `max_body`?",
        ] {
            assert!(told.contains(expected), "{expected} in:\n{told}");
        }
        assert!(!told.contains("soon"));
    }

    #[test]
    fn a_list_also_takes_one_value() {
        read("one = 'a'\nmany = ['a', 'b']\n", |mut document| {
            assert_eq!(document.list::<String>("one"), ["a"]);
            assert_eq!(document.list::<String>("many"), ["a", "b"]);
            assert!(document.list::<String>("none").is_empty());
        });
    }
}
