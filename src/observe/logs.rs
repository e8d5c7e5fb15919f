use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives as in
    /// `hookward::deliver=debug`, for hookward's own targets.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
}

impl LogOptions {
    /// Whether logging could be started with them.
    ///
    /// # Errors
    /// When `filter` is not a filter; without the filter.
    pub fn check(&self) -> Result<(), String> {
        filter(&self.filter).map(|_| ())
    }
}

/// The log of this process. Keeps its writer; dropping it writes out what is waiting.
pub struct Logs {
    _guard: WorkerGuard,
}

/// Changes the filter of the log that was started: there is one in a process.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Lines that may wait for a slow reader of stderr; further ones are dropped, so
/// that a log nobody reads never holds up a request.
const WAITING_LINES: usize = 16_384;

impl Logs {
    /// Starts logging to stderr. Other crates never go above `warn`.
    ///
    /// # Errors
    /// When `options.filter` is not a filter, or logging was started before.
    pub fn start(options: &LogOptions) -> Result<Self, String> {
        let (filter, handle) = reload::Layer::new(filter(&options.filter)?);
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING_LINES)
            .thread_name("log")
            .finish(std::io::stderr());
        let terminal = std::io::stderr().is_terminal();
        let json = match options.format {
            LogFormat::Auto => !terminal,
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let writer = BoxMakeWriter::new(writer);
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_ansi(terminal && !json);
        let registry = tracing_subscriber::registry().with(filter);
        if json {
            registry
                .with(layer.json().flatten_event(true).with_span_list(false))
                .try_init()
        } else {
            registry.with(layer).try_init()
        }
        .map_err(|_| "logging was started before".to_owned())?;
        // Set once, because logging can be started once.
        let _ = FILTER.set(handle);
        Ok(Self { _guard: guard })
    }

    /// Goes by another filter from now on, if logging was started. The form of the
    /// lines stays.
    ///
    /// # Errors
    /// When `options.filter` is not a filter.
    pub fn refilter(options: &LogOptions) -> Result<(), String> {
        let filter = filter(&options.filter)?;
        match FILTER.get() {
            Some(handle) => handle.reload(filter).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

/// A filter for hookward's own targets; everything else goes no further than `warn`,
/// and lapin, which would write out whole messages that came back, bodies too, stays
/// at nothing.
fn filter(directives: &str) -> Result<EnvFilter, String> {
    let bad = || {
        "the log filter is neither a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) nor directives as in `hookward::deliver=debug`"
            .to_owned()
    };
    // Who names single targets, or other crates, says nothing of the rest of hookward.
    let mut filter = EnvFilter::new("warn,lapin=off,hookward=info");
    for directive in directives
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
    {
        let directive = if directive.starts_with("hookward") {
            directive.to_owned()
        } else if let Some((target, wanted)) = directive.split_once('=') {
            let level = level(wanted)
                .filter(|_| is_target(target))
                .ok_or_else(bad)?;
            match level {
                _ if target.starts_with("lapin") => continue,
                "info" | "debug" | "trace" => format!("{target}=warn"),
                level => format!("{target}={level}"),
            }
        } else {
            format!("hookward={}", level(directive).ok_or_else(bad)?)
        };
        filter = filter.add_directive(directive.parse().map_err(|_| bad())?);
    }
    Ok(filter)
}

/// The level of that name, in small letters or large.
fn level(name: &str) -> Option<&'static str> {
    let mut levels = ["error", "warn", "info", "debug", "trace", "off"].into_iter();
    levels.find(|level| level.eq_ignore_ascii_case(name))
}

/// Whether it may be the target of another crate.
fn is_target(name: &str) -> bool {
    let of_a_path = |letter: char| letter.is_ascii_alphanumeric() || "_-:".contains(letter);
    !name.is_empty() && name.chars().all(of_a_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hookwards_own_targets_can_be_turned_up() {
        assert_eq!(
            filter("debug").unwrap().to_string(),
            "hookward=debug,lapin=off,warn"
        );
        assert!(filter("hookward::deliver=trace,info").is_ok());
        assert_eq!(
            filter("INFO,hyper=trace,rustls::client=off,lapin=trace,lapin::channel=debug")
                .unwrap()
                .to_string(),
            "rustls::client=off,hookward=info,lapin=off,hyper=warn,warn"
        );
        assert_eq!(
            filter("hyper=off,hookward::deliver=debug")
                .unwrap()
                .to_string(),
            "hookward::deliver=debug,hookward=info,lapin=off,hyper=off,warn"
        );
        for bad in ["loud", "hyper=loud", "=info", "a b=info", "hookward=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
