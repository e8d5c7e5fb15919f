//! The same JSON, written as other libraries write it. Numbers stay as they
//! are; what a parser rounds is lost for good.

use serde::de::IgnoredAny;

/// A larger body is not rewritten (bytes).
const LARGEST: usize = 4 << 20;
/// Nor is a deeper one (levels).
const DEEPEST: usize = 128;

/// A JSON text taken apart; scalars and keys are as they were written.
enum Node<'t> {
    Scalar(&'t str),
    Text(&'t str),
    List(Vec<Node<'t>>),
    Object(Vec<(&'t str, Node<'t>)>),
}

#[derive(Clone, Copy)]
enum Spacing {
    Compact,
    /// `", "` and `": "`
    Python,
    /// One member a line, indented by this, and `": "`.
    Lines(&'static str),
}

#[derive(Clone, Copy)]
enum Strings {
    AsWritten,
    Plain,
    /// `\u00e4` for all that is not ASCII.
    Ascii,
    /// `\u003c` for `<`, `>` and `&`.
    Html,
    /// `\/` for `/`, and `\u00e4` for all that is not ASCII.
    Php,
    /// `\u003C`, upper case, also for quotes, and for all that is not ASCII.
    DotNet,
}

#[derive(Clone, Copy)]
struct Style {
    spacing: Spacing,
    strings: Strings,
    sorted: bool,
    line_end: bool,
}

const SPACINGS: [(Spacing, &str); 5] = [
    (
        Spacing::Compact,
        "signed without white space, as `JSON.stringify` writes",
    ),
    (
        Spacing::Python,
        "signed with `\", \"` and `\": \"`, as Python's `json.dumps` writes",
    ),
    (Spacing::Lines("  "), "signed indented by two spaces"),
    (Spacing::Lines("    "), "signed indented by four spaces"),
    (Spacing::Lines("\t"), "signed indented by tabs"),
];
const STRINGS: [(Strings, &str); 6] = [
    (Strings::AsWritten, ""),
    (Strings::Plain, ", without needless `\\` escapes"),
    (
        Strings::Ascii,
        ", with `\\u` escapes for all that is not ASCII",
    ),
    (
        Strings::Html,
        ", with `<`, `>` and `&` as `\\u` escapes, as Go and Rails write",
    ),
    (
        Strings::Php,
        ", with `\\/` and `\\u` escapes, as PHP writes",
    ),
    (Strings::DotNet, ", with `\\u` escapes as .NET writes"),
];

/// `text` in every style, each with the words for it; nothing when it is not JSON.
pub(super) fn rewritten(text: &[u8]) -> impl Iterator<Item = (Vec<u8>, String)> + '_ {
    let node = std::str::from_utf8(text).ok().and_then(Node::read);
    node.into_iter().flat_map(move |node| {
        // One at a time: together they would be a hundred bodies.
        styles().into_iter().map(move |(style, words)| {
            let mut out = String::with_capacity(text.len());
            style.write(&node, 0, &mut out);
            if style.line_end {
                out.push('\n');
            }
            (out.into_bytes(), words)
        })
    })
}

fn styles() -> Vec<(Style, String)> {
    let mut styles = Vec::new();
    for (sorted, keys) in [(false, ""), (true, ", with its keys sorted")] {
        for (strings, how) in STRINGS {
            for (spacing, what) in SPACINGS {
                for (line_end, end) in [(false, ""), (true, ", with a line break at its end")] {
                    let style = Style {
                        spacing,
                        strings,
                        sorted,
                        line_end,
                    };
                    styles.push((style, format!("{what}{how}{keys}{end}")));
                }
            }
        }
    }
    styles
}

impl<'t> Node<'t> {
    /// Takes a JSON text apart; none when it is not one, or too large or deep.
    fn read(text: &'t str) -> Option<Self> {
        if text.len() > LARGEST {
            return None;
        }
        // What is checked here need not be checked again below.
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Parts { rest: text }.node(DEEPEST)
    }
}

/// A JSON text in good form, from the front.
struct Parts<'t> {
    rest: &'t str,
}

impl<'t> Parts<'t> {
    fn node(&mut self, depth: usize) -> Option<Node<'t>> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            '{' => {
                let mut members = Vec::new();
                self.bump();
                while self.peek()? != '}' {
                    let key = self.text()?;
                    self.peek()?;
                    self.bump();
                    members.push((key, self.node(depth)?));
                    if self.peek()? == ',' {
                        self.bump();
                    }
                }
                self.bump();
                Some(Node::Object(members))
            }
            '[' => {
                let mut items = Vec::new();
                self.bump();
                while self.peek()? != ']' {
                    items.push(self.node(depth)?);
                    if self.peek()? == ',' {
                        self.bump();
                    }
                }
                self.bump();
                Some(Node::List(items))
            }
            '"' => Some(Node::Text(self.text()?)),
            _ => {
                let end = self.rest.find([',', ']', '}', ' ', '\t', '\r', '\n']);
                Some(Node::Scalar(self.take(end.unwrap_or(self.rest.len()))?))
            }
        }
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.rest.chars().next()
    }

    /// Steps over a character of one byte.
    fn bump(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// A text with its quotes.
    fn text(&mut self) -> Option<&'t str> {
        self.peek()?;
        let mut escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        self.take(end + 2)
    }

    fn take(&mut self, length: usize) -> Option<&'t str> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

