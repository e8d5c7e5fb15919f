use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::config::{self, Config};
use crate::deliver::{Destination, DestinationConfig, Means};
use crate::gateway::{Gateway, Limits, Shared, Slots, Source, Target};
use crate::observe::{Limited, Metrics};
use crate::setting::{OffOr, Place, Problem, Problems, Severity};
use crate::verify::{Verifier, VerifyKeys};

/// A configuration and what was built from it.
pub(super) struct Current {
    pub(super) config: Config,
    pub(super) gateway: Arc<Gateway>,
    /// In the order of `config.destinations`.
    pub(super) destinations: Vec<Arc<Destination>>,
}

impl Current {
    /// Shouts about what is dangerous and allowed.
    pub(super) fn tell_dangers(&self) {
        for source in &self.config.sources {
            if matches!(source.verify.keys, VerifyKeys::DangerouslyUnverified) {
                tracing::warn!(
                    source = source.name.as_str(),
                    "THIS SOURCE IS OPEN: `dangerously-unverified` lets everybody in, and nothing is deduplicated"
                );
            }
        }
    }

    /// Tells what of a new configuration only a restart brings into force.
    pub(super) fn tell_restarts(&self, old: &Config) {
        if self.config.log.options.format != old.log.options.format {
            tracing::warn!("`log.format` takes effect at the next start");
        }
        let prefix = |config: &Config| config.ledger.redis.as_ref().map(|r| r.prefix.clone());
        if prefix(&self.config) != prefix(old) {
            tracing::warn!(
                "whether there is a `ledger.redis`, and its `prefix`, take effect at the next start"
            );
        }
        if self.config.ledger.journal != old.ledger.journal {
            tracing::warn!(
                "`ledger.journal` takes effect at the next start; until then the ledger stays where it is"
            );
        }
    }

    /// Puts the sources' shares of the requests under way into force.
    pub(super) fn share(&self) {
        let gateway = &self.gateway;
        for written in &self.config.sources {
            let source = match &written.source.path {
                Some(path) => gateway.sources.get(path),
                None => gateway.queues.get(&written.name.shared()),
            };
            if let Some(source) = source
                && let Some(slots) = &source.in_flight
                && let Some(limit) = at_once(written, &source.destinations)
            {
                slots.set_limit(limit);
            }
        }
    }

    /// Shows in the metrics what is configured from now on, and no more what of
    /// `old` no longer is.
    pub(super) fn show(&self, old: Option<&Config>, metrics: &Metrics) {
        for source in &self.config.sources {
            match source.source.expect_every {
                Some(interval) => metrics.expect_every(source.name.as_str(), interval),
                None => metrics.expect_nothing(source.name.as_str()),
            }
        }
        let (server, ledger) = (&self.config.server, &self.config.ledger);
        metrics.show_limit(Limited::InFlight, server.max_in_flight);
        metrics.show_limit(Limited::BufferedBytes, server.max_buffered.bytes());
        let entries = usize::try_from(ledger.max_entries).unwrap_or(usize::MAX);
        metrics.show_limit(Limited::LedgerEntries, entries);
        let Some(old) = old else { return };
        for gone in &old.sources {
            let name = gone.name.as_str();
            let mut sources = self.config.sources.iter();
            let keys = match sources.find(|source| source.name == gone.name) {
                Some(source) => names(&source.verify.keys),
                None => {
                    metrics.retire_source(name);
                    Vec::new()
                }
            };
            for key in names(&gone.verify.keys) {
                if !keys.contains(&key) {
                    metrics.retire_key(name, key);
                }
            }
        }
        for gone in &old.destinations {
            let mut destinations = self.config.destinations.iter();
            if !destinations.any(|destination| destination.name == gone.name) {
                metrics.retire_destination(gone.name.as_str());
            }
        }
    }
}

fn names(keys: &VerifyKeys) -> Vec<&str> {
    match keys {
        VerifyKeys::DangerouslyUnverified => Vec::new(),
        VerifyKeys::Keys(keys) => keys.iter().map(|key| &*key.name).collect(),
    }
}

