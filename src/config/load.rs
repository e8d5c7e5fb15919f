use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Tag, Value};
use figment::{Figment, Provider as _};

use super::document::{Document, Written};
use super::environment::Environment;
use super::{AdminConfig, Arguments, Config};
use crate::setting::{Place, Problem, Problems, Reader, SecretReader, Severity};

/// The file in the current folder.
const HERE: &str = "hookward.toml";
/// The file of the machine.
const MACHINE: &str = "/etc/hookward/hookward.toml";
/// A file longer than this is not a configuration (bytes).
const LONGEST: u64 = 4 * 1024 * 1024;

/// What a configuration is read from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file named on the command line (`--config`). `None`: that of
    /// `HOOKWARD_CONFIG`, else `./hookward.toml`, else `/etc/hookward/hookward.toml`.
    pub file: Option<PathBuf>,
    /// The environment; what it sets beats the file.
    pub environment: Environment,
    /// Whether secrets, files and certificates are read.
    pub secrets: SecretReader,
}

impl Origin {
    /// The environment of this process, and the file named on the command line, if any.
    pub fn new(file: Option<PathBuf>, secrets: SecretReader) -> Self {
        Self {
            file,
            environment: Environment::of_process(),
            secrets,
        }
    }
}

impl Config {
    /// Reads and checks the whole configuration. Opens no socket, starts nothing.
    /// With it come the warnings.
    ///
    /// # Errors
    /// Every problem found, errors before warnings.
    pub fn load(origin: &Origin) -> Result<(Self, Problems), Problems> {
        match find(origin) {
            Some(file) => match text(&file) {
                Ok(text) => parse(file, &text, origin),
                Err(problems) => Err(and_variables(problems, Document::default(), &file, origin)),
            },
            None => read(Document::default(), None, origin),
        }
    }

    /// Makes a configuration of command-line arguments, without a file. The
    /// environment still applies; `origin.file` does not.
    ///
    /// # Errors
    /// Every problem found, errors before warnings.
    pub fn from_arguments(
        arguments: &Arguments,
        origin: &Origin,
    ) -> Result<(Self, Problems), Problems> {
        read(arguments.document(), None, origin)
    }
}

impl AdminConfig {
    /// Reads `[admin]` and nothing else, for a command that asks a hookward which
    /// is running: a mistake elsewhere, which a reload refuses and serving goes
    /// on in spite of, must not make it look dead. With it comes what is wrong
    /// with `[admin]`, or with a file of which only a part can be read.
    ///
    /// # Errors
    /// When the file cannot be read at all, and no variable tells where it listens.
    pub fn load(origin: &Origin) -> Result<(Self, Problems), Problems> {
        let file = find(origin);
        let mut problems = Problems::default();
        let mut document = Document::default();
        let mut unreadable = None;
        match file.as_deref().map(|file| (file, text(file))) {
            Some((file, Ok(text))) => {
                let mistakes;
                (document, mistakes) = Document::recover(file, &text);
                if let (false, Some(Value::Dict(_, admin))) =
                    (mistakes.is_empty(), document.dict.get_mut("admin"))
                {
                    // Half of a secret is none.
                    admin.remove("token");
                }
                problems.append(mistakes);
            }
            Some((_, Err(why))) => unreadable = Some(why),
            None => {}
        }
        let Some((reader, mut dict)) = lay(document, file.as_deref(), origin, &mut problems) else {
            return Err(problems);
        };
        dict.retain(|key, _| key == "admin");
        if let Some(unreadable) = unreadable {
            let admin = dict.get("admin").and_then(Value::as_dict);
            if admin.is_none_or(|admin| !admin.contains_key("listen")) {
                return Err(unreadable);
            }
            problems.append(unreadable);
        }
        let admin = Self::read(&mut reader.document(dict).section("admin"));
        problems.append(reader.into_problems());
        Ok((admin, problems))
    }
}

/// Reads and checks the TOML `text` of `file` with the environment over it.
pub(super) fn parse(
    file: PathBuf,
    text: &str,
    origin: &Origin,
) -> Result<(Config, Problems), Problems> {
    match Document::recover(&file, text) {
        (document, problems) if problems.is_empty() => read(document, Some(file), origin),
        (recovered, problems) => Err(and_variables(problems, recovered, &file, origin)),
    }
}

/// Adds what is wrong with the variables to the `problems` of a file that cannot be
/// read. Of what the file says only as much is known as was `recovered`, so what may
/// be missing or contradict is not told: only what a variable says by itself.
fn and_variables(
    mut problems: Problems,
    recovered: Document,
    file: &Path,
    origin: &Origin,
) -> Problems {
    let Some((reader, dict)) = lay(recovered, Some(file), origin, &mut problems) else {
        return problems;
    };
    let mut said = HashSet::new();
    each("", &dict, &mut |key, _| {
        said.insert(key.to_owned());
    });
    Config::read_sections(&reader, dict, &origin.environment);
    for problem in reader.into_problems().iter() {
        if let Place::Env(variable) = &problem.place
            && (said.contains(&problem.key) || problem.key == *variable)
        {
            problems.push(problem.clone());
        }
    }
    problems.sort();
    problems
}

