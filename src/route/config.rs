use std::collections::HashSet;
use std::hash::Hash;

use super::Pattern;
use crate::setting::{Name, Section, Setting};

/// One `[[routes]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// The sources it takes events from. Empty: from every source.
    pub from: Vec<Name>,
    /// The types it takes. Empty: every event, also one without a type.
    pub types: Vec<Pattern>,
    /// The destinations it names, at least one.
    pub to: Vec<Name>,
    /// Whether it is taken only when no other route of the source matched.
    pub otherwise: bool,
}

impl RouteConfig {
    /// Reads a table. `None` when it names no destination (a problem is added).
    /// Whether the names exist is for whoever knows them all.
    pub fn read(mut section: Section<'_>) -> Option<Self> {
        let from = list(&mut section, "from", "leave it out to take every source");
        let types = list(&mut section, "types", "leave it out to take every event");
        let to = list(&mut section, "to", "name one destination or more");
        if to.is_none() {
            section.missing("to", "name one destination or more");
        }
        Some(Self {
            from: from.unwrap_or_default(),
            types: types.unwrap_or_default(),
            to: to.filter(|names| !names.is_empty())?,
            otherwise: section.get_or("otherwise", false),
        })
    }
}

/// Reads a list, each item once. An empty list says nothing that leaving it out
/// would not say more clearly, and could be meant as its opposite: an error.
fn list<T>(section: &mut Section<'_>, key: &'static str, hint: &str) -> Option<Vec<T>>
where
    T: Setting + Clone + Eq + Hash,
{
    let entry = section.entry(key)?;
    if entry.value().as_array().is_some_and(<[_]>::is_empty) {
        entry.error("is empty", hint);
    }
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for item in entry.items() {
        let Some(value) = item.read::<T>() else {
            continue;
        };
        if seen.insert(value.clone()) {
            kept.push(value);
        } else {
            item.warn("repeats what is already in the list", "");
        }
    }
    Some(kept)
}
