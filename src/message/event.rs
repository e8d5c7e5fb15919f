use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use super::Verified;

/// The type of an event: 1 to 255 bytes of printable ASCII, no space at either
/// end. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventType(Bytes);

impl EventType {
    /// Takes a type as it stood in the body or a header; its bytes are not copied.
    ///
    /// # Errors
    /// `None` when it is not of the form of a type.
    pub fn parse(text: Bytes) -> Option<Self> {
        Self::is_type(&text).then_some(Self(text))
    }

    /// Takes a type from a text, which is copied.
    ///
    /// # Errors
    /// `None` when it is not of the form of a type.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::is_type(text.as_bytes()).then(|| Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn is_type(bytes: &[u8]) -> bool {
        (1..=255).contains(&bytes.len())
            && bytes.iter().all(|b| (b' '..=b'~').contains(b))
            && bytes.first() != Some(&b' ')
            && bytes.last() != Some(&b' ')
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        // Printable ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same as bytes, which need not be looked at for that.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A message with its type: what destinations take, and nothing else is.
/// Everything of the [`Verified`] message can be read from it.
pub struct Event {
    message: Verified,
    event_type: Option<EventType>,
    resend: bool,
}

impl Event {
    /// Makes an event of a proven message. `resend` tells that the sender
    /// deliberately sent again what was delivered before.
    pub fn new(message: Verified, event_type: Option<EventType>, resend: bool) -> Self {
        Self {
            message,
            event_type,
            resend,
        }
    }

    /// Its type, if it has one.
    pub fn event_type(&self) -> Option<&EventType> {
        self.event_type.as_ref()
    }

    /// Whether it was delivered before and is sent again on purpose.
    pub fn is_resend(&self) -> bool {
        self.resend
    }
}

impl Deref for Event {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_printable_ascii_without_a_space_at_either_end() {
        for good in ["a", "user.created", "a b", &"t".repeat(255)] {
            assert!(EventType::from_text(good).is_some(), "{good}");
        }
        for bad in ["", " a", "a ", "a\tb", "ä", &"t".repeat(256)] {
            assert!(EventType::from_text(bad).is_none(), "{bad}");
        }
    }
}
