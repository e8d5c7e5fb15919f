//! How requests come in: bind, accept, keep every connection to its deadlines,
//! read bodies inside their limits, and stop without cutting anybody short.
//!
//! [`Listener::bind`] takes the address and [`serve`] answers on it, with any
//! tower service, made for each [`Connection`]. What the service sees is only
//! requests whose head came whole and in time; it reads the body with
//! [`read_body`], which keeps size, pace and the shared [`BufferBudget`], and
//! learns from [`Sender`] who is there behind the proxies. A usual request is read in
//! `usual`, any other by hyper. [`Workers`] are the
//! threads that connections are served on. [`Stop`] ends it all in stages.
//!
//! | danger | what bounds it |
//! |---|---|
//! | a sender that says nothing, or a head that drips | `header_timeout`, from the accept or the head's first byte |
//! | a connection kept open for nothing | `idle_timeout` between requests |
//! | a body that drips | `body_timeout`, and 16 KiB/s after its first 2 s |
//! | a sender that does not read its answer | 10 s without progress |
//! | many connections | `max_connections`; further ones wait in the kernel's queue, and those that have proven nothing are not kept while it is full, nor is their silence for longer than `crowded_timeout` |
//! | many large bodies | `max_buffered`, taken before a byte is read, and no more than twice what has come |
//! | no descriptors left | a pause before the next accept, and [`raise_open_files`] |

mod accept;
mod address;
mod body;
mod budget;
mod config;
mod connection;
mod guest;
mod incoming;
mod io;
mod open_files;
mod request;
mod response;
mod room;
mod sender;
mod serve;
mod stop;
mod stream;
mod tls;
mod usual;
mod workers;

pub use address::{Address, Listener};
pub use body::{Body, BodyError, BodyRules, read_body, skip_body};
pub use budget::{BufferBudget, Held};
pub use config::ServerConfig;
pub use connection::{Connection, Limits};
pub use incoming::Incoming;
pub use open_files::raise_open_files;
pub use request::{Request, Target};
pub use response::Response;
pub use sender::Sender;
pub use serve::{Door, ServeOptions, serve};
pub use stop::Stop;
pub use tls::Tls;
pub use workers::{Crew, Workers};

#[cfg(test)]
mod tests;
