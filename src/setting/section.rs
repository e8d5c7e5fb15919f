use std::cell::RefCell;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Num, Tag, Value};

use super::{Name, Place, Problem, Problems, SecretReader, Setting, Severity};

/// Says where the value of a key came from: the key as written, and figment's tag.
type Locate = Box<dyn Fn(&str, Tag) -> Place>;

/// What a reading of one configuration shares: where values were written, where
/// relative paths start, whether secrets are read, and the problems so far.
pub struct Reader {
    base: PathBuf,
    secrets: SecretReader,
    locate: Locate,
    whole: Place,
    problems: RefCell<Problems>,
    files: RefCell<Vec<PathBuf>>,
}

impl Reader {
    /// A reading whose relative paths start at `base`, and whose document as a
    /// whole was written at `whole`; `locate` tells where a single key was.
    pub fn new(
        base: impl Into<PathBuf>,
        secrets: SecretReader,
        whole: Place,
        locate: impl Fn(&str, Tag) -> Place + 'static,
    ) -> Self {
        Self {
            base: base.into(),
            secrets,
            locate: Box::new(locate),
            whole,
            problems: RefCell::default(),
            files: RefCell::default(),
        }
    }

    /// The folder relative paths start from.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Whether secrets, files and certificates are read.
    pub fn secrets(&self) -> SecretReader {
        self.secrets
    }

    /// Opens the document for reading.
    pub fn document(&self, dict: Dict) -> Section<'_> {
        Section {
            key: String::new(),
            dict,
            place: self.whole.clone(),
            asked: Vec::new(),
            reader: self,
        }
    }

    /// Adds a problem.
    pub fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Whether a problem that keeps the configuration from being used was found.
    pub fn any_error(&self) -> bool {
        self.problems.borrow().any_error()
    }

    /// Adds an error about a key that is no longer at hand. An empty `hint` is none.
    pub fn error(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problem(Severity::Error, key, message.into(), hint.into());
    }

    /// Adds a warning about a key that is no longer at hand. An empty `hint` is none.
    pub fn warn(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problem(Severity::Warning, key, message.into(), hint.into());
    }

    fn problem(&self, severity: Severity, key: &str, message: String, hint: String) {
        self.push(Problem {
            severity,
            key: key.to_owned(),
            message,
            place: (self.locate)(key, Tag::Default),
            hint: Some(hint).filter(|hint| !hint.is_empty()),
        });
    }

    /// Notes a file whose content belongs to the configuration (a secret, a
    /// certificate), so that `server.watch` looks at it too.
    pub fn depends_on(&self, path: &Path) {
        let mut files = self.files.borrow_mut();
        if !files.iter().any(|known| known == path) {
            files.push(path.to_owned());
        }
    }

    /// The files noted so far.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.borrow().clone()
    }

    /// Ends the reading: every problem found.
    pub fn into_problems(self) -> Problems {
        self.problems.into_inner()
    }
}

/// One value of the configuration: its key as written, the value, and where it
/// came from.
pub struct Entry<'a> {
    key: String,
    value: Value,
    reader: &'a Reader,
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

/// One table of the configuration while it is read. Keys that were never asked
/// for are reported when it is dropped, so no reader can forget to.
pub struct Section<'a> {
    key: String,
    dict: Dict,
    place: Place,
    asked: Vec<&'static str>,
    reader: &'a Reader,
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
    /// Keys that are not names are reported.
    pub fn named(&mut self, key: &'static str) -> Vec<(Name, Section<'a>)> {
        let mut outer = self.section(key);
        std::mem::take(&mut outer.dict)
            .into_iter()
            .filter_map(|(name, value)| {
                let entry = Entry {
                    key: outer.key_of(&name),
                    value,
                    reader: outer.reader,
                };
                let Some(name) = Name::parse(&name) else {
                    entry.error("is not named as it may be", Name::FORM);
                    return None;
                };
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
    use super::*;
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