/// Lays the environment over `document`, and reads and checks all of it.
pub(super) fn read(
    document: Document,
    file: Option<PathBuf>,
    origin: &Origin,
) -> Result<(Config, Problems), Problems> {
    let mut problems = Problems::default();
    let Some((reader, dict)) = lay(document, file.as_deref(), origin, &mut problems) else {
        return Err(problems);
    };
    let config = Config::read(&reader, dict, file, &origin.environment);
    problems.append(reader.into_problems());
    problems.sort();
    match config {
        Some(config) if !problems.any_error() => Ok((config, problems)),
        _ => Err(problems),
    }
}

/// Lays the environment over `document`: what is to be read, and by whom.
fn lay(
    document: Document,
    file: Option<&Path>,
    origin: &Origin,
    problems: &mut Problems,
) -> Option<(Reader, Dict)> {
    let variables = origin.environment.variables(&document.dict, problems);
    let figment = Figment::from(&document);
    let figment = variables.into_iter().fold(figment, Figment::merge);
    let dict = match figment.data() {
        Ok(mut profiles) => profiles.remove(&figment::Profile::Default),
        // Our providers do not fail. Were one to, its own words could hold a value.
        Err(_) => {
            problems.push(problem("cannot be put together", file, ""));
            return None;
        }
    }
    .unwrap_or_default();

    let whole = file.map_or(Place::Nowhere, in_file);
    let places = Places::of(&dict, &figment, document.places, whole.clone());
    let base = file.and_then(Path::parent);
    let reader = Reader::new(
        base.unwrap_or(Path::new("")),
        origin.secrets,
        whole,
        move |key, _| places.find(key),
    );
    Some((reader, dict))
}

/// Which file it is; none when neither of the usual ones is there.
fn find(origin: &Origin) -> Option<PathBuf> {
    if let Some(file) = &origin.file {
        return Some(file.clone());
    }
    if let Some(file) = origin.environment.raw("HOOKWARD_CONFIG") {
        return Some(PathBuf::from(file));
    }
    let usual = [HERE, MACHINE].map(Path::new);
    let there = |file: &&Path| file.try_exists().unwrap_or(true);
    usual.into_iter().find(there).map(Path::to_owned)
}

/// The text of the file.
fn text(file: &Path) -> Result<String, Problems> {
    let bad = |message: &str, hint: &str| one(problem(message, Some(file), hint));
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            bad("is not there", "`hookward init` prints one to begin with")
        }
        kind => bad(&format!("cannot be read: {kind}"), ""),
    };
    if std::fs::metadata(file).map_err(unreadable)?.is_dir() {
        return Err(bad("is a folder", "name the file inside"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(bad("is over 4 MiB", ""));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        bad(&format!("is not UTF-8 in line {line}"), "")
    })
}

fn one(problem: Problem) -> Problems {
    let mut problems = Problems::default();
    problems.push(problem);
    problems
}

/// A problem with the file as a whole.
fn problem(message: &str, file: Option<&Path>, hint: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        key: String::new(),
        message: format!("the configuration {message}"),
        place: file.map_or(Place::Nowhere, in_file),
        hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
    }
}

fn in_file(file: &Path) -> Place {
    Place::File {
        path: file.to_owned(),
        line: None,
        column: None,
    }
}

/// Where every key of the merged document came from.
struct Places {
    whole: Place,
    keys: HashMap<String, Place>,
}

impl Places {
    /// The variable that set it where figment says that one did, else where the
    /// document has it. A table that both wrote in is told where the document
    /// has it.
    fn of(
        dict: &Dict,
        figment: &Figment,
        document: HashMap<String, Written>,
        whole: Place,
    ) -> Self {
        let variable = |tag: Tag| {
            let source = figment.get_metadata(tag)?.source.as_ref()?.custom()?;
            Some(Place::Env(source.to_owned()))
        };
        let mut keys = HashMap::new();
        each("", dict, &mut |key, value| {
            let written = document.get(key);
            let table = matches!(value, Value::Dict(..));
            let place = match (variable(value.tag()), written) {
                (Some(_), Some(written)) if table && written.table => Some(written.place.clone()),
                (Some(variable), _) => Some(variable),
                (None, written) => written.map(|written| written.place.clone()),
            };
            keys.extend(place.map(|place| (key.to_owned(), place)));
        });
        Self { whole, keys }
    }

    /// Where `key` was written, or the nearest table around it.
    fn find(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.keys.get(key) {
                return place.clone();
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return self.whole.clone(),
            }
        }
    }
}

/// Visits every value, with its key written as in the file.
fn each(at: &str, dict: &Dict, visit: &mut dyn FnMut(&str, &Value)) {
    for (name, value) in dict {
        match at {
            "" => each_of(name, value, visit),
            at => each_of(&format!("{at}.{name}"), value, visit),
        }
    }
}

fn each_of(key: &str, value: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(key, value);
    match value {
        Value::Dict(_, dict) => each(key, dict, visit),
        Value::Array(_, items) => {
            for (index, item) in items.iter().enumerate() {
                each_of(&format!("{key}[{index}]"), item, visit);
            }
        }
        _ => {}
    }
}
