use bytes::Bytes;
use http::HeaderName;
use smallvec::SmallVec;

use super::json::Text;
use super::pointer::{Member, Pointers};
use crate::message::{EventType, Family, Headers};
use crate::setting::{Entry, Section};

/// How the type of an event is told.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeRule(Rule);

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    /// The first of these members that is there.
    First(Pointers),
    /// Members put into a text.
    Template(Pointers, Vec<Part>),
    Header(HeaderName),
    Const(EventType),
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    /// What the pointer of this number points at.
    Member(usize),
}

/// The members a type is looked for in unless the configuration says otherwise.
const DEFAULT: [&str; 3] = ["/type", "/eventType", "/event_type"];

/// The longest type there is (bytes).
const LONGEST: usize = 255;

/// How a rule is written, for hints.
const FORM: &str = "a type is told by JSON pointers, as in `[\"/type\", \"/data/kind\"]`, by a template of them, \
     `\"{/source}.{/action}\"`, by `\"header:NAME\"` or by `\"const:NAME\"`";

impl TypeRule {
    /// Reads `event_type` of a source. `None` when it is not a rule (a problem
    /// is added).
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let Some(entry) = section.entry("event_type") else {
            return Some(Self::default());
        };
        if entry.value().as_array().is_some_and(<[_]>::is_empty) {
            entry.error("is empty", FORM);
            return None;
        }
        let items = entry.items();
        match items.as_slice() {
            [item] => one(item),
            items => pointers(items),
        }
        .map(Self)
    }

    /// Takes a rule written as one text: a pointer, a template, `header:NAME`
    /// or `const:NAME`. A text with a brace is a template, so a member whose
    /// name holds one cannot be pointed at.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence, without the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Rule::parse(text).map(Self)
    }

    /// The type of the event that came as `body` with `headers`; `None` when
    /// there is none, or none that is beyond doubt.
    ///
    /// The type shares its bytes with the body or the headers where it can, and so
    /// keeps all of that in memory: it should not outlive the event.
    pub fn event_type(&self, body: &Bytes, headers: &Headers) -> Option<EventType> {
        match &self.0 {
            Rule::First(pointers) => first(pointers, body),
            Rule::Template(pointers, parts) => filled(pointers, parts, body),
            Rule::Header(name) => {
                let mut values = headers.all(name.as_str());
                let value = values.next()?;
                // There twice: nobody knows which one the receiver will read.
                if values.next().is_some() {
                    return None;
                }
                EventType::parse(value.share())
            }
            Rule::Const(event_type) => Some(event_type.clone()),
        }
    }

    /// Whether the type depends on the body.
    pub fn needs_body(&self) -> bool {
        matches!(self.0, Rule::First(_) | Rule::Template(..))
    }

    /// Whether the type is under the signature of the message, or the
    /// configuration's own. A header is neither.
    pub fn is_signed(&self) -> bool {
        !matches!(self.0, Rule::Header(_))
    }
}

impl Default for TypeRule {
    /// `/type`, `/eventType`, `/event_type`
    fn default() -> Self {
        let mut pointers = Pointers::new();
        for text in DEFAULT {
            // Constants in good form.
            let _ = pointers.add(text);
        }
        Self(Rule::First(pointers))
    }
}

/// Reads a rule of one text.
fn one(entry: &Entry<'_>) -> Option<Rule> {
    let text: String = entry.read()?;
    match Rule::parse(&text) {
        Ok(rule) => {
            if let Rule::Header(_) = rule {
                entry.warn(
                    "takes the type from a header, which is not signed",
                    "anyone who can replay or change a request on its way chooses where it goes",
                );
            }
            Some(rule)
        }
        Err(problem) => {
            entry.error(problem, FORM);
            None
        }
    }
}

