//! Where messages come in: a sender with its path, and how the type of its
//! events is told.

mod config;
mod event_type;
mod json;
mod pointer;
#[cfg(test)]
mod tests;

pub use config::{SourceConfig, Unmatched, WayIn};
pub use event_type::TypeRule;
