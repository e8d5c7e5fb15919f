use std::fmt;

use serde::Serialize;

use super::{Config, Route, Source};
use crate::deliver::DestinationConfig;
use crate::source::Unmatched;
use crate::verify::VerifyKeys;

/// What `hookward check` tells of a good configuration: printed for people,
/// serialized for programs. Holds no secret: keys by where they are kept, URLs
/// without password or query.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The file, if there is one.
    file: Option<String>,
    listen: String,
    admin: Option<String>,
    sources: Vec<SourceSummary>,
    destinations: Vec<DestinationSummary>,
    routes: Vec<RouteSummary>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct SourceSummary {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The queue it reads, for one without a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    verified: bool,
    keys: Vec<KeySummary>,
    event_type: String,
    unmatched: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct KeySummary {
    /// Its name, or its number from 1.
    name: String,
    /// `env:NAME`, `file:/path` or `(literal)`.
    kept: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct DestinationSummary {
    name: String,
    target: String,
    required: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RouteSummary {
    /// Where it was written.
    key: String,
    from: Vec<String>,
    /// Empty: every event.
    types: Vec<String>,
    to: Vec<String>,
    otherwise: bool,
}

impl Config {
    /// What there is, without a secret in it.
    pub fn summary(&self) -> Summary {
        Summary {
            file: self.file.as_ref().map(|file| file.display().to_string()),
            listen: self.server.listen.to_string(),
            admin: self.admin.listen.as_ref().map(ToString::to_string),
            sources: self.sources.iter().map(SourceSummary::of).collect(),
            destinations: self
                .destinations
                .iter()
                .map(DestinationSummary::of)
                .collect(),
            routes: self.routes.iter().map(|route| self.told(route)).collect(),
        }
    }

    fn told(&self, route: &Route) -> RouteSummary {
        let sources = route.sources.iter().filter_map(|&at| self.sources.get(at));
        let to = route.to.iter().filter_map(|&at| self.destinations.get(at));
        RouteSummary {
            key: route.key.clone(),
            from: sources.map(|source| source.name.to_string()).collect(),
            types: route.types.iter().map(ToString::to_string).collect(),
            to: to.map(|destination| destination.name.to_string()).collect(),
            otherwise: route.otherwise,
        }
    }
}

impl SourceSummary {
    fn of(source: &Source) -> Self {
        let keys = match &source.verify.keys {
            VerifyKeys::DangerouslyUnverified => Vec::new(),
            VerifyKeys::Keys(keys) => keys
                .iter()
                .map(|key| KeySummary {
                    name: key.name.to_string(),
                    kept: key.source.to_string(),
                })
                .collect(),
        };
        Self {
            name: source.name.to_string(),
            path: source.source.path.clone(),
            queue: source.queue.as_ref().map(ToString::to_string),
            verified: source.verify.keys != VerifyKeys::DangerouslyUnverified,
            keys,
            event_type: source.event_type(),
            unmatched: match source.source.unmatched {
                Unmatched::Accept => "accept",
                Unmatched::Refuse => "refuse",
            },
        }
    }

    /// Its path, or its queue.
    fn way_in(&self) -> &str {
        let way = self.path.as_deref().or(self.queue.as_deref());
        way.unwrap_or_default()
    }
}

impl DestinationSummary {
    fn of(destination: &DestinationConfig) -> Self {
        Self {
            name: destination.name.to_string(),
            target: destination.summary(),
            required: destination.required,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let admin = self.admin.as_deref().unwrap_or("off");
        writeln!(f, "listen {}, admin {admin}", self.listen)?;
        writeln!(f, "\nsources")?;
        let names = width(self.sources.iter().map(|source| source.name.as_str()));
        let ways = width(self.sources.iter().map(SourceSummary::way_in));
        for source in &self.sources {
            write!(f, "  {:names$}  {:ways$}", source.name, source.way_in())?;
            if source.verified {
                f.write_str("  keys ")?;
                for (index, key) in source.keys.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    if key.name != (index + 1).to_string() {
                        write!(f, "{} = ", key.name)?;
                    }
                    f.write_str(&key.kept)?;
                }
            } else {
                f.write_str("  UNVERIFIED")?;
            }
            write!(f, "  type {}", source.event_type)?;
            if source.unmatched != "accept" {
                write!(f, "  unmatched {}", source.unmatched)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\ndestinations")?;
        let names = width(self.destinations.iter().map(|to| to.name.as_str()));
        for destination in &self.destinations {
            write!(f, "  {:names$}  {}", destination.name, destination.target)?;
            if !destination.required {
                f.write_str("  not required")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\nroutes")?;
        if self.routes.is_empty() {
            writeln!(f, "  none")?;
        }
        for route in &self.routes {
            let types = match route.types.as_slice() {
                [] => "every event".to_owned(),
                types => types.join(", "),
            };
            write!(
                f,
                "  {} [{types}] -> {}",
                route.from.join(", "),
                route.to.join(", ")
            )?;
            if route.otherwise {
                f.write_str("  otherwise")?;
            }
            writeln!(f, "  ({})", route.key)?;
        }
        Ok(())
    }
}

/// The width of a column (characters).
fn width<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}
