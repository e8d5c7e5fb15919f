use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;

use figment::value::{Dict, Value};

use super::read::at;
use super::{AdminConfig, Route, Source, places, queues};
use crate::deliver::{DestinationConfig, FileConfig, KindConfig};
use crate::ledger::LedgerConfig;
use crate::listen::{Address, ServerConfig};
use crate::setting::{Name, OffOr, Reader};
use crate::verify::VerifyKeys;

/// All that was read, each section by itself; `None` where one could not be.
pub(super) struct Whole<'a> {
    pub(super) reader: &'a Reader,
    /// What was written, to tell it from a default.
    pub(super) written: &'a Dict,
    pub(super) server: Option<&'a ServerConfig>,
    pub(super) admin: &'a AdminConfig,
    pub(super) ledger: Option<&'a LedgerConfig>,
    pub(super) sources: &'a [(Name, Option<Source>)],
    pub(super) destinations: &'a [(Name, Option<DestinationConfig>)],
    pub(super) routes: &'a [Route],
    /// Whether there is a file.
    pub(super) found: bool,
    /// Whether every route could be read.
    pub(super) complete: bool,
}

/// Checks what no section can see alone.
pub(super) fn whole(whole: &Whole<'_>) {
    anything_to_do(whole);
    listeners(whole);
    paths(whole);
    for source in whole.sources() {
        proof(whole, source);
        window(whole, source);
        shares(whole, source);
        strangers(whole, source);
    }
    queues::check(whole);
    files(whole);
    places::check(whole);
    timeouts(whole);
    for route in whole.routes {
        promise(whole, route);
        types(whole, route);
        otherwise(whole, route);
    }
    unsigned(whole);
    if whole.complete {
        unreached(whole);
    }
}

impl Whole<'_> {
    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources
            .iter()
            .filter_map(|(_, source)| source.as_ref())
    }

    pub(super) fn destinations(&self) -> impl Iterator<Item = &DestinationConfig> {
        self.destinations
            .iter()
            .filter_map(|(_, read)| read.as_ref())
    }

    /// Whether nothing at all was written under `key`.
    fn blank(&self, key: &str) -> bool {
        match at(self.written, &[key]) {
            None => true,
            Some(Value::Dict(_, table)) => table.is_empty(),
            Some(_) => false,
        }
    }
}

fn anything_to_do(whole: &Whole<'_>) {
    if whole.blank("sources") {
        let hint = if whole.found {
            "`hookward init` prints a small configuration to begin with"
        } else {
            "no file was found: name one with `--config` or `HOOKWARD_CONFIG`, or have a `hookward.toml` here or in `/etc/hookward`; `hookward init` prints one to begin with"
        };
        whole
            .reader
            .error("sources", "names no source: there is nothing to do", hint);
    } else if whole.blank("destinations") {
        whole.reader.error(
            "destinations",
            "names no destination: events would be accepted and lost",
            "as in `[destinations.service]` with `type = \"http\"` and `url = \"http://127.0.0.1:3000/hooks\"`",
        );
    }
}

fn listeners(whole: &Whole<'_>) {
    let (Some(server), Some(admin)) = (whole.server, &whole.admin.listen) else {
        return;
    };
    let taken = match (&server.listen, admin) {
        (Address::Tcp(server), Address::Tcp(admin)) => {
            let any = server.ip().is_unspecified() || admin.ip().is_unspecified();
            let same = server.port() == admin.port() && server.port() != 0;
            same && (any || server.ip() == admin.ip())
        }
        (server, admin) => server == admin,
    };
    if taken {
        whole.reader.error(
            "admin.listen",
            "is where `server.listen` is",
            "give it a port of its own, or `\"off\"`",
        );
    }
}

fn paths(whole: &Whole<'_>) {
    let paths = whole
        .sources()
        .filter_map(|s| Some((s.source.path.as_deref()?, &s.name)));
    for (name, first) in repeated(paths) {
        whole.reader.error(
            &format!("sources.{name}.path"),
            format!("is the path of source `{first}` too"),
            "a request is told by its path: give each source its own",
        );
    }
}

fn proof(whole: &Whole<'_>, source: &Source) {
    if source.verify.keys == VerifyKeys::DangerouslyUnverified {
        whole.reader.warn(
            &format!("sources.{}.secrets", source.name),
            "opens the source: EVERYTHING THAT ANYBODY SENDS IT IS DELIVERED, unproven and as often as it is sent",
            "name a signing key, as in `secrets = \"env:NAME\"`, before anybody but you can reach it",
        );
    }
}

