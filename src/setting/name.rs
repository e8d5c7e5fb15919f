use std::fmt;
use std::sync::Arc;

use super::{Entry, Setting};

/// The name of a source, a destination or a key: `[a-z0-9][a-z0-9_-]{0,62}`
/// without `__`, which separates the parts of an environment variable.
///
/// Names come from the configuration alone, so they are safe to log and to use
/// as metric labels. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The form of a name, in words, for hints.
    pub const FORM: &'static str =
        "a name is 1 to 63 of `a-z 0-9 _ -`, starts with a letter or digit and holds no `__`";

    /// Checks and takes a name.
    ///
    /// # Errors
    /// `None` when `text` is not of the form of a name.
    pub fn parse(text: &str) -> Option<Self> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = (1..=63).contains(&bytes.len())
            && word(bytes[0])
            && bytes.iter().all(|&b| word(b) || b == b'_' || b == b'-')
            && !text.contains("__");
        good.then(|| Self(text.into()))
    }

    /// A name for what has none that is good, so that the rest of it can be read and
    /// told. Nothing is built with it.
    pub fn stand_in() -> Self {
        Self("unnamed".into())
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text of the name, for whoever keeps it without this type.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Setting for Name {
    const FORM: &'static str = Name::FORM;

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        entry
            .text()
            .as_deref()
            .and_then(Name::parse)
            .ok_or_else(|| "is not a name".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_words() {
        for good in ["a", "7", "clerk", "my-source", "a_b", &"x".repeat(63)] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "_a",
            "A",
            "a b",
            "a.b",
            "a__b",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }
}
