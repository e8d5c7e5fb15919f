//! The three headers: is each there, once, and in its form?

use bytes::Bytes;

use super::Finding;
use crate::message::{Family, Headers, MessageId, Timestamp};
use crate::verify::{Rejection, head, tokens};

/// The values that are there, in good form or not.
#[derive(Default)]
pub(super) struct Head {
    pub(super) id: Option<Bytes>,
    pub(super) timestamp: Option<Bytes>,
    pub(super) signature: Option<Bytes>,
}

/// Signature headers of other schemes, and whose they are.
const STRANGERS: [(&str, &str); 8] = [
    ("x-hub-signature-256", "GitHub's or Meta's"),
    ("x-hub-signature", "GitHub's or Meta's"),
    ("stripe-signature", "Stripe's"),
    ("x-slack-signature", "Slack's"),
    ("x-shopify-hmac-sha256", "Shopify's"),
    ("x-twilio-signature", "Twilio's"),
    ("paddle-signature", "Paddle's"),
    ("x-gitlab-token", "GitLab's"),
];

impl Head {
    /// Looks at every header; each that is missing, there twice or out of its
    /// form is a finding.
    pub(super) fn read(headers: &Headers, findings: &mut Vec<Finding>) -> Self {
        let family = match head::family(headers) {
            Ok(family) => family,
            Err(Rejection::Unsigned) => {
                findings.push(unsigned(headers));
                return Self::default();
            }
            Err(Rejection::MixedFamily) => {
                findings.push(Finding::new(
                    "the headers are of two families, and `svix-*` is not complete",
                    "give all of `svix-id`, `svix-timestamp`, `svix-signature`, or only `webhook-*`: \
                     something on the way drops or adds one of them",
                ));
                Family::Svix
            }
            Err(_)
                if Family::Svix
                    .names()
                    .iter()
                    .any(|name| headers.contains(name)) =>
            {
                Family::Svix
            }
            Err(_) => Family::Webhook,
        };
        let head = Self {
            id: the(headers, family.id(), findings),
            timestamp: the(headers, family.timestamp(), findings),
            signature: the(headers, family.signature(), findings),
        };
        head.forms(family, findings);
        head
    }

    fn forms(&self, family: Family, findings: &mut Vec<Finding>) {
        if let Some(id) = &self.id
            && MessageId::parse(id.clone()).is_none()
        {
            findings.push(Finding::new(
                format!(
                    "`{}` is not 1 to 255 visible ASCII characters without `.`",
                    family.id()
                ),
                id_hint(id),
            ));
        }
        if let Some(timestamp) = &self.timestamp
            && Timestamp::parse(timestamp).is_none()
        {
            findings.push(Finding::new(
                format!(
                    "`{}` is not a time in whole Unix seconds",
                    family.timestamp()
                ),
                self.timestamp_hint(timestamp),
            ));
        }
        if let Some(signature) = &self.signature
            && tokens::check_form(signature).is_err()
        {
            findings.push(Finding::new(
                format!(
                    "`{}` is not 1 to 4096 bytes with at most 16 signatures",
                    family.signature()
                ),
                match signature.len() {
                    0 => "it is empty: copy its whole value, which holds a space between two signatures and so needs quotes in a shell",
                    _ => "a sender has no reason for that many: does something on the way append to the header?",
                },
            ));
        }
    }

    fn timestamp_hint(&self, text: &[u8]) -> &'static str {
        let digits = text.iter().all(u8::is_ascii_digit);
        let id_is_time = self
            .id
            .as_ref()
            .is_some_and(|id| Timestamp::parse(id).is_some());
        match text {
            [] => "it is empty: copy its whole value",
            _ if id_is_time => {
                "the id looks like a time: the values of id and timestamp are exchanged"
            }
            [b'0', ..] if digits => "drop the leading zeros",
            _ if digits && text.len() == 13 => {
                "it is in milliseconds: the sender has to sign and send whole seconds (divide by 1000)"
            }
            _ if digits => {
                "it is in a finer unit than seconds: the sender has to sign and send whole seconds"
            }
            _ if text.contains(&b'-') || text.contains(&b':') => {
                "it is a date: the sender has to sign and send Unix seconds, as in `1731705121`"
            }
            _ if text.contains(&b'.') => "drop the fraction: the sender has to sign whole seconds",
            _ => "it looks like `1731705121`: digits alone, without quotes or sign",
        }
    }
}

fn id_hint(id: &[u8]) -> &'static str {
    match id {
        [] => "it is empty: copy its whole value",
        _ if id.contains(&b'.') => {
            "a `.` in an id would let `id.timestamp.body` be cut anew: let the sender use ids without one"
        }
        _ if id.len() > 255 => "let the sender use shorter ids",
        _ => {
            "drop spaces and letters outside ASCII: let the sender use ids like `msg_2KWPBgLlAfxdpx2AI54pPJ85f4W`"
        }
    }
}

/// The one value of a header.
fn the(headers: &Headers, name: &str, findings: &mut Vec<Finding>) -> Option<Bytes> {
    let mut values = headers.all(name);
    let Some(value) = values.next() else {
        findings.push(Finding::new(
            format!("`{name}` is missing"),
            "the three headers are sent together: give all of them, and see whether a proxy on the way drops one",
        ));
        return None;
    };
    if values.next().is_some() {
        findings.push(Finding::new(
            format!("`{name}` is there more than once"),
            "something on the way adds it again: it has to be there once",
        ));
    }
    Some(value.share())
}

fn unsigned(headers: &Headers) -> Finding {
    let problem = "there are no signature headers";
    for (name, whose) in STRANGERS {
        if headers.contains(name) {
            return Finding::new(
                problem,
                format!(
                    "`{name}` is {whose} own scheme, and hookward verifies Standard Webhooks: \
                     `svix-id`, `svix-timestamp`, `svix-signature` (or `webhook-*`)"
                ),
            );
        }
    }
    let with_underscore = headers
        .iter()
        .any(|(name, _)| name.contains("svix_") || name.contains("webhook_"));
    if with_underscore {
        return Finding::new(
            problem,
            "they are written with `_`, as CGI and WSGI hand them on: give them as they were sent, \
             `svix-id`, `svix-timestamp`, `svix-signature`",
        );
    }
    Finding::new(
        problem,
        "give `svix-id`, `svix-timestamp` and `svix-signature` (or `webhook-*`), each as \
         `--header 'svix-id: …'`; if they did not arrive, a proxy drops them or the sender does not sign",
    )
}
