//! The head of a request: which family its signature headers are of, and their form.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Rejection, tokens};
use crate::message::{Envelope, Family, MessageId, Timestamp};

/// Reads the three signature headers. One family is used as a whole: `svix-*`
/// if any of the three is there, else `webhook-*` (contract §5, "Header family").
///
/// # Errors
/// What is missing, there twice, mixed or out of its form.
pub(super) fn read(headers: &HeaderMap) -> Result<Envelope, Rejection> {
    let family = family(headers)?;
    let [id, timestamp, signature] = names(family);
    let id = MessageId::parse(the(headers, id, family.id())?).ok_or(Rejection::BadId)?;
    let timestamp = Timestamp::parse(the(headers, timestamp, family.timestamp())?)
        .ok_or(Rejection::BadTimestamp)?;
    let signature = the(headers, signature, family.signature())?;
    tokens::check_form(signature)?;
    Ok(Envelope {
        family,
        id,
        timestamp,
        signature: signature.clone(),
    })
}

/// The family that is used. An incomplete one beside a header of the other is
/// neither: which of them was signed would be a guess.
pub(super) fn family(headers: &HeaderMap) -> Result<Family, Rejection> {
    let there = |family| {
        names(family)
            .each_ref()
            .map(|name| headers.contains_key(name))
    };
    let svix = there(Family::Svix);
    if svix == [true; 3] {
        return Ok(Family::Svix);
    }
    let webhook = there(Family::Webhook);
    let (family, there) = match (svix.contains(&true), webhook.contains(&true)) {
        (true, true) => return Err(Rejection::MixedFamily),
        (true, false) => (Family::Svix, svix),
        (false, true) => (Family::Webhook, webhook),
        (false, false) => return Err(Rejection::Unsigned),
    };
    match there.iter().position(|there| !there) {
        Some(missing) => Err(Rejection::MissingHeader(family.names()[missing])),
        None => Ok(family),
    }
}

/// The one value of a header.
fn the<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    text: &'static str,
) -> Result<&'h HeaderValue, Rejection> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Rejection::MissingHeader(text))?;
    match values.next() {
        Some(_) => Err(Rejection::DuplicateHeader(text)),
        None => Ok(value),
    }
}

/// The names of a family as the map looks them up, made once: a look-up by text
/// would check and lower-case it each time.
fn names(family: Family) -> &'static [HeaderName; 3] {
    static SVIX: [HeaderName; 3] = [
        HeaderName::from_static(Family::Svix.id()),
        HeaderName::from_static(Family::Svix.timestamp()),
        HeaderName::from_static(Family::Svix.signature()),
    ];
    static WEBHOOK: [HeaderName; 3] = [
        HeaderName::from_static(Family::Webhook.id()),
        HeaderName::from_static(Family::Webhook.timestamp()),
        HeaderName::from_static(Family::Webhook.signature()),
    ];
    match family {
        Family::Svix => &SVIX,
        Family::Webhook => &WEBHOOK,
    }
}
