use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::pattern::Word;
use super::router::Matches;

/// Patterns that hold stars, merged by their first words.
///
/// A type is walked word by word with the set of nodes that its words so far
/// can lead to. `**` is a node that, once reached, stays reached to the end of
/// the type. Each node has one parent, so only such a node can be reached twice
/// over, and only when it lies below another of its kind; those are numbered and
/// remembered, so the set never holds more than the nodes there are.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    numbered: usize,
}

#[derive(Debug, Default)]
struct Node {
    words: FxHashMap<Box<str>, u32>,
    any: Option<u32>,
    deep: Option<u32>,
    /// The rules that take a type which ends here (or, for a `**` node, one
    /// that gets here).
    rules: Vec<u32>,
    /// Set for a `**` node that can be reached more than once.
    number: Option<usize>,
}

const ROOT: u32 = 0;

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            numbered: 0,
        }
    }
}

impl Trie {
    /// Adds a pattern of `rule`.
    pub(super) fn insert<'a>(&mut self, words: impl Iterator<Item = Word<'a>>, rule: u32) {
        let mut node = ROOT;
        let mut deep = false;
        for word in words {
            match word {
                // A run of stars says "at least so many words", in whatever
                // order it is written: one form of it keeps the walk small.
                Word::Deep => deep = true,
                Word::Any => node = self.child(node, Word::Any),
                Word::Exact(_) => {
                    if std::mem::take(&mut deep) {
                        node = self.child(node, Word::Deep);
                    }
                    node = self.child(node, word);
                }
            }
        }
        if deep {
            node = self.child(node, Word::Deep);
        }
        self.nodes[node as usize].rules.push(rule);
    }

    fn child(&mut self, parent: u32, word: Word<'_>) -> u32 {
        // Patterns come from one configuration file: there are never 2³² words.
        let new = self.nodes.len() as u32;
        let node = &mut self.nodes[parent as usize];
        let child = match word {
            Word::Exact(word) => match node.words.get(word) {
                Some(&child) => child,
                None => *node.words.entry(word.into()).or_insert(new),
            },
            Word::Any => *node.any.get_or_insert(new),
            Word::Deep => *node.deep.get_or_insert(new),
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Numbers the `**` nodes that lie below another one. To be called once,
    /// after the last pattern.
    pub(super) fn finish(&mut self) {
        let mut below = vec![false; self.nodes.len()];
        // A child is always made after its parent.
        for parent in 0..self.nodes.len() {
            let node = &self.nodes[parent];
            let deep = node.deep;
            for &child in node.words.values().chain(&node.any) {
                below[child as usize] = below[parent];
            }
            if let Some(child) = deep {
                below[child as usize] = true;
                if below[parent] {
                    self.nodes[child as usize].number = Some(self.numbered);
                    self.numbered += 1;
                }
            }
        }
    }

    /// Adds the rules that take this type, and tells how many nodes were looked at.
    pub(super) fn walk(&self, text: &str, matches: &mut Matches) -> usize {
        let mut walk = Walk {
            trie: self,
            matches,
            deep: SmallVec::new(),
            here: SmallVec::new(),
            seen: SmallVec::new(),
            steps: 0,
        };
        walk.enter(ROOT);
        if self.nodes.len() == 1 {
            return walk.steps;
        }
        for word in text.split('.') {
            if walk.is_over() {
                break;
            }
            walk.step(word);
        }
        walk.end();
        walk.steps
    }
}

/// One type on its way through the trie.
struct Walk<'t, 'm> {
    trie: &'t Trie,
    matches: &'m mut Matches,
    /// The `**` nodes reached that go on: they stay.
    deep: SmallVec<[u32; 8]>,
    /// The other nodes that the words so far lead to.
    here: SmallVec<[u32; 8]>,
    /// A bit for each numbered `**` node that was reached.
    seen: SmallVec<[u64; 4]>,
    steps: usize,
}

impl Walk<'_, '_> {
    /// Whether no pattern can match any more but those that already have.
    fn is_over(&self) -> bool {
        self.here.is_empty() && self.deep.is_empty()
    }

    /// Takes one more word.
    fn step(&mut self, word: &str) {
        // Those entered now are to see the next word, not this one.
        let deep = self.deep.len();
        let here = std::mem::take(&mut self.here);
        for &node in &here {
            self.follow(node, word);
        }
        for index in 0..deep {
            self.follow(self.deep[index], word);
        }
    }

    fn follow(&mut self, node: u32, word: &str) {
        self.steps += 1;
        let node = &self.trie.nodes[node as usize];
        // Asking an empty map would still hash the word.
        if !node.words.is_empty()
            && let Some(&child) = node.words.get(word)
        {
            self.enter(child);
        }
        if let Some(child) = node.any {
            self.enter(child);
        }
    }

    fn enter(&mut self, node: u32) {
        let reached = &self.trie.nodes[node as usize];
        self.here.push(node);
        if let Some(deep) = reached.deep {
            self.enter_deep(deep);
        }
    }

    fn enter_deep(&mut self, node: u32) {
        let reached = &self.trie.nodes[node as usize];
        if let Some(number) = reached.number {
            let (place, bit) = (number / 64, 1u64 << (number % 64));
            if self.seen.is_empty() {
                self.seen.resize(self.trie.numbered.div_ceil(64), 0);
            }
            if self.seen[place] & bit != 0 {
                return;
            }
            self.seen[place] |= bit;
        }
        self.matches.extend_from_slice(&reached.rules);
        // Only an exact word can follow a run of stars.
        if !reached.words.is_empty() {
            self.deep.push(node);
        }
    }

    /// Takes the rules of the nodes at which the type ends.
    fn end(&mut self) {
        for &node in &self.here {
            let rules = &self.trie.nodes[node as usize].rules;
            self.matches.extend_from_slice(rules);
        }
    }
}
