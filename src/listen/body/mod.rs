mod gathered;
mod pace;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use tokio::time::Instant;

use super::incoming::{Coming, Kind};
use super::{BufferBudget, Connection, Held, Incoming};
use gathered::Gathered;
use pace::Pace;

/// What a body is held to.
#[derive(Clone, Copy, Debug)]
pub struct BodyRules {
    /// The largest body (bytes).
    pub max_body: usize,
    /// How long it may take to come.
    pub timeout: Duration,
    /// When the request as a whole runs out of time.
    pub deadline: Instant,
}

/// A body read whole, with its share of the budget: keep them together.
pub struct Body {
    /// The very bytes.
    pub bytes: Bytes,
    /// The share of the budget they take.
    pub held: Held,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is over the limit.
    TooLarge,
    /// It did not come in time.
    Slow,
    /// There is no memory left for it.
    Busy,
    /// The sender went away, or its framing is not HTTP.
    Broken,
}

/// Reads the body of the present request of `connection` to its end.
///
/// # Errors
/// When it is too large (told before a byte is read where its length is known),
/// too slow, when `budget` has no room, or when the sender breaks off. The rest
/// of it then stays unread, and the connection closes after the answer.
pub async fn read_body(
    body: Incoming,
    connection: &Connection,
    rules: BodyRules,
    budget: &BufferBudget,
) -> Result<Body, BodyError> {
    let body = match body.0 {
        Kind::Here(bytes) => here(bytes, rules, budget)?,
        // Boxed, so that a body that is here does not carry their size.
        Kind::Coming(coming) => Box::pin(receive(coming, rules, budget)).await?,
        Kind::Hyper(body) => Box::pin(gather(body, rules, budget)).await?,
    };
    connection.body_ended();
    Ok(body)
}

/// A body that is not wanted is read off up to this length (bytes).
const SHORT: usize = 64 * 1024;

/// Drops a body that is not wanted. Where all of it is already here and it is short,
/// the connection can go on after the answer; nothing is waited for.
pub fn skip_body(body: Incoming, connection: &Connection) {
    let mut cx = Context::from_waker(Waker::noop());
    let whole = match body.0 {
        Kind::Here(_) => true,
        // A long one is not worth it: reading it would be work for a stranger.
        Kind::Coming(coming) if coming.left() > SHORT as u64 => false,
        Kind::Coming(mut coming) => {
            let mut space = Vec::with_capacity(SHORT);
            while coming.left() > 0
                && matches!(
                    coming.poll_more(&mut cx, &mut space, SHORT),
                    Poll::Ready(Ok(_))
                )
            {
                space.clear();
            }
            coming.left() == 0
        }
        Kind::Hyper(mut body) => loop {
            if body.is_end_stream() {
                break true;
            }
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => break true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => break false,
            }
        },
    };
    if whole {
        connection.body_ended();
    }
}

/// A body that came along with its head. It is in memory already, in what the
/// connection read first: it is counted, and never refused for want of memory.
fn here(bytes: Bytes, rules: BodyRules, budget: &BufferBudget) -> Result<Body, BodyError> {
    if bytes.len() > rules.max_body {
        return Err(BodyError::TooLarge);
    }
    let held = budget.hold(bytes.len());
    Ok(Body { bytes, held })
}

/// Reads a body of known length from the connection into its place.
async fn receive(
    mut coming: Coming,
    rules: BodyRules,
    budget: &BufferBudget,
) -> Result<Body, BodyError> {
    let mut gathered = Gathered::new(Some(coming.left()), rules, budget)?;
    let mut pace = Pace::new(rules);
    while coming.left() > 0 {
        gathered.make_room(1)?;
        let room = gathered.room();
        let more = pace.keep(|cx| coming.poll_more(cx, &mut gathered.bytes, room));
        let more = more.await?.map_err(|_| BodyError::Broken)?;
        pace.received += more as u64;
    }
    Ok(gathered.whole())
}

/// Puts a body together from the pieces it comes in.
async fn gather<B>(mut body: B, rules: BodyRules, budget: &BufferBudget) -> Result<Body, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut gathered = Gathered::new(body.size_hint().exact(), rules, budget)?;
    let mut pace = Pace::new(rules);
    let Some(first) = next(&mut body, &mut pace).await? else {
        return gathered.only(Bytes::new());
    };
    let Some(second) = next(&mut body, &mut pace).await? else {
        // One piece is used as it is, without a copy.
        return gathered.only(first);
    };
    // Several pieces are copied together once, because signature and upstream
    // want one run of bytes.
    gathered.add(&first)?;
    // A piece pins the connection's read buffer: let go of it now.
    drop(first);
    gathered.add(&second)?;
    drop(second);
    while let Some(piece) = next(&mut body, &mut pace).await? {
        gathered.add(&piece)?;
    }
    Ok(gathered.whole())
}

/// The next piece of a body, in time.
async fn next<B>(body: &mut B, pace: &mut Pace) -> Result<Option<Bytes>, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    while !body.is_end_stream() {
        let frame = pace.keep(|cx| Pin::new(&mut *body).poll_frame(cx));
        let frame = match frame.await? {
            None => return Ok(None),
            Some(Err(_)) => return Err(BodyError::Broken),
            Some(Ok(frame)) => frame,
        };
        // Anything but data is trailers, which nobody reads.
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            pace.received += data.len() as u64;
            return Ok(Some(data));
        }
    }
    Ok(None)
}
