use bytes::Bytes;

use super::{Body, BodyError, BodyRules};
use crate::listen::{BufferBudget, Held};

/// What a body takes before any of it has come, unless it is shorter (bytes): so
/// little that 10 000 strangers who only announce one do not fill the budget.
const FIRST: usize = 16 * 1024;

/// A body of this length or less (bytes) is never refused for want of memory, but
/// counted: whether it came along with its head is up to the network, and all
/// connections together have no more than one each.
const SMALL: usize = 4 * 1024;

/// A body as far as it has come, and the share of the budget that its place takes.
pub(super) struct Gathered {
    pub(super) bytes: Vec<u8>,
    held: Held,
    /// What it is to become, or the most that it may.
    length: usize,
    is_known: bool,
}

impl Gathered {
    /// A place for a body whose length may be `known` (bytes).
    pub(super) fn new(
        known: Option<u64>,
        rules: BodyRules,
        budget: &BufferBudget,
    ) -> Result<Self, BodyError> {
        let length = match known {
            Some(length) => usize::try_from(length)
                .ok()
                .filter(|length| *length <= rules.max_body)
                .ok_or(BodyError::TooLarge)?,
            None => rules.max_body,
        };
        // A body that would not fit is refused at once. One that would is only
        // announced yet: a stranger who sends none of it takes little from the others.
        let first = FIRST.min(length);
        let announced = known.map_or(first, |_| length);
        let mut held = match announced <= SMALL {
            true => budget.hold(announced),
            false => budget.take(announced).ok_or(BodyError::Busy)?,
        };
        held.shrink(first);
        Ok(Self {
            bytes: Vec::new(),
            held,
            length,
            is_known: known.is_some(),
        })
    }

    /// Makes room for `more` (bytes).
    pub(super) fn make_room(&mut self, more: usize) -> Result<(), BodyError> {
        let needed = self.bytes.len() + more;
        if needed > self.length {
            return Err(BodyError::TooLarge);
        }
        if needed > self.held.bytes() {
            // Never more than twice what has come, known length or not: who is to
            // hold much of the budget has to send it.
            let doubled = self.held.bytes().saturating_mul(2);
            let size = needed.max(doubled).min(self.length);
            if !self.held.grow(size - self.held.bytes()) {
                return Err(BodyError::Busy);
            }
        }
        if needed > self.bytes.capacity() {
            // What nothing was written to yet is no memory, only addresses. So where the
            // length is known, the second place is the last, and little is copied. Else
            // doubling copies each byte about once; growing by a fixed step would copy a
            // large body over and over.
            let size = match self.is_known && !self.bytes.is_empty() {
                true => self.length,
                false => self.held.bytes(),
            };
            self.bytes.reserve_exact(size - self.bytes.len());
        }
        Ok(())
    }

    /// How much may come until room is to be made again (bytes).
    pub(super) fn room(&self) -> usize {
        self.held.bytes().min(self.bytes.capacity()) - self.bytes.len()
    }

    pub(super) fn add(&mut self, piece: &Bytes) -> Result<(), BodyError> {
        self.make_room(piece.len())?;
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The body, when this one piece is all of it.
    pub(super) fn only(mut self, bytes: Bytes) -> Result<Body, BodyError> {
        if bytes.len() > self.length {
            return Err(BodyError::TooLarge);
        }
        let held = self.held.bytes();
        if held < bytes.len() && !self.held.grow(bytes.len() - held) {
            return Err(BodyError::Busy);
        }
        self.held.shrink(bytes.len());
        Ok(Body {
            bytes,
            held: self.held,
        })
    }

    pub(super) fn whole(self) -> Body {
        Body {
            bytes: self.bytes.into(),
            held: self.held,
        }
    }
}
