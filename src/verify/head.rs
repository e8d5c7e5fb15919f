//! The head of a request: which family its signature headers are of, and their form.

use super::{Rejection, tokens};
use crate::message::{Envelope, Family, Found, HeaderText, Headers, MessageId, Timestamp};

/// Reads the three signature headers. One family is used as a whole: `svix-*`
/// if any of the three is there, else `webhook-*` (contract §5, "Header family").
///
/// # Errors
/// What is missing, there twice, mixed or out of its form.
pub(super) fn read(headers: &Headers) -> Result<Envelope, Rejection> {
    let (family, [id, timestamp, signature]) = used(headers)?;
    let id = MessageId::parse(the(id, family.id())?.share()).ok_or(Rejection::BadId)?;
    let timestamp = the(timestamp, family.timestamp())?;
    let timestamp = Timestamp::parse(timestamp.as_bytes()).ok_or(Rejection::BadTimestamp)?;
    let signature = the(signature, family.signature())?;
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
    used(headers).map(|(family, _)| family)
}

/// What there is of each of a family's three headers.
type Three<'h> = [Option<Found<'h>>; 3];

fn used(headers: &Headers) -> Result<(Family, Three<'_>), Rejection> {
    const SVIX: [&str; 3] = Family::Svix.names();
    const WEBHOOK: [&str; 3] = Family::Webhook.names();
    let [a, b, c, d, e, f] = headers.find([
        SVIX[0], SVIX[1], SVIX[2], WEBHOOK[0], WEBHOOK[1], WEBHOOK[2],
    ]);
    let (svix, webhook): (Three<'_>, Three<'_>) = ([a, b, c], [d, e, f]);
    let any = |three: &Three<'_>| three.iter().any(Option::is_some);
    let whole = |three: &Three<'_>| three.iter().all(Option::is_some);
    if whole(&svix) {
        return Ok((Family::Svix, svix));
    }
    let (family, found) = match (any(&svix), any(&webhook)) {
        (true, true) => return Err(Rejection::MixedFamily),
        (true, false) => (Family::Svix, svix),
        (false, true) => (Family::Webhook, webhook),
        (false, false) => return Err(Rejection::Unsigned),
    };
    match found.iter().position(Option::is_none) {
        Some(missing) => Err(Rejection::MissingHeader(family.names()[missing])),
        None => Ok((family, found)),
    }
}

/// The one value of a header.
fn the<'h>(found: Option<Found<'h>>, name: &'static str) -> Result<HeaderText<'h>, Rejection> {
    match found {
        None => Err(Rejection::MissingHeader(name)),
        Some(found) if found.more => Err(Rejection::DuplicateHeader(name)),
        Some(found) => Ok(found.first),
    }
}
