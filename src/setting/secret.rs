use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Entry, Place, Setting};

/// Where a secret is kept. Safe to print: a literal shows as `(literal)`, and what may
/// be the secret, put behind `env:` or `file:` by mistake, as `(not shown)`.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `env:NAME`
    Env(String),
    /// `file:/path`, resolved against the folder of the configuration file.
    File(PathBuf),
    /// Written where the reference would be.
    Literal,
}

impl SecretSource {
    /// Reads a reference as it is written; `base` is the folder relative paths start from.
    pub fn parse(text: &str, base: &Path) -> Self {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("env:") {
            SecretSource::Env(name.trim().to_owned())
        } else if let Some(path) = text.strip_prefix("file:") {
            SecretSource::File(base.join(path.trim()))
        } else {
            SecretSource::Literal
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Env(name) => write!(f, "env:{}", shown(name)),
            SecretSource::File(path) => write!(f, "file:{}", shown_path(path)),
            SecretSource::Literal => f.write_str("(literal)"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSource({self})")
    }
}

const HIDDEN: &str = "(not shown)";

/// From so many letters in both cases on, the name of a variable may be a secret (bytes).
const RANDOM: usize = 16;
/// From so many characters on, what looks like base64 may be a key: it is that of the
/// shortest one there is, without the padding (bytes).
const BASE64: usize = 22;

fn is_key(text: &str) -> bool {
    ["whsec_", "whsk_", "whpk_"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
}

/// The name of a variable, unless it begins as a key does, is none, or is as long and
/// mixed as random letters are.
fn shown(name: &str) -> &str {
    let of_a_name = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    let has = |kind: fn(&char) -> bool| name.chars().any(|letter| kind(&letter));
    let mixed =
        name.len() >= RANDOM && has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase);
    // A long name has words, and something between them.
    let in_one =
        name.len() >= BASE64 && has(char::is_ascii_digit) && !name.contains(['_', '-', '.']);
    match is_key(name) || mixed || in_one || !name.chars().all(of_a_name) {
        true => HIDDEN,
        false => name,
    }
}

/// A key as it is told: without the parts of it that may be a secret, written where a
/// name is expected.
pub(super) fn shown_key(key: &str) -> String {
    let of_a_key = |letter: char| letter.is_ascii_alphanumeric() || "_-[] ".contains(letter);
    let has = |part: &str, kind: fn(&u8) -> bool| part.bytes().any(|byte| kind(&byte));
    let is_random = |part: &str| {
        let mixed = has(part, u8::is_ascii_lowercase) && has(part, u8::is_ascii_uppercase);
        let in_one = !part.contains(['_', '-']);
        part.len() >= BASE64 && has(part, u8::is_ascii_digit) && (mixed || in_one)
    };
    let is_credential = |part: &str| {
        let in_words = part.contains(' ');
        (in_words && has(part, u8::is_ascii_digit))
            || ["Bearer ", "Basic "]
                .iter()
                .any(|scheme| part.starts_with(scheme))
    };
    let parts = key.split('.').map(|part| {
        let hidden = is_key(part) || is_random(part) || is_credential(part);
        match hidden || !part.chars().all(of_a_key) {
            true => HIDDEN,
            false => part,
        }
    });
    parts.collect::<Vec<_>>().join(".")
}

/// A path as it is told, unless it is rather a secret that was put in its place.
pub fn shown_path(path: &Path) -> String {
    match is_no_path(path) || ends_in_base64(path) {
        true => HIDDEN.into(),
        false => path.display().to_string(),
    }
}

/// Whether the last part of a path is as long and mixed as a key without a prefix; a key
/// may hold slashes, too. Words change seldom between small letters, capitals and
/// digits, random text at two of three places.
fn ends_in_base64(path: &Path) -> bool {
    let class = |byte: u8| (byte.is_ascii_lowercase(), byte.is_ascii_uppercase());
    let random = |text: &str| {
        let bytes = text.trim_end_matches('=').as_bytes();
        let pairs = bytes.windows(2).filter(|pair| !pair.contains(&b'/'));
        let changes = pairs.filter(|pair| class(pair[0]) != class(pair[1]));
        let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
        bytes.len() >= BASE64
            && bytes.iter().all(alphabet)
            && bytes.iter().any(u8::is_ascii_uppercase)
            && bytes.iter().any(u8::is_ascii_digit)
            && changes.count() * 3 >= bytes.len()
    };
    let text = path.to_string_lossy();
    let mut ends = text.match_indices('/').map(|(at, _)| &text[at + 1..]);
    random(&text) || ends.any(random)
}

/// Whether what stands in the place of a path is rather a secret: a key, the text of a
/// PEM file, or a URL, which may hold a password.
pub(super) fn is_no_path(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let text = path.to_string_lossy();
    name.is_some_and(is_key)
        || text.contains(char::is_control)
        || text.contains("-----BEGIN")
        || text.contains("://")
}

/// A secret: where it is kept and, unless secrets were not to be read, its text
/// without white space around it. Printing or logging one shows only where it
/// is kept; the text is wiped from memory when the last copy goes.
#[derive(Clone)]
pub struct Secret {
    source: SecretSource,
    text: Option<Zeroizing<String>>,
}

/// How secrets are reached; a value of its own so that tests and `--no-secrets`
/// can say what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretReader {
    /// From the environment and the file system.
    Process,
    /// Not at all: every reference is taken as good, without its text.
    Skip,
}

/// A secret file larger than this is somebody's mistake (bytes).
const LARGEST: u64 = 64 * 1024;

impl Secret {
    /// Reads the secret that `reference` names: `env:NAME`, `file:/path` or the
    /// text itself.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence, when the variable is not set,
    /// the file cannot be read, or the text is empty or not UTF-8.
    pub fn read(reference: &str, base: &Path, reader: SecretReader) -> Result<Self, String> {
        let source = SecretSource::parse(reference, base);
        if reader == SecretReader::Skip {
            return Ok(Self { source, text: None });
        }
        let text = match &source {
            SecretSource::Env(name) => match std::env::var(name) {
                Ok(text) => Zeroizing::new(text),
                Err(std::env::VarError::NotPresent) => {
                    return Err(format!(
                        "names the environment variable `{}`, which is not set",
                        shown(name)
                    ));
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(format!(
                        "names the environment variable `{}`, which is not UTF-8",
                        shown(name)
                    ));
                }
            },
            SecretSource::File(path) => {
                let bad = |what: String| format!("names the file `{}`, {what}", shown_path(path));
                let unreadable = |error: io::Error| match error.kind() {
                    io::ErrorKind::NotFound => bad("which is not there".into()),
                    kind => bad(format!("which cannot be read: {kind}")),
                };
                // Looked at before it is opened: opening a pipe would wait for a writer.
                if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
                    return Err(bad("which is not a regular file".into()));
                }
                let mut text = Zeroizing::new(String::new());
                std::fs::File::open(path)
                    .and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
                    .map_err(unreadable)?;
                if text.len() as u64 > LARGEST {
                    return Err(bad("which is over 64 KiB".into()));
                }
                text
            }
            SecretSource::Literal => Zeroizing::new(reference.to_owned()),
        };
        let text = Zeroizing::new(text.trim().to_owned());
        if text.is_empty() {
            return Err(match &source {
                SecretSource::Literal => "is empty".into(),
                other => format!("names `{other}`, which is empty"),
            });
        }
        Ok(Self {
            source,
            text: Some(text),
        })
    }