/// Builds a whole gateway. Destinations whose configuration did not change are
/// taken over from the previous one, with their connections.
///
/// # Errors
/// Every destination that cannot be built.
pub(super) fn build(
    config: Config,
    shared: &Arc<Shared>,
    previous: Option<&Current>,
) -> Result<Current, Problems> {
    let mut problems = Problems::default();
    let mut destinations = Vec::with_capacity(config.destinations.len());
    for wanted in &config.destinations {
        match destination(wanted, shared, previous) {
            Ok(destination) => destinations.push(destination),
            Err(why) => problems.push(Problem {
                severity: Severity::Error,
                key: format!("destinations.{}", wanted.name),
                message: format!("cannot be opened: {why}"),
                place: Place::Nowhere,
                hint: None,
            }),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut sources = FxHashMap::default();
    let mut queues = FxHashMap::default();
    for (number, written) in config.sources.iter().enumerate() {
        let source = source(&config, number, &destinations, (shared, previous));
        let source = Arc::new(source);
        match &written.source.path {
            Some(path) => sources.insert(path.clone(), source),
            None => queues.insert(Arc::clone(&source.name), source),
        };
    }
    let gateway = Gateway {
        shared: Arc::clone(shared),
        sources,
        queues,
        limits: Limits {
            max_body: config.server.max_body.bytes(),
            body_timeout: config.server.body_timeout,
            request_timeout: config.server.request_timeout,
        },
        trusted_proxies: config.server.trusted_proxies.clone(),
        log_all: config.log.requests == config::Requests::All,
    };
    Ok(Current {
        config,
        gateway: Arc::new(gateway),
        destinations,
    })
}

fn destination(
    wanted: &DestinationConfig,
    shared: &Arc<Shared>,
    previous: Option<&Current>,
) -> Result<Arc<Destination>, String> {
    let unchanged = previous.and_then(|previous| {
        let known = &previous.config.destinations;
        let place = known.iter().position(|known| known == wanted)?;
        previous.destinations.get(place)
    });
    if let Some(unchanged) = unchanged {
        return Ok(Arc::clone(unchanged));
    }
    let means = Means {
        metrics: shared.metrics.destination(wanted.name.as_str()),
        clock: shared.clock.clone(),
        tasks: shared.tasks.clone(),
    };
    Destination::build(wanted, means).map(Arc::new)
}

fn source(
    config: &Config,
    number: usize,
    destinations: &[Arc<Destination>],
    (shared, previous): (&Arc<Shared>, Option<&Current>),
) -> Source {
    let written = &config.sources[number];
    let name = written.name.shared();
    let mut reached = vec![false; destinations.len()];
    for to in config.routes_of(number).flat_map(|route| &route.to) {
        reached[*to] = true;
    }
    let targets: Vec<Target> = destinations
        .iter()
        .zip(reached)
        .map(|(destination, reached)| Target {
            name: destination.name().shared(),
            destination: Arc::clone(destination),
            metrics: reached.then(|| {
                let destination = destination.name().as_str();
                shared.metrics.route(&name, destination)
            }),
        })
        .collect();
    let before = previous.and_then(|previous| {
        let gateway = &previous.gateway;
        let mut sources = gateway.sources.values().chain(gateway.queues.values());
        sources.find(|source| source.name == name)
    });
    Source {
        verifier: Verifier::new(&written.verify, |key| shared.metrics.key(&name, key)),
        event_type: written.source.event_type.clone(),
        router: config.router_of(number),
        unmatched: written.source.unmatched,
        window: match written.verify.tolerance {
            OffOr::On(tolerance) => tolerance,
            // Without a window every id is fresh as long as it is known at all.
            OffOr::Off => config.ledger.retention,
        },
        resend_after: written.resend_after,
        allow_from: written.source.allow_from.clone(),
        in_flight: at_once(written, &targets).map(|limit| share(before, limit)),
        metrics: shared.metrics.source(&name),
        destinations: targets,
        name,
    }
}

/// How many messages of a source are at work at once, where that is bounded. Those of
/// a queue can wait, and so never meet a destination that has no room for them.
fn at_once(written: &config::Source, targets: &[Target]) -> Option<usize> {
    let own = written.source.max_in_flight;
    if written.queue.is_none() {
        return own;
    }
    let reached = targets.iter().filter(|target| target.metrics.is_some());
    let required = reached.filter(|target| target.destination.required());
    let rooms = required.map(|target| target.destination.room());
    rooms.chain(own).min()
}

/// A source's share of the requests under way. It lives on over a reload, so
/// that those under way keep counting; with its old limit, because what is built
/// may not come into force.
fn share(before: Option<&Arc<Source>>, limit: usize) -> Arc<Slots> {
    match before.and_then(|source| source.in_flight.as_ref()) {
        Some(slots) => Arc::clone(slots),
        None => Slots::new(limit),
    }
}
