use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntGauge;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tower::service_fn;

use super::State;
use crate::admin;
use crate::config::Config;
use crate::listen::{
    Address, Connection, Crew, Door, Limits, Listener, Request, ServeOptions, Stop,
    raise_open_files, serve,
};
use crate::observe::{Limited, Metrics};
use crate::setting::{Place, Problem, Problems, Severity};

/// The listeners: for requests, and for administration.
pub(super) struct Doors {
    inner: Mutex<Inner>,
    tasks: TaskTracker,
    /// Serves the connections for requests.
    crew: Crew,
}

struct Inner {
    server: Opening,
    admin: Option<Opening>,
    /// Closed by a reload, with connections that may go on for a while.
    retired: Vec<Opening>,
    /// hookward is stopping: nothing is opened any more.
    leaving: bool,
}

/// One listener. Its limits can be changed while it is open; its address only
/// by opening another.
struct Opening {
    address: Address,
    local: String,
    door: Arc<ArcSwap<Door>>,
    stop: Stop,
    /// Bound and not yet served.
    listener: Option<Listener>,
    serving: Option<JoinHandle<()>>,
}

/// Connections to the admin listener, on top of those for requests.
const ADMIN_CONNECTIONS: usize = 32;
/// How long the admin listener waits for a head, or for the next request.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The same while all its connections are taken. They are few, and a probe of
/// Kubernetes waits for 1 s: behind a crowd of silent ones that come again at once
/// it has its turn in time, as 320 of them go each second.
const ADMIN_CROWDED: Duration = Duration::from_millis(100);
/// For what was cut to be gone.
const CUT: Duration = Duration::from_secs(1);

