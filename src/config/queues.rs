use std::time::Duration;

use humantime::format_duration;

use super::check::{Whole, to_key};
use super::read::at;
use super::{Route, Source};
use crate::consume::QueueConfig;
use crate::deliver::{DestinationConfig, KindConfig};

/// For how long RabbitMQ lets a consumer hold a message, unless it is told otherwise.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Checks the sources that read a queue against all else.
pub(super) fn check(whole: &Whole<'_>) {
    for (place, (name, source)) in whole.sources.iter().enumerate() {
        let Some((source, queue)) = source.as_ref().and_then(|s| Some((s, s.queue.as_ref()?)))
        else {
            continue;
        };
        prefetch(whole, source, queue);
        patience(whole, source, queue);
        let readers = whole.sources[..place].iter();
        let other = readers.filter_map(|(name, other)| Some((name, reads(other)?)));
        if let Some((other, _)) = { other }.find(|(_, other)| is_same(other, queue)) {
            whole.reader.warn(
                &format!("sources.{name}.queue"),
                format!("is the queue of source `{other}` too: each gets a part of its messages"),
                "let one source read it, and routes say what goes where",
            );
        }
        if let Some((route, to)) = back(whole, place) {
            whole.reader.error(
                &to_key(route),
                format!(
                    "names `{}`, through which what source `{name}` reads comes back into its queue",
                    to.name
                ),
                "say in `from` which sources the route is for",
            );
        }
    }
}

fn prefetch(whole: &Whole<'_>, source: &Source, queue: &QueueConfig) {
    let name = source.name.as_str();
    let Some(server) = whole.server else { return };
    if at(whole.written, &["sources", name, "prefetch"]).is_none() {
        return;
    }
    let count = whole.sources.iter().filter_map(|(_, s)| reads(s)).count();
    let memory = server.max_buffered.bytes() / count.max(1);
    let fitting = queue.clone().fitting(server.max_body.bytes(), memory);
    if fitting.prefetch < queue.prefetch {
        whole.reader.warn(
            &format!("sources.{name}.prefetch"),
            format!(
                "is more than fit into `server.max_buffered` when each is of `server.max_body`: {} are taken at once",
                fitting.prefetch
            ),
            "make it smaller, or `server.max_body`, or `server.max_buffered` larger",
        );
    }
}

fn patience(whole: &Whole<'_>, source: &Source, queue: &QueueConfig) {
    let Some(server) = whole.server else { return };
    let longest = queue.longest_hold(server.request_timeout);
    if longest > CONSUMER_TIMEOUT {
        whole.reader.warn(
            &format!("sources.{}.max_attempts", source.name),
            format!(
                "and `retry_delay` let a message be held for up to {}, and RabbitMQ takes it back after {}: its attempts are counted anew then",
                format_duration(Duration::from_secs(longest.as_secs())),
                format_duration(CONSUMER_TIMEOUT)
            ),
            "try less often, or raise `consumer_timeout` of the broker",
        );
    }
}

fn reads(source: &Option<Source>) -> Option<&QueueConfig> {
    source.as_ref()?.queue.as_ref()
}

fn is_same(one: &QueueConfig, other: &QueueConfig) -> bool {
    one.queue == other.queue && one.broker.is_same(&other.broker)
}

/// The first step of a way by which what a source reads comes back into its queue:
/// the route and the destination.
fn back<'w>(whole: &'w Whole<'_>, from: usize) -> Option<(&'w Route, &'w DestinationConfig)> {
    let mut seen = vec![false; whole.sources.len()];
    // Sources yet to be looked at, each with the first step of the way to it.
    let mut ahead = vec![(from, None)];
    while let Some((place, first)) = ahead.pop() {
        let routes = whole.routes.iter().filter(|r| r.sources.contains(&place));
        for (route, to) in routes.flat_map(|r| r.to.iter().map(move |to| (r, *to))) {
            let Some(to) = whole.destinations[to].1.as_ref() else {
                continue;
            };
            for (next, (_, source)) in whole.sources.iter().enumerate() {
                if !reads(source).is_some_and(|queue| feeds(to, queue)) {
                    continue;
                }
                let step = first.unwrap_or((route, to));
                if next == from {
                    return Some(step);
                }
                if !std::mem::replace(&mut seen[next], true) {
                    ahead.push((next, Some(step)));
                }
            }
        }
    }
    None
}

/// Whether what a destination publishes lands in a queue, as far as the
/// configuration tells.
fn feeds(destination: &DestinationConfig, queue: &QueueConfig) -> bool {
    let KindConfig::Rabbit(rabbit) = &destination.kind else {
        return false;
    };
    let name = queue.queue.as_str();
    let declared = rabbit.declare.as_ref().and_then(|d| d.queue.as_ref());
    let lands = rabbit.target.queue() == Some(name) || declared.is_some_and(|d| d.as_str() == name);
    lands && rabbit.broker.is_same(&queue.broker)
}