fn window(whole: &Whole<'_>, source: &Source) {
    let (Some(ledger), VerifyKeys::Keys(_)) = (whole.ledger, &source.verify.keys) else {
        return;
    };
    let name = &source.name;
    match source.verify.tolerance {
        // What waited in a queue is old, and nobody but the broker can repeat it.
        OffOr::Off if source.queue.is_some() => {}
        OffOr::Off => whole.reader.warn(
            &format!("sources.{name}.tolerance"),
            "is off: what was recorded long ago is delivered again, once its id is forgotten",
            "leave it at `\"5m\"`: a sender's retry is signed anew",
        ),
        OffOr::On(tolerance) => {
            if ledger.retention < tolerance.saturating_add(source.verify.future_tolerance) {
                whole.reader.error(
                    "ledger.retention",
                    format!(
                        "is shorter than `tolerance` and `future_tolerance` of source `{name}` together: a message could be replayed"
                    ),
                    "keep ids for longer, or make the window smaller",
                );
            }
        }
    }
    if source
        .resend_after
        .is_some_and(|after| after >= ledger.retention)
    {
        whole.reader.warn(
            &format!("sources.{name}.resend_after"),
            "is not shorter than `ledger.retention`: the id is forgotten by then, and delivered again anyway",
            "",
        );
    }
}

fn shares(whole: &Whole<'_>, source: &Source) {
    let server = whole.server.map(|server| server.max_in_flight);
    if let (Some(server), Some(share)) = (server, source.source.max_in_flight)
        && share > server
    {
        whole.reader.warn(
            &format!("sources.{}.max_in_flight", source.name),
            "is a share of `server.max_in_flight`, and larger than it",
            "",
        );
    }
}

/// A source that lets in whom nobody can know.
fn strangers(whole: &Whole<'_>, source: &Source) {
    let Some(server) = whole.server else { return };
    let unknown = matches!(server.listen, Address::Unix(_)) && server.trusted_proxies.is_empty();
    if unknown && !source.source.allow_from.is_empty() {
        whole.reader.warn(
            &format!("sources.{}.allow_from", source.name),
            "lets nobody in: over a unix socket, nobody's address is known",
            "name a proxy in `server.trusted_proxies`, and x-forwarded-for tells it",
        );
    }
}

fn files(whole: &Whole<'_>) {
    let paths = whole.destinations().filter_map(|destination| {
        let KindConfig::File(file) = &destination.kind else {
            return None;
        };
        Some((place(file), &destination.name))
    });
    for (name, first) in repeated(paths) {
        whole.reader.error(
            &format!("destinations.{name}.path"),
            format!("is the file of destination `{first}` too"),
            "two writers would cut each other's lines: give each its own, or route to one of them",
        );
    }
}

/// Where a file is, however it is spelt, as far as that can be found out.
fn place(file: &FileConfig) -> PathBuf {
    let FileConfig::Path(path) = file else {
        return "-".into();
    };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    // One that is not there yet is in a folder that is.
    let beside = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let found = path.canonicalize().ok().or_else(beside);
    found.unwrap_or(path)
}

fn timeouts(whole: &Whole<'_>) {
    let Some(server) = whole.server else { return };
    for destination in whole.destinations() {
        let name = &destination.name;
        let KindConfig::Http(http) = &destination.kind else {
            continue;
        };
        let written = at(whole.written, &["destinations", name.as_str(), "timeout"]).is_some();
        if written && http.timeout > server.request_timeout {
            whole.reader.warn(
                &format!("destinations.{name}.timeout"),
                "is longer than `server.request_timeout`, which ends first",
                "Svix gives up at 15 s, so a longer `server.request_timeout` does not help it",
            );
        }
    }
}

fn promise(whole: &Whole<'_>, route: &Route) {
    let to: Option<Vec<&DestinationConfig>> = route
        .to
        .iter()
        .map(|&place| whole.destinations[place].1.as_ref())
        .collect();
    if let Some(to) = to
        && !to.is_empty()
        && to.iter().all(|destination| !destination.required)
    {
        whole.reader.error(
            &to_key(route),
            "reaches only destinations with `required = false`: success would promise nothing",
            "name a required one too, or make one of these required",
        );
    }
}