impl Doors {
    /// Binds the listeners of a configuration.
    ///
    /// # Errors
    /// Each address that cannot be bound.
    pub(super) fn bind(config: &Config, crew: Crew) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let server = Opening::bind(
            "server.listen",
            &config.server.listen,
            server_door(config)?,
            &mut problems,
        );
        let admin = config
            .admin
            .listen
            .as_ref()
            .map(|address| Opening::bind("admin.listen", address, admin_door(), &mut problems));
        let admin = match admin {
            Some(Some(admin)) => Some(admin),
            Some(None) => return Err(problems),
            None => None,
        };
        let Some(server) = server else {
            return Err(problems);
        };
        Ok(Self {
            inner: Mutex::new(Inner {
                server,
                admin,
                retired: Vec::new(),
                leaving: false,
            }),
            tasks: TaskTracker::new(),
            crew,
        })
    }

    pub(super) fn server_address(&self) -> String {
        self.inner().server.url()
    }

    pub(super) fn admin_address(&self) -> Option<String> {
        self.inner().admin.as_ref().map(Opening::url)
    }

    /// Begins to serve the admin listener, unless it is served.
    pub(super) fn open_admin(&self, state: &Arc<State>) {
        if let Some(admin) = &mut self.inner().admin {
            self.serve_admin(admin, state, &Handle::current());
        }
    }

    /// Begins to serve requests.
    pub(super) fn open(&self, state: &Arc<State>) {
        self.serve_requests(&mut self.inner().server, state, &Handle::current());
    }

    /// Changes to another configuration: limits and certificates at once, and
    /// where an address is another, a new listener for the old one.
    ///
    /// # Errors
    /// Each new address that cannot be bound, or that hookward is stopping; nothing
    /// is changed then.
    pub(super) fn change(&self, state: &Arc<State>, config: &Config) -> Result<(), Problems> {
        let runtime = Handle::current();
        let inner = &mut *self.inner();
        if inner.leaving {
            return Err(stopping());
        }
        let mut problems = Problems::default();
        let moved = |old: &Opening, wanted: &Address| old.address != *wanted;

        let server_door = server_door(config)?;
        let server = moved(&inner.server, &config.server.listen).then(|| {
            Opening::bind(
                "server.listen",
                &config.server.listen,
                server_door.clone(),
                &mut problems,
            )
        });
        let wanted = config.admin.listen.as_ref();
        let stays = match (&inner.admin, wanted) {
            (Some(old), Some(wanted)) => !moved(old, wanted),
            (None, None) => true,
            _ => false,
        };
        let admin = wanted
            .filter(|_| !stays)
            .map(|wanted| Opening::bind("admin.listen", wanted, admin_door(), &mut problems));
        if !problems.is_empty() {
            return Err(problems);
        }

        inner.server.door.store(Arc::new(server_door));
        if let Some(mut server) = server.flatten() {
            self.serve_requests(&mut server, state, &runtime);
            tracing::info!(
                address = server.local,
                "requests are taken here from now on"
            );
            let old = std::mem::replace(&mut inner.server, server);
            inner.retire(old, config.server.idle_timeout, &runtime);
        }
        if !stays {
            let mut admin = admin.flatten();
            if let Some(admin) = &mut admin {
                self.serve_admin(admin, state, &runtime);
            }
            if let Some(old) = std::mem::replace(&mut inner.admin, admin) {
                inner.retire(old, Duration::from_secs(1), &runtime);
            }
        }
        Ok(())
    }

    /// Shows how many connections there may be.
    pub(super) fn show(&self, metrics: &Metrics) {
        let most = self.inner().server.door.load().limits.max_connections;
        metrics.show_limit(Limited::Connections, most);
    }

    /// From now on every answer asks its sender to go elsewhere.
    /// Nothing is opened any more.
    pub(super) fn leave(&self) {
        let inner = &mut *self.inner();
        inner.leaving = true;
        inner.server.stop.leave();
    }

    /// Stops taking connections for requests.
    pub(super) fn close(&self) {
        self.inner().server.stop.close();
    }

    /// Ends every connection after its present answer, and all at the latest
    /// after `within`.
    pub(super) async fn finish(&self, within: Duration) {
        let stops: Vec<Stop> = {
            let inner = self.inner();
            let openings = inner.retired.iter().chain(&inner.admin);
            let openings = openings.chain([&inner.server]);
            openings.map(|opening| opening.stop.clone()).collect()
        };
        stops.iter().for_each(|stop| stop.finish(within));
        self.tasks.close();
        if timeout(within, self.tasks.wait()).await.is_err() {
            // A retired one may have been given longer before.
            stops.iter().for_each(Stop::cut);
            // What is cut ends at once.
            let _ = timeout(CUT, self.tasks.wait()).await;
        }
    }

    fn serve_requests(&self, opening: &mut Opening, state: &Arc<State>, runtime: &Handle) {
        let gauge = state.shared.metrics.server().connections.clone();
        let state = Arc::clone(state);
        let make = move |connection: Arc<Connection>| {
            let state = Arc::clone(&state);
            service_fn(move |request: Request| {
                let gateway = Arc::clone(&state.current.load().gateway);
                let connection = Arc::clone(&connection);
                async move { Ok::<_, Infallible>(gateway.handle(request, connection).await) }
            })
        };
        if let Some((listener, options)) = opening.begin(gauge, self.crew.clone()) {
            let serving = told(serve(listener, make, options));
            opening.serving = Some(self.tasks.spawn_on(serving, runtime));
        }
    }

    fn serve_admin(&self, opening: &mut Opening, state: &Arc<State>, runtime: &Handle) {
        // Not among the connections of senders.
        let Ok(gauge) = IntGauge::new("admin_connections", "Not shown.") else {
            return;
        };
        let state = Arc::clone(state);
        let make = move |_: Arc<Connection>| {
            let state = Arc::clone(&state);
            service_fn(move |request: Request| {
                let state = Arc::clone(&state);
                async move {
                    let subject = Arc::new(super::subject::Admin(state));
                    Ok::<_, Infallible>(admin::answer(subject, request).await)
                }
            })
        };
        if let Some((listener, options)) = opening.begin(gauge, Crew::here()) {
            let serving = told(serve(listener, make, options));
            opening.serving = Some(self.tasks.spawn_on(serving, runtime));
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opening {
    fn bind(
        key: &'static str,
        address: &Address,
        door: Door,
        problems: &mut Problems,
    ) -> Option<Self> {
        match Listener::bind(address) {
            Ok(listener) => Some(Self {
                address: address.clone(),
                local: listener.local(),
                door: Arc::new(ArcSwap::from_pointee(door)),
                stop: Stop::new(),
                listener: Some(listener),
                serving: None,
            }),
            Err(error) => {
                problems.push(Problem {
                    severity: Severity::Error,
                    key: key.into(),
                    message: format!("cannot be bound: {error}"),
                    place: Place::Nowhere,
                    hint: (error.kind() == io::ErrorKind::AddrInUse)
                        .then(|| format!("something else listens there; choose another `{key}`")),
                });
                None
            }
        }
    }

    /// `http://127.0.0.1:8080`, `https://…`, or `unix:/path`.
    fn url(&self) -> String {
        match (&self.address, &self.door.load().tls) {
            (Address::Unix(_), _) => self.local.clone(),
            (Address::Tcp(_), None) => format!("http://{}", self.local),
            (Address::Tcp(_), Some(_)) => format!("https://{}", self.local),
        }
    }

    fn begin(&mut self, connections: IntGauge, crew: Crew) -> Option<(Listener, ServeOptions)> {
        let options = ServeOptions {
            door: Arc::clone(&self.door),
            connections,
            stop: self.stop.clone(),
            crew,
        };
        Some((self.listener.take()?, options))
    }

    fn is_over(&self) -> bool {
        self.serving.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Inner {
    /// Takes no more connections at `old`; those that are there may go on for a
    /// while, or until hookward stops.
    fn retire(&mut self, mut old: Opening, within: Duration, runtime: &Handle) {
        old.stop.close();
        // One that was never served would take connections that nobody answers.
        old.listener = None;
        let stop = old.stop.clone();
        runtime.spawn(async move {
            tokio::time::sleep(within).await;
            stop.finish(within);
        });
        self.retired.retain(|retired| !retired.is_over());
        self.retired.push(old);
    }
}

fn stopping() -> Problems {
    Problems::from(Problem {
        severity: Severity::Error,
        key: String::new(),
        message: "hookward is stopping; the configuration is not changed any more".into(),
        place: Place::Nowhere,
        hint: None,
    })
}

async fn told(serving: impl Future<Output = io::Result<usize>>) {
    match serving.await {
        Ok(0) => {}
        Ok(cut) => tracing::warn!(connections = cut, "connections were cut"),
        Err(error) => tracing::error!(%error, "a listener ended"),
    }
}

/// What connections for requests find. Never plain HTTP in the place of TLS.
fn server_door(config: &Config) -> Result<Door, Problems> {
    let Some(mut door) = config.server.door() else {
        return Err(Problems::from(Problem {
            severity: Severity::Error,
            key: "server.tls".into(),
            message: "was not read".into(),
            place: Place::Nowhere,
            hint: None,
        }));
    };
    let open_files = raise_open_files(reserved_files(config));
    if door.limits.max_connections > open_files {
        tracing::warn!(
            configured = door.limits.max_connections,
            lowered_to = open_files,
            "`server.max_connections` is lowered: the hard limit of open files (`ulimit -Hn`) leaves no room for more"
        );
        door.limits.max_connections = open_files.max(1);
    }
    Ok(door)
}

/// Descriptors that connections may not take, for files, the admin listener and
/// what the runtime needs.
const RESERVED_FILES: usize = 64;

/// How many descriptors connections may not take: those above, and one for each
/// delivery that may be under way.
fn reserved_files(config: &Config) -> usize {
    let deliveries = config.destinations.iter().map(|d| d.max_in_flight);
    // As many again for a journal's.
    let reserved = RESERVED_FILES << usize::from(config.ledger.journal.is_some());
    deliveries.fold(reserved, usize::saturating_add)
}

fn admin_door() -> Door {
    Door {
        limits: Limits {
            header_timeout: ADMIN_TIMEOUT,
            idle_timeout: ADMIN_TIMEOUT,
            crowded_timeout: ADMIN_CROWDED,
            max_connections: ADMIN_CONNECTIONS,
        },
        tls: None,
    }
}