/// Reads a list of pointers.
fn pointers(items: &[Entry<'_>]) -> Option<Rule> {
    let mut pointers = Pointers::new();
    let mut good = true;
    for item in items {
        let Some(text) = item.read::<String>() else {
            good = false;
            continue;
        };
        let before = pointers.len();
        let problem = match Rule::parse(&text) {
            Ok(Rule::First(_)) => match pointers.add(&text) {
                Ok(slot) => {
                    if slot < before {
                        item.warn("repeats what is already in the list", "");
                    }
                    continue;
                }
                Err(problem) => problem,
            },
            Ok(_) => "stands in a list, where only JSON pointers may",
            Err(problem) => problem,
        };
        item.error(problem, FORM);
        good = false;
    }
    good.then_some(Rule::First(pointers))
}

impl Rule {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(name) = text.strip_prefix("header:") {
            header(name.trim()).map(Rule::Header)
        } else if let Some(name) = text.strip_prefix("const:") {
            EventType::from_text(name.trim())
                .map(Rule::Const)
                .ok_or("names a type that is not 1 to 255 printable ASCII characters")
        } else if text.contains(['{', '}']) {
            template(text)
        } else {
            let mut pointers = Pointers::new();
            pointers.add(text)?;
            Ok(Rule::First(pointers))
        }
    }
}

/// Headers that say nothing about an event, or what nobody but the receiver may know.
const UNFIT: [&str; 15] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header(name: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "names something that is not a header")?;
    let family = Family::ALL
        .iter()
        .any(|f| f.names().contains(&name.as_str()));
    if family || UNFIT.contains(&name.as_str()) {
        return Err(
            "names a header that can tell no type: it belongs to the connection, to the signature, or is secret",
        );
    }
    Ok(name)
}

fn template(text: &str) -> Result<Rule, &'static str> {
    const UNBALANCED: &str = "is a template whose braces do not pair up";
    let mut pointers = Pointers::new();
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, after) = match rest.split_once('{') {
            Some((literal, after)) => (literal, Some(after)),
            None => (rest, None),
        };
        if literal.contains('}') {
            return Err(UNBALANCED);
        }
        if !literal.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err("is a template with a character that no type can hold");
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        let Some(after) = after else { break };
        let (pointer, behind) = after.split_once('}').ok_or(UNBALANCED)?;
        if pointer.contains('{') {
            return Err(UNBALANCED);
        }
        let slot = pointers
            .add(pointer)
            .map_err(|_| "is a template that holds something else than a JSON pointer in braces")?;
        parts.push(Part::Member(slot));
        rest = behind;
    }
    Ok(Rule::Template(pointers, parts))
}

fn first(pointers: &Pointers, body: &Bytes) -> Option<EventType> {
    let members = pointers.find(std::str::from_utf8(body).ok()?).ok()?;
    for slot in 0..pointers.len() {
        match members.get(slot) {
            Member::Absent => {}
            Member::Text(text) => return of_text(text, body),
            Member::Twice | Member::Other => return None,
        }
    }
    None
}

/// Makes a type of a string, without a copy where it stands in the body as it is.
fn of_text(text: Text<'_>, body: &Bytes) -> Option<EventType> {
    match text.plain() {
        Some(plain) if plain.len() > LONGEST => None,
        Some(plain) => EventType::parse(body.slice_ref(plain.as_bytes())),
        None => EventType::from_text(&text.unescaped()?),
    }
}

fn filled(pointers: &Pointers, parts: &[Part], body: &Bytes) -> Option<EventType> {
    let members = pointers.find(std::str::from_utf8(body).ok()?).ok()?;
    let mut filled: SmallVec<[u8; LONGEST]> = SmallVec::new();
    for part in parts {
        let unescaped;
        let text = match part {
            Part::Literal(literal) => literal.as_str(),
            Part::Member(slot) => match members.get(*slot) {
                Member::Text(text) => {
                    unescaped = text.unescaped()?;
                    unescaped.as_ref()
                }
                _ => return None,
            },
        };
        if filled.len() + text.len() > LONGEST {
            return None;
        }
        filled.extend_from_slice(text.as_bytes());
    }
    EventType::parse(Bytes::copy_from_slice(&filled))
}
