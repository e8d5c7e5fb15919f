use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use http::{HeaderName, HeaderValue};

use super::print::{Complaint, Print};
use crate::key::{self, MOST_SIGNATURES, Scheme, SigningKey};
use crate::message::{EventType, Family, MessageId, Timestamp};
use crate::setting::{Secret, SecretReader};

/// Signs messages as a sender does.
pub(super) struct Signer {
    keys: Vec<SigningKey>,
    family: Family,
}

impl Signer {
    /// Signs with every symmetric key that `reference` holds, as Svix does while
    /// a secret rotates.
    pub(super) fn new(reference: &str, family: Family) -> Result<Self, Complaint> {
        let mut keys = keys(&secret("--secret", reference)?)?;
        keys.retain(|key| key.scheme() == Scheme::V1);
        if keys.is_empty() {
            return Err(Complaint::usage(
                "`--secret` holds a public key (`whpk_`), which cannot sign",
            )
            .hint("sign with a `whsec_` secret; a public key is for `hookward verify`"));
        }
        if keys.len() > MOST_SIGNATURES {
            return Err(Complaint::usage(format!(
                "`--secret` holds {} keys, and a request carries at most {MOST_SIGNATURES} signatures",
                keys.len()
            )));
        }
        Ok(Self { keys, family })
    }

    /// The same, warning of a short key.
    pub(super) fn told(
        reference: &str,
        family: Family,
        print: &mut Print<'_>,
    ) -> Result<Self, Complaint> {
        let signer = Self::new(reference, family)?;
        warn_of_short(&signer.keys, print);
        Ok(signer)
    }

    /// The three headers of a message, in the order senders write them.
    pub(super) fn headers(
        &self,
        id: &MessageId,
        timestamp: &Timestamp,
        body: &[u8],
    ) -> [(HeaderName, HeaderValue); 3] {
        let signatures = key::sign_with(&self.keys, id.as_str(), timestamp.seconds(), body);
        let header = |name, text: &str| {
            // Visible ASCII, and spaces between signatures, are always a header value.
            let value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
            (HeaderName::from_static(name), value)
        };
        [
            header(self.family.id(), id.as_str()),
            header(self.family.timestamp(), timestamp.as_str()),
            header(self.family.signature(), &signatures),
        ]
    }
}

/// The keys that `secret`, given as `--secret`, holds.
pub(super) fn keys(secret: &Secret) -> Result<Vec<SigningKey>, Complaint> {
    SigningKey::parse_all(secret.expose().unwrap_or_default()).map_err(|problem| {
        Complaint::usage(format!("`--secret` {problem}")).hint(format!(
            "{}; name one kept elsewhere as `env:NAME` or `file:/path`",
            key::FORM
        ))
    })
}

/// Warns of a key, given as `--secret`, that the server takes with a warning too.
pub(super) fn warn_of_short(keys: &[SigningKey], print: &mut Print<'_>) {
    if let Some((warning, hint)) = key::warning(keys) {
        print.note(format_args!("warning: `--secret` {warning}\nhint: {hint}"));
    }
}

/// The secret that `reference` names, given as `argument`.
pub(super) fn secret(argument: &str, reference: &str) -> Result<Secret, Complaint> {
    Secret::read(reference, Path::new(""), SecretReader::Process)
        .map_err(|problem| Complaint::usage(format!("`{argument}` {problem}")))
}

/// A new message id as Svix makes them: `msg_` and 27 letters and digits.
pub(super) fn new_id() -> MessageId {
    let text: String = "msg_"
        .chars()
        .chain(std::iter::repeat_with(fastrand::alphanumeric).take(27))
        .collect();
    match id(&text) {
        Ok(id) => id,
        Err(_) => unreachable!("letters and digits are an id"),
    }
}

/// Takes an id given as `--id`; for clap.
pub(super) fn id(text: &str) -> Result<MessageId, String> {
    MessageId::parse(text.to_owned().into())
        .ok_or_else(|| "an id is 1 to 255 visible ASCII characters without `.`".into())
}

