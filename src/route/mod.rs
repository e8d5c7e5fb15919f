//! Which destinations an event goes to.
//!
//! A route takes events by their type. The rules of one source are compiled
//! into a [`Router`] when the configuration is loaded, so that asking for a
//! [`Plan`] costs a look-up or two, however many rules there are that do not
//! match.

mod config;
mod pattern;
mod router;
#[cfg(test)]
mod tests;
mod trie;

pub use config::RouteConfig;
pub use pattern::Pattern;
pub use router::{Plan, Router, Rule};
