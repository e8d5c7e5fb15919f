use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use figment::value::Value;

use crate::key::{self, KeyProblem, SigningKey};
use crate::setting::{Entry, Name, OffOr, Secret, SecretSource, Section, Setting};

/// How a source verifies: `secrets`, `tolerance` and `future_tolerance` of
/// `[sources.NAME]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyConfig {
    /// With which keys.
    pub keys: VerifyKeys,
    /// How long ago a message may have been signed; off for any time ago.
    pub tolerance: OffOr<Duration>,
    /// How far ahead of our clock it may have been signed.
    pub future_tolerance: Duration,
}

/// The keys of a source. A source without any has to say so in a word that
/// nobody writes by mistake.
#[derive(Clone, Debug, PartialEq)]
pub enum VerifyKeys {
    /// None: everything is taken, from anybody.
    DangerouslyUnverified,
    /// These, in the order in which they are tried. At least one.
    Keys(Vec<NamedKey>),
}

/// A key with the name it is counted and logged under.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedKey {
    /// Its name, or its number from 1.
    pub name: Arc<str>,
    /// Where it is kept.
    pub source: SecretSource,
    /// The key; several when a named text holds several, newest first; empty
    /// when secrets were not read.
    pub keys: Vec<SigningKey>,
}

/// What opens a source.
const OPEN: &str = "dangerously-unverified";
/// How far a signed time may be from ours (as Standard Webhooks suggests).
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

impl VerifyConfig {
    /// Reads it from the section of a source, in whose reader the problems are. What
    /// comes from a queue may have waited there for long: with `at_rest`, any time ago
    /// is the default.
    pub fn read(section: &mut Section<'_>, at_rest: bool) -> Self {
        let usual = if at_rest {
            OffOr::Off
        } else {
            OffOr::On(TOLERANCE)
        };
        let tolerance = section.get_or("tolerance", usual);
        let future_tolerance = section.get_or("future_tolerance", TOLERANCE);
        Self {
            // Wrong ones are told, and nothing is built with none: but the rest of the
            // source is read on, so that what is wrong with that is told as well.
            keys: VerifyKeys::read(section).unwrap_or(VerifyKeys::Keys(Vec::new())),
            tolerance,
            future_tolerance,
        }
    }
}

impl VerifyKeys {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let hint = || {
            format!(
                "{}, as in `secrets = \"env:NAME\"`; only `secrets = \"{OPEN}\"` goes without",
                key::FORM
            )
        };
        let Some(entry) = section.entry("secrets") else {
            section.missing("secrets", hint());
            return None;
        };
        if matches!(entry.value(), Value::Array(_, items) if items.is_empty()) {
            entry.error("is empty", hint());
            return None;
        }
        let list = entry.items();
        let (open, rest): (Vec<_>, Vec<_>) = list.into_iter().partition(opens);
        if let (Some(open), false) = (open.first(), open.len() == 1 && rest.is_empty()) {
            open.error(
                "opens the source to anybody, and stands beside others",
                format!("name the keys, or write `secrets = \"{OPEN}\"` alone"),
            );
        } else if open.len() == 1 {
            return Some(VerifyKeys::DangerouslyUnverified);
        }
        let mut reading = Reading::default();
        let mut good = open.is_empty();
        for entry in rest {
            good &= reading.take(entry);
        }
        good.then_some(VerifyKeys::Keys(reading.keys))
    }
}

fn opens(entry: &Entry<'_>) -> bool {
    // To the letter: danger is spelled out.
    entry.text().is_some_and(|text| text == OPEN)
}

/// The keys of a source so far.
#[derive(Default)]
struct Reading {
    keys: Vec<NamedKey>,
    names: HashSet<Arc<str>>,
    /// How many keys there are: a text may hold several.
    count: usize,
}

impl Reading {
    /// Takes one item of the list; false when it has a problem.
    fn take(&mut self, entry: Entry<'_>) -> bool {
        if !entry.is_table() {
            return self.take_secret(None, &entry);
        }
        let Some(mut table) = entry.section() else {
            return false;
        };
        let name_entry = table.entry("name");
        let name = name_entry.as_ref().map(Entry::read::<Name>);
        let Some(secret) = table.entry("secret") else {
            table.missing("secret", Secret::FORM);
            return false;
        };
        match (name_entry, name) {
            (_, Some(None)) => {
                self.take_secret(None, &secret);
                false
            }
            (Some(entry), Some(Some(name))) => self.take_secret(Some((name, &entry)), &secret),
            _ => self.take_secret(None, &secret),
        }
    }

