//! Connections to a message broker that speaks AMQP 0-9-1 (RabbitMQ): which nodes it
//! has, how they are reached and proven, how a connection is opened and ended, and how long
//! is waited before the next.
//!
//! What is published or consumed over it is the business of the rooms above. What
//! comes over it is mended or refused before lapin reads it (`guard`, `mend`, `refuse`):
//! nobody who may publish can end a connection with what he writes, and nobody at all,
//! not even who is taken for the broker, the process.

mod backoff;
mod broker;
mod connect;
mod guard;
mod mend;
mod node;
mod refuse;

pub use backoff::Backoff;
pub use broker::{BrokerConfig, ClientCertificate};
pub use connect::{Connector, Link, told};
pub use node::Node;

/// The longest name AMQP can carry (bytes).
pub const LONGEST: usize = 255;
