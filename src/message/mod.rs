//! What travels down the line: a request is [`Received`], proven to be
//! [`Verified`], and, with its type, becomes an [`Event`]. Each can only be made
//! from the one before, so what reaches a destination has been proven.

mod envelope;
mod event;
mod headers;
mod received;

pub use envelope::{Envelope, Family, MessageId, Timestamp};
pub use event::{Event, EventType};
pub use headers::{Found, HeaderText, Headers, is_header_name, is_header_value, write_header};
pub use received::{Origin, Proof, Protocol, Received, RequestId, Verified};
