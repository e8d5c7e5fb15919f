use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use figment::value::{Dict, Empty, Map, Num, Tag, Value};
use figment::{Metadata, Profile, Provider};
use toml::de::{DeInteger, DeTable, DeValue};

use crate::setting::{Place, Problem, Problems, Severity};

/// Syntax errors told of one file: past these, one has usually led to the next.
const TOLD: usize = 10;
/// Dots in one key. The nesting of brackets is limited by the parser; that of
/// dotted keys is not, and each dot is a level to walk down.
const DEEPEST: usize = 64;

/// What was written, before the environment: its values, and where each was.
#[derive(Default)]
pub(super) struct Document {
    pub(super) dict: Dict,
    pub(super) places: HashMap<String, Written>,
}

/// Where a key was written, and whether as a table.
pub(super) struct Written {
    pub(super) place: Place,
    pub(super) table: bool,
}

impl Document {
    /// Reads the TOML `text` of the file `path`.
    #[cfg(test)]
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        match Self::recover(path, text) {
            (document, problems) if problems.is_empty() => Ok(document),
            (_, problems) => Err(problems),
        }
    }

    /// Reads the TOML `text` of the file `path`; with every syntax error, by line and
    /// column, comes what could be read in spite of them, which is not to be relied
    /// on. Never the line itself is told, which may hold a secret: the parser's
    /// `message()` is made of fixed words and the names of types, its `Display` is not.
    pub(super) fn recover(path: &Path, text: &str) -> (Self, Problems) {
        let lines = Lines::of(text);
        let told = |message: String, offset: Option<usize>| Problem {
            severity: Severity::Error,
            key: String::new(),
            message,
            place: Place::File {
                path: path.to_owned(),
                line: offset.map(|offset| lines.line(offset)),
                column: offset.map(|offset| lines.column(offset)),
            },
            hint: None,
        };
        let mut problems = Problems::default();
        if let Some(offset) = too_deep(text) {
            problems.push(told(
                "the file has a key with too many dots".into(),
                Some(offset),
            ));
            return (Self::default(), problems);
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut last = None;
        for error in errors.iter().take(TOLD) {
            let offset = error.span().map(|span| span.start);
            // One slip of the pen can be told several times over.
            let line = offset.map(|offset| lines.line(offset));
            if line.is_none() || line != last {
                let message = format!("the file is not TOML: {}", error.message());
                problems.push(told(message, offset));
            }
            last = line;
        }
        let mut reading = Reading {
            path,
            lines: &lines,
            places: HashMap::new(),
        };
        let document = Self {
            dict: reading.table("", table.into_inner()),
            places: reading.places,
        };
        (document, problems)
    }

    /// Adds a value that was given as a command-line argument.
    pub(super) fn set(&mut self, keys: &[&str], value: Value, place: Place) {
        let table = matches!(value, Value::Dict(..));
        self.places.insert(keys.join("."), Written { place, table });
        insert(&mut self.dict, keys, value);
    }
}

impl Provider for Document {
    fn metadata(&self) -> Metadata {
        Metadata::named("file")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// Reads `text` as one TOML value.
///
/// # Errors
/// When it is none. Nothing of the parser's is kept, because it quotes the text.
pub(super) fn value(text: &str) -> Result<Value, ()> {
    if too_deep(text).is_some() {
        return Err(());
    }
    let value = DeValue::parse(text).map_err(|_| ())?;
    let mut reading = Reading {
        path: Path::new(""),
        lines: &Lines::of(text),
        places: HashMap::new(),
    };
    Ok(reading.value("", value.into_inner()))
}

/// Puts `value` under the path `keys`, making the tables on the way.
pub(super) fn insert(dict: &mut Dict, keys: &[&str], value: Value) {
    let [key, rest @ ..] = keys else { return };
    if rest.is_empty() {
        dict.insert((*key).to_owned(), value);
        return;
    }
    let inner = dict
        .entry((*key).to_owned())
        .or_insert_with(|| Value::from(Dict::new()));
    if !matches!(inner, Value::Dict(..)) {
        *inner = Value::from(Dict::new());
    }
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

/// The way from the parser's tree to figment's, noting lines.
struct Reading<'a> {
    path: &'a Path,
    lines: &'a Lines,
    places: HashMap<String, Written>,
}

impl Reading<'_> {
    fn table(&mut self, at: &str, table: DeTable<'_>) -> Dict {
        table
            .into_iter()
            .map(|(name, value)| {
                let key = match at {
                    "" => name.get_ref().to_string(),
                    at => format!("{at}.{}", name.get_ref()),
                };
                self.note(&key, &name.span(), value.get_ref());
                let value = self.value(&key, value.into_inner());
                (name.into_inner().into_owned(), value)
            })
            .collect()
    }

    fn value(&mut self, at: &str, value: DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::String(Tag::Default, text.into_owned()),
            DeValue::Integer(number) => Value::Num(Tag::Default, Num::I128(whole(&number))),
            DeValue::Float(number) => {
                let number = number.as_str().parse().unwrap_or(f64::NAN);
                Value::Num(Tag::Default, Num::F64(number))
            }
            DeValue::Boolean(truth) => Value::Bool(Tag::Default, truth),
            // No key takes a date: whoever asks for anything else refuses this.
            DeValue::Datetime(_) => Value::Empty(Tag::Default, Empty::Unit),
            DeValue::Array(items) => {
                let items = items.into_iter().enumerate().map(|(index, item)| {
                    let key = format!("{at}[{index}]");
                    self.note(&key, &item.span(), item.get_ref());
                    self.value(&key, item.into_inner())
                });
                Value::Array(Tag::Default, items.collect())
            }
            DeValue::Table(table) => Value::Dict(Tag::Default, self.table(at, table)),
        }
    }

