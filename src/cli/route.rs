use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;

use super::print::{Complaint, Exit, Print};
use super::{body, signing};
use crate::config::{Config, Origin, Route as Rule, Source};
use crate::deliver::DestinationConfig;
use crate::message::{EventType, Headers};
use crate::route::{Plan, Router};
use crate::setting::SecretReader;
use crate::source::Unmatched;

/// Print which destinations an event would reach, and by which rule
///
/// A line a destination. Reads no secrets and sends nothing. Exits 1 when the
/// event would reach none.
#[derive(Args)]
#[command(after_help = "Examples:
  hookward route --source clerk --type user.created
  hookward route --source clerk --body event.json")]
pub(super) struct Route {
    /// The configuration [default: $HOOKWARD_CONFIG, ./hookward.toml, /etc/hookward/hookward.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The source it would come to
    #[arg(long, value_name = "S")]
    source: String,
    /// The type of the event
    #[arg(long = "type", value_name = "T", value_parser = signing::event_type, required_unless_present = "body", conflicts_with = "body")]
    event_type: Option<EventType>,
    /// The body of the event, whose type is found as the source says; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

impl Route {
    pub(super) fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        // Warnings are for `check` and `serve`.
        let (config, _) = Config::load(&Origin::new(self.config.clone(), SecretReader::Skip))?;
        let (number, source) = find(&config, &self.source)?;
        let event_type = match &self.body {
            None => self.event_type.clone(),
            Some(file) => {
                let body = body::read(Some(file), print)?;
                typed(source, &body)?
            }
        };
        let router = config.router_of(number);
        let Plan::To(to) = router.plan(event_type.as_ref()) else {
            return Err(nowhere(source, &router, event_type.as_ref()));
        };
        let taken = router.rules(event_type.as_ref());
        let reached: Vec<Reached<'_>> = to
            .iter()
            .filter_map(|&at| Reached::of(&config, at, &taken))
            .collect();
        let names = reached.iter().map(|reached| reached.name().len());
        let width = names.max().unwrap_or(0);
        for reached in &reached {
            print.data(format_args!("{:width$}  {reached}", reached.name()));
        }
        let untyped = reached.iter().find(|r| r.destination.needs_type());
        match untyped {
            Some(reached) if event_type.is_none() => Err(Complaint::failed(format!(
                "`{}` needs a type and the event has none; it is {}",
                reached.name(),
                refused(source, "untyped")
            ))),
            _ => Ok(Exit::Yes),
        }
    }
}

/// Why an event reaches no destination, and what its sender is answered.
fn nowhere(source: &Source, router: &Router, event_type: Option<&EventType>) -> Complaint {
    let shown = match event_type {
        Some(event_type) => format!("an event of type `{event_type}`"),
        None => "an event without a type".to_owned(),
    };
    let becomes = match (router.plan(event_type), source.source.unmatched) {
        (Plan::Untyped, _) => refused(source, "untyped"),
        (_, Unmatched::Refuse) => refused(source, "unmatched"),
        (_, Unmatched::Accept) if source.queue.is_some() => "acknowledged".to_owned(),
        (_, Unmatched::Accept) => "answered 200 unmatched".to_owned(),
    };
    Complaint::failed(format!(
        "no route of `{}` takes {shown}; it is {becomes}",
        source.name
    ))
}

/// What becomes of an event that is refused.
fn refused(source: &Source, word: &str) -> String {
    match source.queue {
        Some(_) => format!("rejected to the dead-letter exchange of its queue ({word})"),
        None => format!("answered 422 {word}"),
    }
}

/// A destination that the event reaches, and the rules by which it does.
struct Reached<'c> {
    destination: &'c DestinationConfig,
    by: Vec<&'c Rule>,
}

impl<'c> Reached<'c> {
    fn of(config: &'c Config, at: usize, taken: &[usize]) -> Option<Self> {
        let by = |rule: &&Rule| taken.contains(&rule.number) && rule.to.contains(&at);
        Some(Self {
            destination: config.destinations.get(at)?,
            by: config.routes.iter().filter(by).collect(),
        })
    }

    fn name(&self) -> &str {
        self.destination.name.as_str()
    }
}

impl fmt::Display for Reached<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by: Vec<String> = self.by.iter().map(|rule| told(rule)).collect();
        f.write_str(&by.join(", "))?;
        if !self.destination.required {
            f.write_str("  not required")?;
        }
        Ok(())
    }
}

/// The source called `name`, and its place.
fn find<'c>(config: &'c Config, name: &str) -> Result<(usize, &'c Source), Complaint> {
    let mut sources = config.sources.iter().enumerate();
    sources
        .find(|(_, source)| source.name.as_str() == name)
        .ok_or_else(|| {
            let known: Vec<_> = config
                .sources
                .iter()
                .map(|s| format!("`{}`", s.name))
                .collect();
            Complaint::usage(format!(
                "`--source` names a source that does not exist: `{name}`"
            ))
            .hint(format!("sources are {}", known.join(", ")))
        })
}

/// The type the source finds in a body.
fn typed(source: &Source, body: &Bytes) -> Result<Option<EventType>, Complaint> {
    let rule = &source.source.event_type;
    if !rule.is_signed() {
        return Err(Complaint::usage(format!(
            "`{}` takes the type from a header, not from the body",
            source.name
        ))
        .hint("give it with `--type`"));
    }
    Ok(rule.event_type(body, &Headers::default()))
}

/// A rule in a few words: where it was written, and what it takes.
fn told(rule: &Rule) -> String {
    let types: Vec<&str> = rule.types.iter().map(|pattern| pattern.as_str()).collect();
    let mut takes = match types.as_slice() {
        [] => "every event".to_owned(),
        types => types.join(" "),
    };
    if rule.otherwise {
        takes.push_str(", otherwise");
    }
    format!("{} ({takes})", rule.key)
}