/// Takes a timestamp given as `--timestamp`; for clap.
pub(super) fn timestamp(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text.as_bytes()).ok_or_else(|| {
        "a timestamp is seconds since the Unix epoch, 1 to 12 digits without a leading zero".into()
    })
}

/// The timestamp of a message signed at `time`.
pub(super) fn timestamp_of(time: SystemTime) -> Result<Timestamp, Complaint> {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    timestamp(&seconds.to_string())
        .map_err(|_| Complaint::usage("that time cannot be signed: it is not after 1970"))
}

/// Takes the type of an event; for clap.
pub(super) fn event_type(text: &str) -> Result<EventType, String> {
    EventType::from_text(text).ok_or_else(|| {
        "a type is 1 to 255 characters of printable ASCII, no space at either end".into()
    })
}

/// Takes `svix` or `webhook`; for clap.
pub(super) fn family() -> impl TypedValueParser<Value = Family> {
    PossibleValuesParser::new(["svix", "webhook"]).map(|text| match text.as_str() {
        "webhook" => Family::Webhook,
        _ => Family::Svix,
    })
}

/// Takes a duration; for clap.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|_| "a duration is a number and a unit, as in `100ms`, `5s`, `2m`, `34h`".into())
}

/// Takes a moment, in seconds since the Unix epoch or RFC 3339; for clap.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    let form = || "a moment is seconds since the Unix epoch, or RFC 3339".to_owned();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = text.parse().map_err(|_| form())?;
        let moment = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        return moment.ok_or_else(form);
    }
    let moment: jiff::Timestamp = text.parse().map_err(|_| form())?;
    Ok(moment.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const NEW: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const PUBLIC: &str = "whpk_C9IYaUrZ7DNSCaF2MCZHzfnoN3idJmt78HhM2ey8gyI=";

    #[test]
    fn every_symmetric_key_signs_newest_first_while_a_secret_rotates() {
        let both = Signer::new(&format!("{NEW} {PUBLIC} {OLD}"), Family::Webhook).unwrap();
        let sign = |signer: &Signer| {
            let [_, _, (name, value)] = signer.headers(
                &id("msg_1").unwrap(),
                &timestamp("1649367553").unwrap(),
                b"{}",
            );
            (name, value.to_str().unwrap().to_owned())
        };
        let alone = |key| sign(&Signer::new(key, Family::Webhook).unwrap()).1;
        let (name, value) = sign(&both);
        assert_eq!(name, "webhook-signature");
        assert_eq!(value, format!("{} {}", alone(NEW), alone(OLD)));
    }

    #[test]
    fn a_public_key_cannot_sign_and_the_way_out_is_told() {
        let Err(refused) = Signer::new(PUBLIC, Family::Svix) else {
            panic!("a public key signed");
        };
        let told = refused.to_string();
        assert!(
            told.contains("cannot sign") && told.contains("hint: "),
            "{told}"
        );
    }

    #[test]
    fn more_keys_than_a_request_carries_signatures_are_refused() {
        let many = vec![NEW; MOST_SIGNATURES + 1].join(" ");
        assert!(Signer::new(&many, Family::Svix).is_err());
    }

    #[test]
    fn a_bad_secret_is_refused_without_being_printed() {
        let refused = keys(&secret("--secret", "whsec_not base64 hush!").unwrap()).unwrap_err();
        assert_eq!(refused.exit().code(), 64);
        assert!(!refused.to_string().contains("hush"));
        let refused = secret("--secret", "env:HOOKWARD_TEST_UNSET")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("`HOOKWARD_TEST_UNSET`, which is not set"));
    }

    #[test]
    fn a_moment_is_unix_seconds_or_rfc_3339() {
        let expected = UNIX_EPOCH + Duration::from_secs(1_649_367_553);
        assert_eq!(moment("1649367553"), Ok(expected));
        assert_eq!(moment("2022-04-07T21:39:13Z"), Ok(expected));
        for bad in ["", "yesterday", "-1", "99999999999999999999"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_id_is_of_svixs_form_and_another_each_time() {
        let (one, two) = (new_id(), new_id());
        assert_eq!(one.as_str().len(), 31);
        assert!(one.as_str().starts_with("msg_"));
        assert_ne!(one, two);
    }
}
