use std::cell::RefCell;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Tag};

use super::secret::shown_key;
use super::{Place, Problem, Problems, SecretReader, Section, Severity};

/// Says where the value of a key came from: the key as written, and figment's tag.
type Locate = Box<dyn Fn(&str, Tag) -> Place>;

/// What a reading of one configuration shares: where values were written, where
/// relative paths start, whether secrets are read, and the problems so far.
pub struct Reader {
    pub(super) base: PathBuf,
    pub(super) secrets: SecretReader,
    pub(super) locate: Locate,
    pub(super) whole: Place,
    pub(super) problems: RefCell<Problems>,
    pub(super) files: RefCell<Vec<PathBuf>>,
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

    /// Adds a problem, of whose key nothing is told that may be a secret.
    pub fn push(&self, mut problem: Problem) {
        problem.key = shown_key(&problem.key);
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
