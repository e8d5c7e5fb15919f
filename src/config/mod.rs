//! The document: everything that is configured, read from one file and the
//! environment, checked as a whole, and ready to be built from.
//!
//! [`Config::load`] takes the file as written to a [`Config`] in one pass: each
//! room reads its own section, and what no room can see alone (a route that
//! names a destination) is checked here. Every problem is told at once, none
//! with a value that could be a secret. Nothing is opened and nothing started,
//! so that `hookward check` can stop here.

mod admin;
mod arguments;
mod check;
mod document;
mod environment;
mod load;
mod log;
mod places;
mod queues;
mod read;
mod summary;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use admin::AdminConfig;
pub use arguments::Arguments;
pub use environment::Environment;
pub use load::Origin;
pub use log::{LogConfig, Requests};
pub use summary::Summary;

use crate::consume::QueueConfig;
use crate::deliver::DestinationConfig;
use crate::ledger::LedgerConfig;
use crate::listen::ServerConfig;
use crate::route::{Pattern, Router, Rule};
use crate::setting::Name;
use crate::source::SourceConfig;
use crate::verify::VerifyConfig;

/// A whole configuration, checked: to build from it can fail only at what is
/// outside of it (an address that is taken, a folder that is full).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `server.*`
    pub server: ServerConfig,
    /// `admin.*`
    pub admin: AdminConfig,
    /// `log.*`
    pub log: LogConfig,
    /// `ledger.*`
    pub ledger: LedgerConfig,
    /// `sources.*` in the order of their names; at least one.
    pub sources: Vec<Source>,
    /// `destinations.*` in the order of their names; at least one.
    pub destinations: Vec<DestinationConfig>,
    /// `routes[]`, then those that a source's `to` is short for.
    pub routes: Vec<Route>,
    /// The file it was read from, if there was one.
    pub file: Option<PathBuf>,
    /// The files it hangs on besides: secrets and certificates.
    pub files: Vec<PathBuf>,
}

/// A source: what each room read of `[sources.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its name.
    pub name: Name,
    /// Where and how its messages come in.
    pub source: SourceConfig,
    /// The queue they are taken from, for a source without a path.
    pub queue: Option<QueueConfig>,
    /// How they are proven.
    pub verify: VerifyConfig,
    /// How long after its delivery the same id, signed anew, is a resend that is
    /// delivered again. `None`: never.
    pub resend_after: Option<Duration>,
    /// `event_type` as it was written, for the summary.
    written_type: Option<String>,
}

/// A route: from some sources, by type, to some destinations.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its place in [`Config::routes`]; that of `routes[]` for those of the file.
    pub number: usize,
    /// Where it was written: `routes[2]`, or `sources.clerk.to`.
    pub key: String,
    /// The sources it takes events from, by their place in [`Config::sources`].
    /// Ascending, each once.
    pub sources: Vec<usize>,
    /// The types it takes. Empty: every event, also one without a type.
    pub types: Vec<Pattern>,
    /// The destinations it names, by their place in [`Config::destinations`].
    /// At least one.
    pub to: Vec<usize>,
    /// Whether it is taken only when no other route of the source matched.
    pub otherwise: bool,
}

impl Config {
    /// The router of the source at `source` in [`Config::sources`]; its
    /// destinations are places in [`Config::destinations`].
    pub fn router_of(&self, source: usize) -> Router {
        let rules: Vec<_> = self
            .routes_of(source)
            .map(|route| Rule {
                number: route.number,
                types: &route.types,
                to: &route.to,
                otherwise: route.otherwise,
            })
            .collect();
        Router::compile(&rules)
    }

    /// The sources that read a queue, each taking so few messages at once that their
    /// largest bodies together fit into `server.max_buffered`.
    pub fn queues(&self) -> impl Iterator<Item = (&Name, QueueConfig)> {
        let count = self.sources.iter().filter(|s| s.queue.is_some()).count();
        let memory = self.server.max_buffered.bytes() / count.max(1);
        let max_body = self.server.max_body.bytes();
        self.sources.iter().filter_map(move |source| {
            let queue = source.queue.clone()?;
            Some((&source.name, queue.fitting(max_body, memory)))
        })
    }

    /// The routes that take events from the source at `source` in [`Config::sources`].
    pub fn routes_of(&self, source: usize) -> impl Iterator<Item = &Route> {
        self.routes
            .iter()
            .filter(move |route| route.sources.contains(&source))
    }
}

impl Source {
    /// Where its messages come in: a path, or a queue of a broker.
    pub fn way_in(&self) -> String {
        match (&self.source.path, &self.queue) {
            (Some(path), _) => path.clone(),
            (None, Some(queue)) => queue.to_string(),
            (None, None) => String::new(),
        }
    }

    /// How the type of an event is told, as it is written in the configuration.
    pub fn event_type(&self) -> String {
        self.written_type
            .clone()
            .unwrap_or_else(|| "/type, /eventType, /event_type".to_owned())
    }
}
