use std::time::Duration;

use http::uri::PathAndQuery;
use ipnet::IpNet;

use super::TypeRule;
use crate::setting::{Entry, Name, Section, Setting};

/// One `[sources.NAME]` table, without the keys that other rooms read:
/// `secrets`, `tolerance`, `future_tolerance`, `to`, `resend_after` and those of
/// a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// The exact path its sender posts to; none where messages come from a queue.
    pub path: Option<String>,
    /// How the type of an event is told.
    pub event_type: TypeRule,
    /// What becomes of an event that no rule wants.
    pub unmatched: Unmatched,
    /// How many of its verified messages run at once.
    pub max_in_flight: Option<usize>,
    /// Where its sender may connect from. Empty: from everywhere.
    pub allow_from: Vec<IpNet>,
    /// How long it may be silent before somebody is told.
    pub expect_every: Option<Duration>,
}

/// Which way the messages of a source come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayIn {
    /// They are posted to its path.
    Path,
    /// They are taken from a queue.
    Queue,
}

/// What a source answers to an event that no rule wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// 200: the sender need not know.
    #[default]
    Accept,
    /// 422: the sender is told, and tries again.
    Refuse,
}

/// A path longer than this is somebody's mistake (bytes).
const LONGEST_PATH: usize = 2048;

/// How a path is written, for hints.
const PATH_FORM: &str =
    "a path starts with `/` and is plain ASCII without space, `?` or `#`, as in `\"/clerk\"`";

impl SourceConfig {
    /// Reads the table of the source `name`. `None` when it cannot be one (a
    /// problem is added).
    pub fn read(name: &Name, way: WayIn, section: &mut Section<'_>) -> Option<Self> {
        let path = match way {
            WayIn::Path => match section.entry("path") {
                Some(entry) => path(&entry).map(Some),
                None => Some(Some(format!("/{name}"))),
            },
            WayIn::Queue => {
                has_no_sender(section);
                Some(None)
            }
        };
        let event_type = TypeRule::read(section);
        let unmatched = section.get_or("unmatched", Unmatched::default());
        let max_in_flight = nonzero(section, "max_in_flight");
        let allow_from = allow_from(section);
        let expect_every = nonzero(section, "expect_every");
        Some(Self {
            // One that is wrong is told, and nothing is built without it.
            path: path.unwrap_or_default(),
            event_type: event_type?,
            unmatched,
            max_in_flight,
            allow_from,
            expect_every,
        })
    }
}

impl WayIn {
    /// Reads the `type` of a source. `None` when it is not one (a problem is added).
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let Some(entry) = section.entry("type") else {
            return Some(WayIn::Path);
        };
        if entry.text().as_deref() == Some("rabbitmq") {
            return Some(WayIn::Queue);
        }
        entry.error(
            "is not a kind of source",
            "`\"rabbitmq\"` takes messages from a queue; without it, a source takes what is posted to its path",
        );
        None
    }
}

/// Refuses what only somebody who posts can be held to.
fn has_no_sender(section: &mut Section<'_>) {
    for (key, why) in [
        (
            "path",
            "has no meaning for a source that reads a queue: nobody posts to it",
        ),
        (
            "allow_from",
            "has no meaning for a source that reads a queue: the broker says who may publish",
        ),
    ] {
        if let Some(entry) = section.entry(key) {
            entry.error(why, "leave it out");
        }
    }
}

fn path(entry: &Entry<'_>) -> Option<String> {
    let path: String = entry.read()?;
    let problem = if path.len() > LONGEST_PATH {
        "is longer than 2 KiB"
    } else if !path.starts_with('/') {
        "does not start with `/`"
    } else if path.contains(['?', '#']) {
        "holds a query or a fragment, which are not part of a path"
    } else if !path.bytes().all(|b| b.is_ascii_graphic())
        || PathAndQuery::try_from(path.as_str()).is_err()
    {
        "holds a character that cannot stand in a path as it is"
    } else {
        return Some(path);
    };
    entry.error(problem, PATH_FORM);
    None
}

/// Reads a number or a time that would switch the source off at zero.
fn nonzero<T: Setting + Default + PartialEq>(
    section: &mut Section<'_>,
    key: &'static str,
) -> Option<T> {
    let entry = section.entry(key)?;
    let value = entry.read::<T>()?;
    if value == T::default() {
        entry.error("is zero", "leave it out, or give it more");
        return None;
    }
    Some(value)
}

fn allow_from(section: &mut Section<'_>) -> Vec<IpNet> {
    let Some(entry) = section.entry("allow_from") else {
        return Vec::new();
    };
    // An empty list reads as "nobody" and would work as "everyone".
    if entry.value().as_array().is_some_and(<[_]>::is_empty) {
        entry.error("is empty", "leave it out to let everyone in");
    }
    entry.items().iter().filter_map(Entry::read).collect()
}

impl Setting for Unmatched {
    const FORM: &'static str = "`\"accept\"` or `\"refuse\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        match entry.text().as_deref() {
            Some("accept") => Ok(Unmatched::Accept),
            Some("refuse") => Ok(Unmatched::Refuse),
            _ => Err("is neither \"accept\" nor \"refuse\"".into()),
        }
    }
}
