use std::fmt;

use crate::message::EventType;
use crate::setting::{Entry, Setting};

/// Which event types a route takes: words separated by dots, compared byte for
/// byte. `*` stands for exactly one word, `**` for any number of words, none
/// too.
///
/// A pattern has the form of an event type. Any printable text is a type, so a
/// word may be empty: `a..b` has three words, and `a.*.b` takes it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

/// One word of a [`Pattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// This very word.
    Exact(&'a str),
    /// `*`: one word, whatever it is.
    Any,
    /// `**`: any number of words.
    Deep,
}

impl Pattern {
    /// Takes a pattern as it is written.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence, without the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("is an empty pattern");
        }
        if EventType::from_text(text).is_none() {
            return Err("has not the form of an event type, so it would never match");
        }
        if text
            .split('.')
            .any(|word| word.contains('*') && word != "*" && word != "**")
        {
            return Err("holds a `*` inside a word");
        }
        Ok(Self(text.into()))
    }

    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it takes one event type only.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether one of its words is empty, which is allowed and rarely meant.
    fn has_empty_word(&self) -> bool {
        self.0.split('.').any(str::is_empty)
    }

    /// Its words, in order.
    pub(super) fn words(&self) -> impl Iterator<Item = Word<'_>> {
        self.0.split('.').map(|word| match word {
            "*" => Word::Any,
            "**" => Word::Deep,
            word => Word::Exact(word),
        })
    }
}

impl Setting for Pattern {
    const FORM: &'static str = "a pattern is words separated by dots; `*` stands for one word, `**` for any number: \
         `\"user.created\"`, `\"user.*\"`, `\"user.**\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        let text = entry.text().ok_or("is not a text")?;
        let pattern = Pattern::parse(&text)?;
        if pattern.has_empty_word() {
            entry.warn(
                "holds an empty word",
                "two dots in a row, or a dot at an end, match only types written so",
            );
        }
        Ok(pattern)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_words_and_whole_stars() {
        for good in [
            "user.created",
            "*",
            "**",
            "user.*",
            "user.**.done",
            "**.**",
            "a b",
            ".",
            "a..b",
            "a.",
            &"p".repeat(255),
        ] {
            let pattern = Pattern::parse(good).unwrap();
            assert_eq!(pattern.to_string(), good);
        }
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_told_without_its_text() {
        for (bad, told) in [
            ("", "is an empty pattern"),
            ("user*", "holds a `*` inside a word"),
            ("a.*b.c", "holds a `*` inside a word"),
            ("a.***", "holds a `*` inside a word"),
            (" a", "has not the form"),
            ("a ", "has not the form"),
            ("a\tb", "has not the form"),
            ("ä", "has not the form"),
            (&"p".repeat(256), "has not the form"),
        ] {
            let problem = Pattern::parse(bad).unwrap_err();
            assert!(problem.starts_with(told), "{bad}: {problem}");
        }
    }
}