    fn take_secret(&mut self, name: Option<(Name, &Entry<'_>)>, entry: &Entry<'_>) -> bool {
        let Some(secret) = entry.read::<Secret>() else {
            return false;
        };
        let keys = match secret.expose().map(SigningKey::parse_all).transpose() {
            Ok(keys) => keys.unwrap_or_default(),
            Err(problem) => {
                entry.error(problem.to_string(), hint(problem));
                return false;
            }
        };
        if let Some((warning, hint)) = key::warning(&keys) {
            entry.warn(warning, hint);
        }
        let source = secret.source();
        match name {
            Some((name, name_entry)) => {
                self.count += keys.len().max(1);
                self.add(name.shared(), source, keys, name_entry)
            }
            None if keys.is_empty() => {
                self.count += 1;
                self.add(self.count.to_string().into(), source, keys, entry)
            }
            None => {
                let mut good = true;
                for key in keys {
                    self.count += 1;
                    good &= self.add(self.count.to_string().into(), source, vec![key], entry);
                }
                good
            }
        }
    }

    fn add(
        &mut self,
        name: Arc<str>,
        source: &SecretSource,
        keys: Vec<SigningKey>,
        entry: &Entry<'_>,
    ) -> bool {
        if !self.names.insert(Arc::clone(&name)) {
            entry.error(
                format!("gives a second key the name `{name}`"),
                "each key of a source has a name of its own; one without is called by its number from 1",
            );
            return false;
        }
        self.keys.push(NamedKey {
            name,
            source: source.clone(),
            keys,
        });
        true
    }
}

fn hint(problem: KeyProblem) -> String {
    match problem {
        KeyProblem::Private => {
            "use the public key, `whpk_…`, and let nobody but the sender have the private one"
                .into()
        }
        KeyProblem::NotBase64 => format!(
            "{}; `{OPEN}` stands alone, as `secrets = \"{OPEN}\"`",
            key::FORM
        ),
        _ => key::FORM.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::{Place, Reader, SecretReader};

    const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OTHER: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// What `text` reads as, and every problem told.
    fn read_with(secrets: SecretReader, text: &str) -> (VerifyConfig, String) {
        let value: toml::Table = text.parse().unwrap();
        let dict = Value::serialize(&value).unwrap().into_dict().unwrap();
        let reader = Reader::new("/", secrets, Place::Nowhere, |_, _| Place::Nowhere);
        let config = VerifyConfig::read(&mut reader.document(dict), false);
        let problems = reader.into_problems();
        (config, problems.to_string())
    }

    fn good(text: &str) -> VerifyConfig {
        let (config, problems) = read_with(SecretReader::Process, text);
        assert_eq!(problems, "");
        config
    }

    fn problems(text: &str) -> String {
        let (_, problems) = read_with(SecretReader::Process, text);
        for hidden in ["C2FVs", "MfKQ9", "c2hvcnQ"] {
            assert!(!problems.contains(hidden), "{problems}");
        }
        problems
    }

    fn names(config: &VerifyConfig) -> Vec<(&str, usize)> {
        match &config.keys {
            VerifyKeys::Keys(keys) => keys.iter().map(|k| (&*k.name, k.keys.len())).collect(),
            VerifyKeys::DangerouslyUnverified => panic!("open"),
        }
    }

    #[test]
    fn one_secret_is_enough_and_the_window_is_five_minutes() {
        let config = good(&format!("secrets = '{KEY}'"));
        assert_eq!(names(&config), [("1", 1)]);
        assert_eq!(config.tolerance, OffOr::On(Duration::from_secs(300)));
        assert_eq!(config.future_tolerance, Duration::from_secs(300));
        let config = good(&format!(
            "secrets = '{KEY}'\ntolerance = 'off'\nfuture_tolerance = '1m'"
        ));
        assert_eq!(config.tolerance, OffOr::Off);
        assert_eq!(config.future_tolerance, Duration::from_secs(60));
    }

    #[test]
    fn a_key_is_called_by_its_name_or_its_number() {
        let config = good(&format!(
            "secrets = ['{KEY} {OTHER}', {{ name = 'old', secret = '{KEY} {OTHER}' }}, {{ secret = '{OTHER}' }}]"
        ));
        assert_eq!(names(&config), [("1", 1), ("2", 1), ("old", 2), ("5", 1)]);
    }

    #[test]
    fn a_name_is_given_once() {
        for text in [
            format!("secrets = ['{KEY}', {{ name = '1', secret = '{OTHER}' }}]"),
            format!(
                "secrets = [{{ name = 'a', secret = '{KEY}' }}, {{ name = 'a', secret = '{OTHER}' }}]"
            ),
        ] {
            assert!(problems(&text).contains("gives a second key the name"));
        }
    }

    #[test]
    fn a_source_is_opened_by_one_word_alone() {
        let config = good("secrets = 'dangerously-unverified'");
        assert_eq!(config.keys, VerifyKeys::DangerouslyUnverified);
        let config = good("secrets = ['dangerously-unverified']");
        assert_eq!(config.keys, VerifyKeys::DangerouslyUnverified);
        for text in [
            format!("secrets = ['{KEY}', 'dangerously-unverified']"),
            "secrets = ['dangerously-unverified', 'dangerously-unverified']".to_owned(),
            "secrets = ' dangerously-unverified '".to_owned(),
            "secrets = { secret = 'dangerously-unverified' }".to_owned(),
            "secrets = 'dangerously_unverified'".to_owned(),
            "secrets = []".to_owned(),
            "secrets = ''".to_owned(),
            "secrets = false".to_owned(),
            String::new(),
        ] {
            let told = problems(&text);
            assert!(told.contains("error: `secrets"), "{text}: {told}");
            assert!(told.contains("hint: "), "{text}: {told}");
        }
    }

    #[test]
    fn every_problem_of_the_keys_is_told() {
        let told = problems(
            "secrets = ['whsec_!', 'whsec_c2hvcnQ=', 'whsk_AAAA', { name = 'A b', secret = 'whpk_AAAA' }, { name = 'x' }, { name = 'y', secret = 'env:HOOKWARD_TEST_UNSET', colour = 1 }, 7]\ntolerance = 'soon'",
        );
        for expected in [
            "`tolerance` is not a duration, nor \"off\"",
            "`secrets[0]` holds a signing key that is not base64",
            "`secrets[1]` holds a signing key of 5 bytes, shorter than 16",
            "`secrets[2]` holds a private key (`whsk_`)",
            "`secrets[3].name` is not a name",
            "`secrets[3].secret` holds something after `whpk_`",
            "`secrets[4].secret` is missing",
            "`secrets[5].secret` names the environment variable `HOOKWARD_TEST_UNSET`, which is not set",
            "`secrets[5].colour` is not a key hookward knows",
            "`secrets[6]` is not a text",
        ] {
            assert!(told.contains(expected), "{expected} in:\n{told}");
        }
    }

    #[test]
    fn a_short_key_is_warned_about() {
        let (_, told) = read_with(
            SecretReader::Process,
            "secrets = 'whsec_AAAAAAAAAAAAAAAAAAAAAA=='",
        );
        assert!(!told.contains("error"), "{told}");
        assert!(told.starts_with("warning: `secrets` holds a signing key shorter than 24 bytes"));
    }

    #[test]
    fn without_reading_secrets_there_are_names_and_no_keys() {
        let (config, told) = read_with(
            SecretReader::Skip,
            "secrets = ['env:HOOKWARD_TEST_UNSET', { name = 'old', secret = 'file:/no/such' }]",
        );
        assert_eq!(told, "");
        assert_eq!(names(&config), [("1", 0), ("old", 0)]);
    }

    #[test]
    fn a_configuration_is_the_same_when_its_keys_are() {
        let one = good(&format!("secrets = '{KEY}'"));
        assert_eq!(one, good(&format!("secrets = '{KEY}'")));
        assert_ne!(one, good(&format!("secrets = '{OTHER}'")));
    }
}
