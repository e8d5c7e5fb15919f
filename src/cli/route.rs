use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use http::HeaderMap;

use super::print::{Complaint, Exit, Print};
use super::{body, configured, signing};
use crate::config::{Config, Route as Rule, Source};
use crate::message::EventType;
use crate::route::{self, Plan, Router};
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
        let Some(config) = configured::load(self.config.clone(), SecretReader::Skip, print) else {
            return Ok(Exit::Usage);
        };
        let (number, source) = find(&config, &self.source)?;
        let event_type = match &self.body {
            None => self.event_type.clone(),
            Some(file) => {
                let body = body::read(Some(file), print)?;
                typed(source, &body)?
            }
        };
        let rules: Vec<_> = config
            .routes_of(number)
            .map(|rule| route::Rule {
                number: rule.number,
                types: &rule.types,
                to: &rule.to,
                otherwise: rule.otherwise,
            })
            .collect();
        let router = Router::compile(&rules);
        let shown = match &event_type {
            Some(event_type) => format!("an event of type `{event_type}`"),
            None => "an event without a type".to_owned(),
        };
        let Plan::To(to) = router.plan(event_type.as_ref()) else {
            let answered = match router.plan(event_type.as_ref()) {
                Plan::Untyped => "422 untyped",
                _ if source.source.unmatched == Unmatched::Refuse => "422 unmatched",
                _ => "200 unmatched",
            };
            return Err(Complaint::failed(format!(
                "no route of `{}` takes {shown}; it is answered {answered}",
                source.name
            )));
        };
        let taken = router.rules(event_type.as_ref());
        let destinations = to
            .iter()
            .filter_map(|&at| config.destinations.get(at).map(|d| (at, d)));
        let width = destinations
            .clone()
            .map(|(_, destination)| destination.name.as_str().len())
            .max()
            .unwrap_or(0);
        let mut untyped = Vec::new();
        for (at, destination) in destinations {
            let by: Vec<String> = config
                .routes
                .iter()
                .filter(|rule| taken.contains(&rule.number) && rule.to.contains(&at))
                .map(told)
                .collect();
            let optional = if destination.required {
                ""
            } else {
                " (not required)"
            };
            print.data(format_args!(
                "{:width$}  {}{optional}",
                destination.name.as_str(),
                by.join(", ")
            ));
            if event_type.is_none() && destination.needs_type() {
                untyped.push(format!("`{}`", destination.name));
            }
        }
        if !untyped.is_empty() {
            return Err(Complaint::failed(format!(
                "{} needs a type and the event has none; it is answered 422 untyped",
                untyped.join(", ")
            )));
        }
        Ok(Exit::Yes)
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
    Ok(rule.event_type(body, &HeaderMap::new()))
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