fn types(whole: &Whole<'_>, route: &Route) {
    let needs = route.to.iter().find_map(|&place| {
        let destination = whole.destinations[place].1.as_ref()?;
        destination.needs_type().then_some(&destination.name)
    });
    let constant = |source: &usize| {
        let source = whole.sources[*source].1.as_ref();
        source.is_none_or(|source| source.written_type.as_deref().is_some_and(is_const))
    };
    if let Some(name) = needs
        && route.types.is_empty()
        && !route.sources.iter().all(constant)
    {
        whole.reader.warn(
            &to_key(route),
            format!("names `{name}`, which needs an event type, for events that may have none"),
            "such an event is answered 422 `untyped`; `types = [\"**\"]` takes only those with a type",
        );
    }
}

/// Destinations that are to sign what nobody proved: without a proven id there is
/// nothing to sign.
fn unsigned(whole: &Whole<'_>) {
    for (place, (name, destination)) in whole.destinations.iter().enumerate() {
        let signs = destination.as_ref().is_some_and(
            |read| matches!(&read.kind, KindConfig::Http(http) if http.sign.is_some()),
        );
        let mut sources = whole
            .routes
            .iter()
            .filter(|route| route.to.contains(&place))
            .flat_map(|route| &route.sources)
            .filter_map(|&source| whole.sources[source].1.as_ref());
        let open = sources.find(|s| s.verify.keys == VerifyKeys::DangerouslyUnverified);
        if let (true, Some(source)) = (signs, open) {
            whole.reader.warn(
                &format!("destinations.{name}.sign"),
                format!(
                    "signs nothing that comes from `{}`, which is open: nobody proved its ids",
                    source.name
                ),
                "a service that asks for the signature refuses those events; route them elsewhere",
            );
        }
    }
}

fn is_const(rule: &str) -> bool {
    rule.starts_with("const:")
}

/// A route that is never taken, because another takes every event.
fn otherwise(whole: &Whole<'_>, route: &Route) {
    let all = |source: &usize| {
        whole.routes.iter().find(|other| {
            !other.otherwise && other.types.is_empty() && other.sources.contains(source)
        })
    };
    let taken: Option<Vec<&Route>> = route.sources.iter().map(all).collect();
    if route.otherwise
        && let Some([first, ..]) = taken.as_deref()
    {
        whole.reader.warn(
            &format!("{}.otherwise", route.key),
            format!("is never needed: `{}` takes every event", first.key),
            "give that route `types`, or take this one out",
        );
    }
}

fn unreached(whole: &Whole<'_>) {
    const NOWHERE: &str = "write `to = \"NAME\"` in the source, or `[[routes]]` with `to`";
    if whole.sources.is_empty() || whole.destinations.is_empty() {
        return;
    }
    if whole.routes.is_empty() {
        whole.reader.warn(
            "routes",
            "are not there: no event is delivered anywhere",
            NOWHERE,
        );
        return;
    }
    for (place, (name, _)) in whole.sources.iter().enumerate() {
        if !whole.routes.iter().any(|r| r.sources.contains(&place)) {
            whole.reader.warn(
                &format!("sources.{name}"),
                "is named by no route: none of its events is delivered",
                NOWHERE,
            );
        }
    }
    for (place, (name, _)) in whole.destinations.iter().enumerate() {
        if !whole.routes.iter().any(|r| r.to.contains(&place)) {
            whole.reader.warn(
                &format!("destinations.{name}"),
                "is named by no route: nothing is delivered to it",
                "",
            );
        }
    }
}

/// The key under which a route names its destinations.
pub(super) fn to_key(route: &Route) -> String {
    if route.key.starts_with("routes") {
        format!("{}.to", route.key)
    } else {
        route.key.clone()
    }
}

/// Those whose value another had before, each with the first that had it.
fn repeated<'n, V: Eq + Hash>(
    values: impl Iterator<Item = (V, &'n Name)>,
) -> Vec<(&'n Name, &'n Name)> {
    let mut first: HashMap<V, &Name> = HashMap::new();
    values
        .filter_map(|(value, name)| match first.get(&value) {
            Some(first) => Some((name, *first)),
            None => {
                first.insert(value, name);
                None
            }
        })
        .collect()
}
