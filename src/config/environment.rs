use std::collections::BTreeMap;
use std::ffi::OsString;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Metadata, Profile, Provider};

use super::document;
use crate::setting::{Place, Problem, Problems, Severity};

const PREFIX: &str = "HOOKWARD_";
/// A value longer than this is somebody's mistake (bytes). Linux gives up at 128 KiB.
const LONGEST: usize = 128 * 1024;

/// The environment a configuration is read with. A value of its own, so that a
/// test can say what there is.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The text of one variable, if it is set and not empty.
    ///
    /// # Errors
    /// When it is not UTF-8, as a problem that names it.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Box<Problem>> {
        match self.0.get(&OsString::from(name)) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
                None => Err(about(name, "is not UTF-8", "")),
            },
        }
    }

    /// The variable as the system has it, for paths.
    pub(super) fn raw(&self, name: &str) -> Option<&OsString> {
        self.0
            .get(&OsString::from(name))
            .filter(|value| !value.is_empty())
    }

    /// Every variable that is configuration, to be laid over what `file` says.
    pub(super) fn variables(&self, file: &Dict, problems: &mut Problems) -> Vec<Variable> {
        let mut found: Vec<Variable> = Vec::new();
        for (name, value) in &self.0 {
            let shown = name.to_string_lossy();
            let Some(key) = shown.strip_prefix(PREFIX).filter(|key| key.contains("__")) else {
                continue;
            };
            let read = match (name.to_str(), value.to_str()) {
                (None, _) => Err(about(&shown, "has a name that is not UTF-8", "")),
                (_, None) => Err(about(&shown, "is not UTF-8", "")),
                (_, Some(text)) => Variable::read(&shown, key, text, file),
            };
            match read {
                Ok(variable) => match found.iter().find(|other| other.keys == variable.keys) {
                    Some(other) => problems.push(*about(
                        &shown,
                        &format!("sets the same key as `{}`", other.name),
                        "keep one of the two",
                    )),
                    None => found.push(variable),
                },
                Err(problem) => problems.push(*problem),
            }
        }
        found
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter();
        Self(variables.map(|(n, v)| (n.into(), v.into())).collect())
    }
}

/// One variable that is configuration.
pub(super) struct Variable {
    name: String,
    keys: Vec<String>,
    value: Value,
}

impl Variable {
    fn read(name: &str, key: &str, text: &str, file: &Dict) -> Result<Self, Box<Problem>> {
        let parts: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
        if parts.iter().any(String::is_empty) {
            return Err(about(
                name,
                "names no key: a part of it is empty",
                "as in `HOOKWARD_SERVER__LISTEN`, `HOOKWARD_SOURCES__CLERK__PATH`",
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            keys: reach(name, &parts, file)?,
            value: value(name, text)?,
        })
    }
}

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment").source(self.name.as_str())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        let mut dict = Dict::new();
        document::insert(&mut dict, &keys, self.value.clone());
        Ok(Profile::Default.collect(dict))
    }
}

/// The keys that `parts` name: those the file has, where it has them with `-`
/// for `_` or in capitals; else as they are, and headers with `-`.
fn reach(name: &str, parts: &[String], file: &Dict) -> Result<Vec<String>, Box<Problem>> {
    const WHOLE: &str = "a list is set as a whole, as in `[\"a\", \"b\"]`";
    if parts[0] == "routes" {
        return Err(about(
            name,
            "sets a route, which the environment cannot",
            "write routes in the file, or `HOOKWARD_SOURCES__NAME__TO` for every event of a source",
        ));
    }
    let mut keys: Vec<String> = Vec::with_capacity(parts.len());
    let mut table = Some(file);
    for (index, part) in parts.iter().enumerate() {
        let known = table.into_iter().flat_map(|table| table.keys());
        let known: Vec<&String> = known.filter(|key| spelt(key) == *part).collect();
        let key = match known.as_slice() {
            [] if is_header(&keys) => part.replace('_', "-"),
            [] => part.clone(),
            [one] => (*one).clone(),
            [one, other, ..] => {
                let known = [one, other].map(|key| format!("`{}{key}`", path(&keys)));
                return Err(about(
                    name,
                    &format!("names {} as well as {}", known[0], known[1]),
                    "change them in the file, or give them names that differ in more than `-` and `_`",
                ));
            }
        };
        let inner = table.and_then(|table| table.get(&key));
        keys.push(key);
        table = match inner {
            Some(Value::Dict(_, table)) => Some(table),
            Some(Value::Array(..)) if index + 1 < parts.len() => {
                let message = format!("reaches into `{}`, which is a list", keys.join("."));
                return Err(about(name, &message, WHOLE));
            }
            _ => None,
        };
    }
    Ok(keys)
}

/// Whether what comes behind these keys is the name of a header.
fn is_header(keys: &[String]) -> bool {
    matches!(keys, [destinations, _, headers] if destinations == "destinations" && headers == "headers")
}

fn spelt(key: &str) -> String {
    key.to_ascii_lowercase().replace('-', "_")
}

fn path(keys: &[String]) -> String {
    keys.iter().map(|key| format!("{key}.")).collect()
}

/// A text; or a list, a table or a quoted text, written as in TOML.
fn value(name: &str, text: &str) -> Result<Value, Box<Problem>> {
    const FORM: &str = "what begins with `[`, `{` or a quote is read as in the file: `[\"a\", \"b\"]`, `{ cert = \"…\" }`; put quotes around a text that begins so";
    if text.len() > LONGEST {
        return Err(about(name, "is over 128 KiB", ""));
    }
    if text.trim_start().starts_with(['[', '{', '"', '\'']) {
        return document::value(text.trim())
            .map_err(|()| about(name, "is not a value as TOML has them", FORM));
    }
    Ok(Value::String(Tag::Default, text.to_owned()))
}

/// A problem with a variable as such. Never its value.
pub(super) fn about(name: &str, message: &str, hint: &str) -> Box<Problem> {
    Box::new(Problem {
        severity: Severity::Error,
        key: name.to_owned(),
        message: message.to_owned(),
        place: Place::Env(name.to_owned()),
        hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
    })
}
