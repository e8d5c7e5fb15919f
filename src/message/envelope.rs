use std::fmt;

use bytes::Bytes;

/// Which names the three signature headers of a message carry. A request uses
/// one family as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `svix-id`, `svix-timestamp`, `svix-signature`
    Svix,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature` (Standard Webhooks)
    Webhook,
}

impl Family {
    /// Both, in the order in which they are looked for.
    pub const ALL: [Family; 2] = [Family::Svix, Family::Webhook];

    /// The header that carries the message id, lower case.
    pub const fn id(self) -> &'static str {
        match self {
            Family::Svix => "svix-id",
            Family::Webhook => "webhook-id",
        }
    }

    /// The header that carries the signed time, lower case.
    pub const fn timestamp(self) -> &'static str {
        match self {
            Family::Svix => "svix-timestamp",
            Family::Webhook => "webhook-timestamp",
        }
    }

    /// The header that carries the signatures, lower case.
    pub const fn signature(self) -> &'static str {
        match self {
            Family::Svix => "svix-signature",
            Family::Webhook => "webhook-signature",
        }
    }

    /// The three of them.
    pub const fn names(self) -> [&'static str; 3] {
        [self.id(), self.timestamp(), self.signature()]
    }
}

/// The id a sender gave a message: 1 to 255 visible ASCII characters without
/// `.`, which would let the signed text `id.timestamp.body` be cut anew.
/// Cloning shares the text.
///
/// One out of a request shares its bytes with all headers of it ([`Headers`]), and so
/// keeps them in memory: who remembers it past the event keeps a digest or a copy.
///
/// [`Headers`]: super::Headers
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MessageId(Bytes);

impl MessageId {
    /// Takes an id as it stood in the header; its bytes are not copied.
    ///
    /// # Errors
    /// `None` when it is not of the form of an id.
    pub fn parse(text: Bytes) -> Option<Self> {
        let good = (1..=255).contains(&text.len())
            && text.iter().all(|&b| b.is_ascii_graphic() && b != b'.');
        good.then_some(Self(text))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        // Visible ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same as bytes, which need not be looked at for that.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The time a sender signed: `[1-9][0-9]{0,11}`, seconds since the Unix epoch.
/// Keeps the text as it was signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// The digits, and zeros behind them.
    text: [u8; LONGEST],
    length: u8,
    seconds: u64,
}

/// The most digits of a timestamp.
const LONGEST: usize = 12;

impl Timestamp {
    /// Takes a timestamp as it stood in the header.
    ///
    /// # Errors
    /// `None` when it is not of the form of a timestamp.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if !(1..=LONGEST).contains(&bytes.len()) || bytes[0] == b'0' {
            return None;
        }
        let mut text = [0; LONGEST];
        let mut seconds = 0u64;
        for (&byte, digit) in bytes.iter().zip(&mut text) {
            if !byte.is_ascii_digit() {
                return None;
            }
            *digit = byte;
            seconds = seconds * 10 + u64::from(byte - b'0');
        }
        Some(Self {
            text,
            length: bytes.len() as u8,
            seconds,
        })
    }

    /// Seconds since the Unix epoch (UTC).
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// The text as it was signed.
    pub fn as_str(&self) -> &str {
        // ASCII digits by construction.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The same as bytes, which need not be looked at for that.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.seconds, f)
    }
}

/// The three signature headers of a request, in good form and not yet proven.
#[derive(Clone)]
pub struct Envelope {
    /// The family all three came from.
    pub family: Family,
    /// The message id.
    pub id: MessageId,
    /// The signed time.
    pub timestamp: Timestamp,
    /// The signatures as sent: 1 to 4096 bytes, at most 16 tokens.
    pub signature: Bytes,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("family", &self.family)
            .field("id", &self.id)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(bytes: &[u8]) -> Option<MessageId> {
        MessageId::parse(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn an_id_is_visible_ascii_without_a_dot() {
        for good in ["m", "msg_2x:/+=~!", &"i".repeat(255)] {
            assert!(id(good.as_bytes()).is_some());
        }
        for bad in [
            "".as_bytes(),
            b"a.b",
            b"a b",
            b"a\tb",
            "ä".as_bytes(),
            &[b'i'; 256],
        ] {
            assert!(id(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_timestamp_is_digits_without_a_leading_zero() {
        for (good, seconds) in [
            ("1", 1),
            ("1649367553", 1_649_367_553),
            ("999999999999", 999_999_999_999),
        ] {
            let parsed = Timestamp::parse(good.as_bytes()).unwrap();
            assert_eq!((parsed.seconds(), parsed.as_str()), (seconds, good));
        }
        for bad in [
            "",
            "0",
            "01",
            "-1",
            "+1",
            "1.5",
            "1e3",
            " 1",
            "1000000000000",
        ] {
            assert!(Timestamp::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
