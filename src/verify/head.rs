//! The head of a request: which family its signature headers are of, and their form.

use super::{Rejection, tokens};
use crate::message::{Envelope, Family, HeaderText, Headers, MessageId, Timestamp};

/// Reads the three signature headers. One family is used as a whole: `svix-*`
/// if any of the three is there, else `webhook-*` (contract §5, "Header family").
///
/// # Errors
/// What is missing, there twice, mixed or out of its form.
pub(super) fn read(headers: &Headers) -> Result<Envelope, Rejection> {
    let family = family(headers)?;
    let id = MessageId::parse(the(headers, family.id())?.share()).ok_or(Rejection::BadId)?;
    let timestamp = the(headers, family.timestamp())?;
    let timestamp = Timestamp::parse(timestamp.as_bytes()).ok_or(Rejection::BadTimestamp)?;
    let signature = the(headers, family.signature())?;
    tokens::check_form(signature.as_bytes())?;
    Ok(Envelope {
        family,
        id,
        timestamp,
        signature: signature.share(),
    })
}

/// The family that is used. An incomplete one beside a header of the other is
/// neither: which of them was signed would be a guess.
pub(super) fn family(headers: &Headers) -> Result<Family, Rejection> {
    let there = |family: Family| family.names().map(|name| headers.contains(name));
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
fn the<'h>(headers: &'h Headers, name: &'static str) -> Result<HeaderText<'h>, Rejection> {
    let mut values = headers.all(name);
    let value = values.next().ok_or(Rejection::MissingHeader(name))?;
    match values.next() {
        Some(_) => Err(Rejection::DuplicateHeader(name)),
        None => Ok(value),
    }
}
