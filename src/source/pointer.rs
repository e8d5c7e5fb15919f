use smallvec::{SmallVec, smallvec};

use super::json::{Kind, NotJson, Scanner, Text};

/// The most pointers one rule may hold, so that a bit each fits a word.
pub(super) const MOST: usize = 32;
/// The most members one pointer may go down through: reading follows it by
/// recursion.
const DEEPEST: usize = 32;

/// JSON pointers (RFC 6901), merged by their first members, so that one pass
/// over a body finds them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointers {
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// The pointer that ends here.
    slot: Option<usize>,
    /// The pointers that end here or further down, a bit each.
    slots: u32,
    children: Vec<Child>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Child {
    name: String,
    /// The name as the index of an array.
    index: Option<usize>,
    node: usize,
}

/// What a body holds where a pointer points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member<'a> {
    /// Nothing is there.
    Absent,
    /// It is there, but a member on the way, or itself, stands twice: readers
    /// do not agree on which one counts.
    Twice,
    /// A string.
    Text(Text<'a>),
    /// Something else.
    Other,
}

/// What a body holds where each of the pointers points.
#[derive(Debug)]
pub(super) struct Members<'a> {
    found: SmallVec<[Option<Member<'a>>; 4]>,
    twice: u32,
}

impl Members<'_> {
    pub(super) fn get(&self, slot: usize) -> Member<'_> {
        match self.found[slot] {
            None => Member::Absent,
            Some(_) if self.twice >> slot & 1 == 1 => Member::Twice,
            Some(member) => member,
        }
    }
}

impl Pointers {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            slots: 0,
        }
    }

    /// Adds a pointer as it is written, and tells its number, counted from 0;
    /// the same pointer has the same number.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence.
    pub(super) fn add(&mut self, text: &str) -> Result<usize, &'static str> {
        let tokens = tokens(text)?;
        let mut node = 0;
        for token in tokens {
            let children = &self.nodes[node].children;
            node = match children.iter().find(|child| child.name == token) {
                Some(child) => child.node,
                None => {
                    let new = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].children.push(Child {
                        index: index(&token),
                        name: token,
                        node: new,
                    });
                    new
                }
            };
        }
        if let Some(slot) = self.nodes[node].slot {
            return Ok(slot);
        }
        if self.slots == MOST {
            return Err("holds more than 32 JSON pointers");
        }
        let slot = self.slots;
        self.slots += 1;
        self.nodes[node].slot = Some(slot);
        self.mark(text, slot);
        Ok(slot)
    }

    /// Notes `slot` all along its pointer.
    fn mark(&mut self, text: &str, slot: usize) {
        let mut node = 0;
        self.nodes[node].slots |= 1 << slot;
        for token in tokens(text).unwrap_or_default() {
            let children = &self.nodes[node].children;
            if let Some(child) = children.iter().find(|child| child.name == token) {
                node = child.node;
                self.nodes[node].slots |= 1 << slot;
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots
    }

    /// Reads a whole JSON text and tells what the pointers point at.
    pub(super) fn find<'a>(&self, text: &'a str) -> Result<Members<'a>, NotJson> {
        let mut search = Search {
            nodes: &self.nodes,
            json: Scanner::new(text),
            members: Members {
                found: smallvec![None; self.slots],
                twice: 0,
            },
        };
        search.value(0)?;
        search.json.end()?;
        Ok(search.members)
    }
}

/// Takes a pointer apart.
fn tokens(text: &str) -> Result<Vec<String>, &'static str> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("is not a JSON pointer: it does not start with `/`");
    };
    let tokens: Vec<String> = rest.split('/').map(unescape).collect::<Result<_, _>>()?;
    if tokens.len() > DEEPEST {
        return Err("is a JSON pointer through more than 32 members");
    }
    Ok(tokens)
}

fn unescape(token: &str) -> Result<String, &'static str> {
    let mut parts = token.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (meant, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => {
                return Err(
                    "is not a JSON pointer: after `~` comes `0` (for `~`) or `1` (for `/`)",
                );
            }
        };
        text.push(meant);
        text.push_str(rest);
    }
    Ok(text)
}

/// An index is written without leading zeros.
fn index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|byte| byte.is_ascii_digit());
    let good = digits && (token == "0" || !token.starts_with('0'));
    good.then(|| token.parse().ok()).flatten()
}

struct Search<'n, 'a> {
    nodes: &'n [Node],
    json: Scanner<'a>,
    members: Members<'a>,
}

impl<'n> Search<'n, '_> {
    /// Reads the value at which the pointers of `node` have arrived.
    fn value(&mut self, node: usize) -> Result<(), NotJson> {
        let node = &self.nodes[node];
        let kind = self.json.kind()?;
        let member = match kind {
            Kind::Text => Member::Text(self.json.string()?),
            Kind::Object if !node.children.is_empty() => {
                self.object(&node.children)?;
                Member::Other
            }
            Kind::Array if !node.children.is_empty() => {
                self.array(&node.children)?;
                Member::Other
            }
            _ => {
                self.json.skip()?;
                Member::Other
            }
        };
        if let Some(slot) = node.slot {
            self.members.found[slot] = Some(member);
        }
        Ok(())
    }

    fn object(&mut self, children: &'n [Child]) -> Result<(), NotJson> {
        let mut seen = 0u32;
        let mut more = self.json.open()?;
        while more {
            let name = self.json.name()?;
            match name.position(children.iter().map(|child| child.name.as_str())) {
                Some(place) => {
                    let child = children[place].node;
                    if seen >> place & 1 == 1 {
                        self.members.twice |= self.nodes[child].slots;
                    }
                    seen |= 1 << place;
                    self.value(child)?;
                }
                None => self.json.skip()?,
            }
            more = self.json.more(b'}')?;
        }
        Ok(())
    }

    fn array(&mut self, children: &'n [Child]) -> Result<(), NotJson> {
        let mut index = 0;
        let mut more = self.json.open()?;
        while more {
            match children.iter().find(|child| child.index == Some(index)) {
                Some(child) => self.value(child.node)?,
                None => self.json.skip()?,
            }
            index += 1;
            more = self.json.more(b']')?;
        }
        Ok(())
    }
}
