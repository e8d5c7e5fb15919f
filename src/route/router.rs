use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::Pattern;
use super::trie::Trie;
use crate::message::EventType;

/// A route as the [`Router`] of one source is given it.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// What the rule is called in [`Router::rules`].
    pub number: usize,
    /// The types it takes. Empty: every event, also one without a type.
    pub types: &'a [Pattern],
    /// The numbers of the destinations it names.
    pub to: &'a [usize],
    /// Whether it is taken only when no other rule matched.
    pub otherwise: bool,
}

/// Where an event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// To these destinations: at least one, ascending, each once.
    To(SmallVec<[usize; 4]>),
    /// No rule wants it.
    Unmatched,
    /// It has no type, no rule takes it without one, and there are rules that
    /// ask for a type.
    Untyped,
}

/// The rules of one source, compiled.
///
/// Patterns without stars are one look-up of the whole type; the others are a
/// tree of words walked along it. Rules that do not match cost nothing beyond
/// the table they make larger.
#[derive(Debug, Default)]
pub struct Router {
    rules: Vec<Compiled>,
    untyped: Vec<u32>,
    exact: FxHashMap<Box<str>, Vec<u32>>,
    trie: Trie,
    asks_type: bool,
}

/// What is left of a [`Rule`] once its patterns are in the tables.
#[derive(Debug)]
struct Compiled {
    number: usize,
    to: Box<[usize]>,
    otherwise: bool,
}

/// The rules that take an event, as indexes; one may be there several times.
pub(super) type Matches = SmallVec<[u32; 8]>;

impl Router {
    /// Compiles the rules of one source, in time linear in their patterns.
    pub fn compile(rules: &[Rule<'_>]) -> Self {
        let mut router = Self::default();
        for (index, rule) in (0u32..).zip(rules) {
            router.rules.push(Compiled {
                number: rule.number,
                to: rule.to.into(),
                otherwise: rule.otherwise,
            });
            if rule.types.is_empty() {
                router.untyped.push(index);
            }
            for pattern in rule.types {
                router.asks_type = true;
                if pattern.is_exact() {
                    let rules = router.exact.entry(pattern.as_str().into());
                    rules.or_default().push(index);
                } else {
                    router.trie.insert(pattern.words(), index);
                }
            }
        }
        router.trie.finish();
        router
    }

    /// Where an event of this type goes.
    pub fn plan(&self, event_type: Option<&EventType>) -> Plan {
        let mut to: SmallVec<[usize; 4]> = SmallVec::new();
        for rule in self.taken(&self.matches(event_type)) {
            for &destination in &rule.to {
                if let Err(place) = to.binary_search(&destination) {
                    to.insert(place, destination);
                }
            }
        }
        if !to.is_empty() {
            Plan::To(to)
        } else if event_type.is_none() && self.asks_type {
            Plan::Untyped
        } else {
            Plan::Unmatched
        }
    }

    /// The numbers of the rules that take an event of this type, ascending.
    pub fn rules(&self, event_type: Option<&EventType>) -> Vec<usize> {
        let matches = self.matches(event_type);
        let mut numbers: Vec<usize> = self.taken(&matches).map(|rule| rule.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The matching rules that count: those with `otherwise` only when there
    /// are no others.
    fn taken<'a>(&'a self, matches: &'a Matches) -> impl Iterator<Item = &'a Compiled> {
        let rules = || matches.iter().map(|&index| &self.rules[index as usize]);
        let only_otherwise = rules().all(|rule| rule.otherwise);
        rules().filter(move |rule| rule.otherwise == only_otherwise)
    }

    fn matches(&self, event_type: Option<&EventType>) -> Matches {
        let mut matches = Matches::from_slice(&self.untyped);
        if let Some(event_type) = event_type {
            let text = event_type.as_str();
            if let Some(rules) = self.exact.get(text) {
                matches.extend_from_slice(rules);
            }
            self.trie.walk(text, &mut matches);
        }
        matches
    }

    /// How many states of the trie are looked at for this type.
    #[cfg(test)]
    pub(super) fn steps(&self, event_type: &EventType) -> usize {
        self.trie.walk(event_type.as_str(), &mut Matches::new())
    }
}