    /// Reads the value of a key that may hold a secret and often does not, as a
    /// header: a literal is taken without a warning.
    ///
    /// # Errors
    /// As those of [`Secret::read`], and when it is not a text.
    pub fn of(entry: &Entry<'_>) -> Result<Self, String> {
        let text = Zeroizing::new(entry.text().ok_or("is not a text")?);
        let reader = entry.reader();
        if let SecretSource::File(path) = SecretSource::parse(&text, entry.base()) {
            reader.depends_on(&path);
        }
        Secret::read(&text, entry.base(), reader.secrets())
    }

    /// Where it is kept.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }

    /// Its text, or `None` when secrets were not to be read. Do not log it.
    pub fn expose(&self) -> Option<&str> {
        self.text.as_deref().map(String::as_str)
    }
}

impl PartialEq for Secret {
    /// Whether reference and text are the same; for telling what a reload
    /// changed, not for checking what a stranger sent.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.text == other.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.source)
    }
}

impl Setting for Secret {
    const FORM: &'static str = "a secret is `\"env:NAME\"`, `\"file:/path\"` or the text itself";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        let secret = Secret::of(entry)?;
        match entry.place() {
            _ if *secret.source() != SecretSource::Literal => {}
            Place::File { .. } => entry.warn(
                "holds the secret itself",
                "keep it out of the file: `\"env:NAME\"` or `\"file:/path\"`",
            ),
            Place::Argument(_) => entry.warn(
                "holds the secret itself, which the list of processes shows to every user",
                "keep it out of the command line: `env:NAME` or `file:/path`",
            ),
            Place::Env(_) | Place::Nowhere => {}
        }
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_place_of_a_name_is_not_told() {
        for name in [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "Bearer secret",
            "p4ss word",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "eyJhbGciOi-JIUzI1NiIsInR5c_CI6",
        ] {
            let key = format!("sources.clerk.secrets.{name}");
            assert_eq!(shown_key(&key), "sources.clerk.secrets.(not shown)");
        }
        for key in [
            "routes[2].to",
            "sources.A.path",
            "destinations.app.headers.not a header",
            "destinations.app.headers.X-Correlation-Id",
            "sources.the-second-of-all-our-vendors-2.secrets[0]",
        ] {
            assert_eq!(shown_key(key), key);
        }
    }