    fn note(&mut self, key: &str, span: &Range<usize>, value: &DeValue<'_>) {
        let place = Place::File {
            path: self.path.to_owned(),
            line: Some(self.lines.line(span.start)),
            column: None,
        };
        let table = matches!(value, DeValue::Table(_));
        self.places.insert(key.to_owned(), Written { place, table });
    }
}

/// The number; one that is out of any range stays so.
fn whole(number: &DeInteger<'_>) -> i128 {
    let beyond = if number.as_str().starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    };
    i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(beyond)
}

/// Where the lines of a text are.
struct Lines {
    text: String,
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            text: text.to_owned(),
            starts: std::iter::once(0)
                .chain(ends.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    /// The line of a byte, from 1.
    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The column of a byte, from 1, in characters.
    fn column(&self, offset: usize) -> usize {
        let start = self.starts[self.line(offset) - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        before.chars().count() + 1
    }
}

/// Where a key has more than [`DEEPEST`] dots, if one does.
fn too_deep(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut comment = false;
    let mut dots = 0;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (byte, quote) {
            (b'\n', _) => (quote, comment, dots) = (None, false, 0),
            _ if comment => {}
            (b'\\', Some(b'"')) => drop(bytes.next()),
            (byte, Some(open)) if byte == open => quote = None,
            (_, Some(_)) => {}
            (b'"' | b'\'', None) => quote = Some(byte),
            (b'#', None) => comment = true,
            (b'.', None) => {
                dots += 1;
                if dots > DEEPEST {
                    return Some(at);
                }
            }
            (b'=' | b',' | b'{' | b'[', None) => dots = 0,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(document: &Document, key: &str) -> Option<usize> {
        match &document.places.get(key)?.place {
            Place::File { line, .. } => *line,
            _ => None,
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "a = 1\n[b.c]\nd = [\n  'x',\n  'y',\n]\ne = { f = 1 }\n\n[[r]]\nto = 'z'\n[[r]]\nto = 'z'\n";
        let document = Document::parse(Path::new("x.toml"), text).unwrap();
        for (key, expected) in [
            ("a", 1),
            ("b.c", 2),
            ("b.c.d", 3),
            ("b.c.d[1]", 5),
            ("b.c.e.f", 7),
            ("r[0]", 9),
            ("r[1]", 11),
            ("r[1].to", 12),
        ] {
            assert_eq!(line(&document, key), Some(expected), "{key}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_told_by_line_and_column_and_without_the_line() {
        let text = "[a]\nb = \"ok\"\nsecret = whsec_HUSH\n";
        let told = Document::parse(Path::new("x.toml"), text).err().unwrap();
        let told = told.to_string();
        assert!(told.contains("  --> x.toml:3:10"), "{told}");
        assert!(!told.contains("HUSH"), "{told}");
    }

    #[test]
    fn every_line_with_a_slip_is_told() {
        let text = "a = \nb = 1\nc = 'x\nd = 2\nd = 3\n";
        let told = Document::parse(Path::new("x.toml"), text).err().unwrap();
        let told = told.to_string();
        for place in ["x.toml:1:", "x.toml:3:", "x.toml:5:"] {
            assert!(told.contains(place), "{place} in:\n{told}");
        }
    }

    #[test]
    fn depth_is_limited_without_a_stack() {
        let dotted = format!("{}b = 1", "a.".repeat(1_000_000));
        assert!(Document::parse(Path::new("x.toml"), &dotted).is_err());
        let nested = format!("a = {}", "[".repeat(1_000_000));
        assert!(Document::parse(Path::new("x.toml"), &nested).is_err());
        let networks = format!("a = [{}]", "'10.0.0.0/8', ".repeat(1_000));
        assert!(Document::parse(Path::new("x.toml"), &networks).is_ok());
    }
}
