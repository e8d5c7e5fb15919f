use std::fmt;

use lapin::types::ShortString;

use crate::message::Event;

/// A text with places in it that every event fills in its own way: `{source}`,
/// `{type}` and `{id}`. `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Source,
    Type,
    Id,
}

/// The longest name AMQP can carry (bytes).
pub(super) const LONGEST: usize = 255;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence.
    pub(super) fn parse(written: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = written;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err("has a `}` that closes nothing".into());
            }
            let Some((name, after)) = rest.split_once('}') else {
                return Err("has a `{` that is not closed".into());
            };
            let part = match name {
                "source" => Part::Source,
                "type" => Part::Type,
                "id" => Part::Id,
                _ => return Err("has a place that is none of the three".into()),
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        let template = Self {
            written: written.to_owned(),
            parts,
        };
        if template.least() > LONGEST {
            return Err("is longer than the 255 bytes AMQP can carry".into());
        }
        Ok(template)
    }

    /// Whether it cannot be filled without a type.
    pub(super) fn needs_type(&self) -> bool {
        self.parts.contains(&Part::Type)
    }

    /// Whether two events may well be given the same text.
    pub(super) fn may_repeat(&self) -> bool {
        !self.parts.contains(&Part::Id)
    }

    /// The text itself, where every event is given the same.
    pub(super) fn constant(&self) -> Option<&str> {
        match &self.parts[..] {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether `event` can fill it, within the bytes AMQP can carry.
    pub(super) fn takes(&self, event: &Event) -> bool {
        let mut length = 0;
        for part in &self.parts {
            let Some(text) = part.text(event) else {
                return false;
            };
            length += text.len();
        }
        length <= LONGEST
    }

    /// What `event` makes of it.
    ///
    /// # Errors
    /// `None` when a type is missing, or it is too long.
    pub(super) fn fill(&self, event: &Event) -> Option<ShortString> {
        let mut filled = String::with_capacity(self.least() + 64);
        for part in &self.parts {
            filled.push_str(part.text(event)?);
        }
        ShortString::try_new(filled).ok()
    }

    /// The length of what is the same for every event (bytes).
    fn least(&self) -> usize {
        let fixed = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Source | Part::Type | Part::Id => 0,
        });
        fixed.sum()
    }
}

impl Part {
    fn text<'a>(&'a self, event: &'a Event) -> Option<&'a str> {
        Some(match self {
            Part::Text(text) => text,
            Part::Source => event.source(),
            Part::Type => event.event_type()?.as_str(),
            // What nobody proved has no id; that of the request is at least its own.
            Part::Id => match event.id() {
                Some(id) => id.as_str(),
                None => event.origin().request.as_str(),
            },
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::deliver::fixture::{Made, event};

    fn filled(template: &str, event: &Event) -> Option<String> {
        let template = Template::parse(template).unwrap();
        let filled = template.fill(event).map(|name| name.to_string());
        assert_eq!(template.takes(event), filled.is_some());
        filled
    }

    #[test]
    fn places_are_filled_with_what_the_event_is() {
        let event = event().proven();
        for (template, text) in [
            ("", ""),
            ("events", "events"),
            ("{type}", "user.created"),
            ("{source}.{type}-{id}{id}", "clerk.user.created-msg_1msg_1"),
            ("{{{source}}}", "{clerk}"),
        ] {
            assert_eq!(
                filled(template, &event).as_deref(),
                Some(text),
                "{template}"
            );
        }
    }

    #[test]
    fn what_cannot_be_filled_is_not_a_name() {
        let untyped = Made {
            event_type: None,
            ..event()
        }
        .proven();
        assert_eq!(filled("a.{type}", &untyped), None);
        assert_eq!(filled("a.{source}", &untyped).as_deref(), Some("a.clerk"));
        let long = "x".repeat(250);
        assert_eq!(
            filled(&format!("{long}{{source}}"), &untyped)
                .unwrap()
                .len(),
            255
        );
        assert_eq!(filled(&format!("{long}-{{source}}"), &untyped), None);
    }

    #[test]
    fn an_event_without_a_proof_is_known_by_its_request() {
        let event = event().unproven(true);
        let request = event.origin().request.as_str().to_owned();
        assert_eq!(filled("{id}", &event), Some(request));
    }

    #[test]
    fn a_mistake_in_a_template_is_told() {
        for (template, told) in [
            ("{", "`{` that is not closed"),
            ("a{type", "`{` that is not closed"),
            ("}", "`}` that closes nothing"),
            ("{type}}", "`}` that closes nothing"),
            ("{kind}", "none of the three"),
            ("{}", "none of the three"),
            ("{ type }", "none of the three"),
            (&"x".repeat(256), "255 bytes"),
        ] {
            let problem = Template::parse(template).unwrap_err();
            assert!(problem.contains(told), "{template}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_a_problem_and_never_a_panic(
            text in "[{}a-z \u{e4}\u{1f980}]{0,40}"
        ) {
            if let Ok(template) = Template::parse(&text) {
                template.fill(&event().proven());
            }
        }
    }
}
