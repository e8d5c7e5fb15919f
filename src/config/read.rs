use std::path::PathBuf;

use figment::value::{Dict, Value};

use super::check::{self, Whole};
use super::environment::Environment;
use super::{AdminConfig, Config, LogConfig, Route, Source};
use crate::consume::QueueConfig;
use crate::deliver::DestinationConfig;
use crate::ledger::LedgerConfig;
use crate::listen::ServerConfig;
use crate::route::RouteConfig;
use crate::setting::{Entry, Name, Reader, Section};
use crate::source::{SourceConfig, WayIn};
use crate::verify::VerifyConfig;

/// Names told in a hint; past these nobody reads on.
const TOLD: usize = 20;

impl Config {
    /// Reads every section of `dict`, and checks what no section can see alone.
    /// `None` when something is wrong; all that is, is in `reader`.
    pub(super) fn read(
        reader: &Reader,
        dict: Dict,
        file: Option<PathBuf>,
        environment: &Environment,
    ) -> Option<Self> {
        let written = dict.clone();
        let mut document = reader.document(dict);
        let Sections {
            server,
            admin,
            log,
            ledger,
            sources,
            destinations,
            short,
            nameless,
            complete,
        } = Sections::read(&mut document, &written, environment);

        let mut routes = Routes {
            reader,
            sources: sources.iter().map(|(name, _)| name).collect(),
            destinations: destinations.iter().map(|(name, _)| name).collect(),
            routes: Vec::new(),
            complete,
        };
        for entry in document.items("routes") {
            routes.add(entry);
        }
        for (number, to) in short.into_iter().enumerate() {
            routes.add_short(number, to);
        }
        for (_, items) in nameless.into_iter().flatten() {
            routes.short(items);
        }
        let Routes {
            routes, complete, ..
        } = routes;
        drop(document);

        check::whole(&Whole {
            reader,
            written: &written,
            server: server.as_ref(),
            admin: &admin,
            ledger: ledger.as_ref(),
            sources: &sources,
            destinations: &destinations,
            routes: &routes,
            found: file.is_some(),
            complete,
        });
        Some(Self {
            server: server?,
            admin,
            log,
            ledger: ledger?,
            sources: all(sources)?,
            destinations: all(destinations)?,
            routes,
            file,
            files: reader.files(),
        })
    }

    /// Reads every section of `dict` by itself, for the problems alone, which are in
    /// `reader`.
    pub(super) fn read_sections(reader: &Reader, dict: Dict, environment: &Environment) {
        let written = dict.clone();
        let mut document = reader.document(dict);
        Sections::read(&mut document, &written, environment);
        document.items("routes");
    }
}

/// What was read, each section by itself; `None` where one could not be.
struct Sections<'a> {
    server: Option<ServerConfig>,
    admin: AdminConfig,
    log: LogConfig,
    ledger: Option<LedgerConfig>,
    sources: Vec<(Name, Option<Source>)>,
    destinations: Vec<(Name, Option<DestinationConfig>)>,
    /// The `to` of each source.
    short: Vec<To<'a>>,
    /// The `to` of those whose name is none.
    nameless: Vec<To<'a>>,
    /// Whether every name is one.
    complete: bool,
}

impl<'a> Sections<'a> {
    fn read(document: &mut Section<'a>, written: &Dict, environment: &Environment) -> Self {
        let mut sections = Self {
            server: ServerConfig::read(&mut document.section("server")),
            admin: AdminConfig::read(&mut document.section("admin")),
            log: LogConfig::read(&mut document.section("log"), environment),
            ledger: LedgerConfig::read(&mut document.section("ledger")),
            sources: Vec::new(),
            destinations: Vec::new(),
            short: Vec::new(),
            nameless: Vec::new(),
            complete: true,
        };
        for (name, section) in document.named("sources") {
            let (read, to) = source(name.as_ref(), section, written);
            match name {
                Some(name) => {
                    sections.sources.push((name, read));
                    sections.short.push(to);
                }
                None => {
                    sections.nameless.push(to);
                    sections.complete = false;
                }
            }
        }
        for (name, section) in document.named("destinations") {
            let read = DestinationConfig::read(&named(name.as_ref()), section);
            match name {
                Some(name) => sections.destinations.push((name, read)),
                None => sections.complete = false,
            }
        }
        sections
    }
}

/// What was read, without the names; `None` when one could not be.
fn all<T>(read: Vec<(Name, Option<T>)>) -> Option<Vec<T>> {
    read.into_iter().map(|(_, read)| read).collect()
}

/// The name, or one to go on reading with.
fn named(name: Option<&Name>) -> Name {
    name.cloned().unwrap_or_else(Name::stand_in)
}

/// The `to` of a source, item by item, with its key.
type To<'a> = Option<(String, Vec<Entry<'a>>)>;