    #[test]
    fn a_secret_never_shows_its_text() {
        let base = Path::new("/");
        let secret = Secret::read("whsec_hidden", base, SecretReader::Process).unwrap();
        assert_eq!(secret.expose(), Some("whsec_hidden"));
        assert!(!format!("{secret:?}").contains("hidden"));
        assert_eq!(secret.source().to_string(), "(literal)");
    }

    #[test]
    fn a_secret_behind_env_or_file_is_not_shown_either() {
        let base = Path::new("/");
        for hidden in [
            "env:whsec_hidden",
            "env:MfKQ9r8hiddenwjUPD8ILPZIo2LaLaSw",
            "env:hidden/key=",
            "env:KEY=hidden",
            "env:MFKQ9R8HIDDENTWJUPD8ILPZIO2LALASW",
            "file:whsec_hidden",
            "file:MfKQ9r8GKyqrhiddenTwjUPD8ILPZIo2LaLaSw",
            "file:C2FVsBQ/IhrschiddenChlQIMV+b5/sSYspob7oD==",
            "file:redis://u:hidden@h/",
            "file:-----BEGIN PRIVATE KEY-----\nhidden\n-----END PRIVATE KEY-----",
        ] {
            let refused = Secret::read(hidden, base, SecretReader::Process).unwrap_err();
            let skipped = Secret::read(hidden, base, SecretReader::Skip).unwrap();
            for told in [
                refused,
                skipped.source().to_string(),
                format!("{skipped:?}"),
                format!("{:?}", skipped.source()),
            ] {
                assert!(!told.contains("hidden"), "{told}");
                assert!(told.contains("(not shown)"), "{told}");
            }
        }
        let kept = |text| SecretSource::parse(text, base).to_string();
        assert_eq!(
            kept("env:clerk-signing.secret_2"),
            "env:clerk-signing.secret_2"
        );
        for name in [
            "env:CLERK_SIGNING_SECRET",
            "env:CLERKSIGNINGSECRETPRODUCTION",
        ] {
            assert_eq!(kept(name), name);
        }
        for path in [
            "file:/run/secrets/ClerkSigningSecretOfProduction2",
            "file:/run/secrets/2026/ClerkKeys/production/Key1",
            "file:/var/lib/0f3b7a9c1d5e2f4a6b8c0d1e/key",
        ] {
            assert_eq!(kept(path), path);
        }
    }

    #[test]
    fn white_space_around_a_reference_is_dropped() {
        let base = Path::new("/");
        let kept = |text| SecretSource::parse(text, base);
        assert_eq!(kept(" env:KEY\n"), SecretSource::Env("KEY".into()));
        assert_eq!(kept("\tfile: key "), SecretSource::File("/key".into()));
    }

    #[test]
    fn white_space_around_a_secret_file_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), " abc\n\n").unwrap();
        let secret = Secret::read("file:key", dir.path(), SecretReader::Process).unwrap();
        assert_eq!(secret.expose(), Some("abc"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let base = Path::new("/");
        let missing =
            Secret::read("env:HOOKWARD_TEST_UNSET", base, SecretReader::Process).unwrap_err();
        assert!(missing.contains("`HOOKWARD_TEST_UNSET`, which is not set"));
        let missing = Secret::read("file:/no/such", base, SecretReader::Process).unwrap_err();
        assert!(missing.contains("/no/such"));
        assert!(Secret::read("env:HOOKWARD_TEST_UNSET", base, SecretReader::Skip).is_ok());
    }
}