impl Style {
    fn write(self, node: &Node<'_>, depth: usize, out: &mut String) {
        match node {
            Node::Scalar(text) => out.push_str(text),
            Node::Text(text) => self.text(text, out),
            Node::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.before(index, depth + 1, out);
                    self.write(item, depth + 1, out);
                }
                self.close(items.is_empty(), depth, out);
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                let mut order: Vec<&(&str, Node<'_>)> = members.iter().collect();
                if self.sorted {
                    order.sort_by_cached_key(|(key, _)| serde_json::from_str::<String>(key).ok());
                }
                for (index, (key, value)) in order.into_iter().enumerate() {
                    self.before(index, depth + 1, out);
                    self.text(key, out);
                    out.push_str(match self.spacing {
                        Spacing::Compact => ":",
                        Spacing::Python | Spacing::Lines(_) => ": ",
                    });
                    self.write(value, depth + 1, out);
                }
                self.close(members.is_empty(), depth, out);
                out.push('}');
            }
        }
    }

    fn before(self, index: usize, depth: usize, out: &mut String) {
        if index > 0 {
            out.push(',');
        }
        match self.spacing {
            Spacing::Python if index > 0 => out.push(' '),
            Spacing::Compact | Spacing::Python => {}
            Spacing::Lines(indent) => new_line(indent, depth, out),
        }
    }

    fn close(self, empty: bool, depth: usize, out: &mut String) {
        if let (Spacing::Lines(indent), false) = (self.spacing, empty) {
            new_line(indent, depth, out);
        }
    }

    fn text(self, written: &str, out: &mut String) {
        // A lone surrogate has no characters to write anew.
        let plain = match self.strings {
            Strings::AsWritten => None,
            _ => serde_json::from_str::<String>(written).ok(),
        };
        let plain = plain.and_then(|text| serde_json::to_string(&text).ok());
        let Some(plain) = plain else {
            out.push_str(written);
            return;
        };
        // The quotes round the text stay; those inside are escaped already.
        let inside = &plain[1..plain.len() - 1];
        out.push('"');
        let mut characters = inside.chars();
        while let Some(c) = characters.next() {
            match (self.strings, c) {
                (Strings::DotNet, '\\') if characters.as_str().starts_with('"') => {
                    characters.next();
                    out.push_str("\\u0022");
                }
                (Strings::DotNet, '<' | '>' | '&' | '\'' | '+' | '`') => {
                    escape(c, Case::Upper, out);
                }
                (Strings::DotNet, c) if !c.is_ascii() => escape(c, Case::Upper, out),
                (Strings::Html, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                    escape(c, Case::Lower, out);
                }
                (Strings::Php, '/') => out.push_str("\\/"),
                (Strings::Ascii | Strings::Php, c) if !c.is_ascii() => {
                    escape(c, Case::Lower, out);
                }
                // An escape is two characters; the second is not one to look at.
                (_, '\\') => {
                    out.push('\\');
                    out.extend(characters.next());
                }
                (_, c) => out.push(c),
            }
        }
        out.push('"');
    }
}

#[derive(Clone, Copy)]
enum Case {
    Lower,
    Upper,
}

fn escape(c: char, case: Case, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.push_str(&match case {
            Case::Lower => format!("\\u{unit:04x}"),
            Case::Upper => format!("\\u{unit:04X}"),
        });
    }
}

fn new_line(indent: &str, depth: usize, out: &mut String) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str(indent);
    }
}