fn source<'a>(
    name: Option<&Name>,
    mut section: Section<'a>,
    written: &Dict,
) -> (Option<Source>, To<'a>) {
    let name = named(name);
    let way = WayIn::read(&mut section);
    let comes_in = way.unwrap_or(WayIn::Path);
    let source = SourceConfig::read(&name, comes_in, &mut section);
    // `None` when it is wrong, `Some(None)` when there is no queue.
    let queue = match comes_in {
        WayIn::Path => Some(None),
        WayIn::Queue => QueueConfig::read(&mut section).map(Some),
    };
    let verify = VerifyConfig::read(&mut section, comes_in == WayIn::Queue);
    let resend_after = section.get("resend_after");
    let key = section.key_of("to");
    let to = section.entry("to").map(|entry| {
        if matches!(entry.value(), Value::Array(_, items) if items.is_empty()) {
            entry.error(
                "is empty",
                "leave it out where `routes` say where events go",
            );
        }
        (key, entry.items())
    });
    let written_type = match at(written, &["sources", name.as_str(), "event_type"]) {
        Some(Value::String(_, text)) => Some(text.clone()),
        Some(Value::Array(_, items)) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            Some(items.join(", "))
        }
        _ => None,
    };
    let read = || {
        way?;
        Some(Source {
            name,
            source: source?,
            queue: queue?,
            verify,
            resend_after,
            written_type,
        })
    };
    (read(), to)
}

/// The value at `keys`, if it was written.
pub(super) fn at<'d>(dict: &'d Dict, keys: &[&str]) -> Option<&'d Value> {
    let (first, rest) = keys.split_first()?;
    let value = dict.get(*first)?;
    match (rest, value) {
        ([], value) => Some(value),
        (rest, Value::Dict(_, dict)) => at(dict, rest),
        _ => None,
    }
}

/// The routes so far, and the names they may use.
struct Routes<'a> {
    reader: &'a Reader,
    sources: Vec<&'a Name>,
    destinations: Vec<&'a Name>,
    routes: Vec<Route>,
    /// Whether every route could be read.
    complete: bool,
}

impl Routes<'_> {
    /// Adds one of `routes[]`.
    fn add(&mut self, entry: Entry<'_>) {
        let key = entry.key().to_owned();
        let Some(read) = entry.section().and_then(RouteConfig::read) else {
            self.complete = false;
            return;
        };
        let from = self.places(&format!("{key}.from"), &read.from, Kind::Source);
        let to = self.places(&format!("{key}.to"), &read.to, Kind::Destination);
        self.push(Route {
            number: self.routes.len(),
            key,
            sources: if read.from.is_empty() {
                (0..self.sources.len()).collect()
            } else {
                from
            },
            types: read.types,
            to,
            otherwise: read.otherwise,
        });
    }

    /// Adds the route that the `to` of a source is short for.
    fn add_short(&mut self, source: usize, to: To<'_>) {
        let Some((key, items)) = to else { return };
        let to = self.short(items);
        self.push(Route {
            number: self.routes.len(),
            key,
            sources: vec![source],
            types: Vec::new(),
            to,
            otherwise: false,
        });
    }

    /// The places that the `to` of a source names.
    fn short(&mut self, items: Vec<Entry<'_>>) -> Vec<usize> {
        let mut places = Vec::new();
        for item in items {
            match item.read::<Name>() {
                Some(name) => places.extend(self.places(item.key(), &[name], Kind::Destination)),
                None => self.complete = false,
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    fn push(&mut self, route: Route) {
        if route.to.is_empty() || route.sources.is_empty() {
            self.complete = false;
        }
        self.routes.push(route);
    }

    /// The places of `names`, ascending and each once; those that do not exist
    /// are told.
    fn places(&mut self, key: &str, names: &[Name], kind: Kind) -> Vec<usize> {
        let (one, many, known) = match kind {
            Kind::Source => ("source", "sources", &self.sources),
            Kind::Destination => ("destination", "destinations", &self.destinations),
        };
        let mut places = Vec::new();
        for name in names {
            match known.iter().position(|known| *known == name) {
                Some(place) => places.push(place),
                None => {
                    let hint = match known.len() {
                        0 => format!("there are no {many}: write `[{many}.{name}]`"),
                        1 => format!("the only {one} is {}", list(known)),
                        _ => format!("{many} are {}", list(known)),
                    };
                    let message = format!("names a {one} that does not exist: `{name}`");
                    self.reader.error(key, message, hint);
                    self.complete = false;
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Source,
    Destination,
}

/// Names as a hint tells them.
fn list(names: &[&Name]) -> String {
    let mut told: Vec<String> = names.iter().take(TOLD).map(|n| format!("`{n}`")).collect();
    if names.len() > TOLD {
        told.push(format!("and {} more", names.len() - TOLD));
    }
    told.join(", ")
}
