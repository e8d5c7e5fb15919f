//! Joins the rooms: builds a gateway from a configuration, opens the doors,
//! reloads, and drains. Owns what outlives a reload.
//!
//! Binding comes first and serving later, so that a caller can say what is
//! bound; and the caller owns the signals, as [`Control`].

mod build;
mod door;
mod drain;
mod housekeeping;
mod ledger;
mod queues;
mod reload;
mod subject;
mod watch;

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::timeout;

use crate::config::{Arguments, Config, Origin};
use crate::gateway::{Shared, Slots};
use crate::ledger::Ledger;
use crate::listen::{BufferBudget, Workers};
use crate::observe::{Clock, Metrics};
use crate::setting::Problems;
use build::{Current, build};
use door::Doors;
use queues::Queues;
use watch::Watch;

/// What a configuration was read from, and is read from again at a reload.
#[derive(Clone, Debug)]
pub enum Written {
    /// A file and the environment.
    File(Origin),
    /// Command-line arguments and the environment.
    Arguments(Arguments, Origin),
}

impl Written {
    /// Reads and checks the configuration; with it come the warnings.
    ///
    /// # Errors
    /// Every problem found.
    pub fn load(&self) -> Result<(Config, Problems), Problems> {
        match self {
            Written::File(origin) => Config::load(origin),
            Written::Arguments(arguments, origin) => Config::from_arguments(arguments, origin),
        }
    }
}

/// What a running hookward is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Stop in order: `drain_delay`, then finish what is in flight (SIGTERM).
    Stop,
    /// The same without the delay (SIGINT).
    StopNow,
    /// Read the configuration again (SIGHUP).
    Reload,
}

/// How a running hookward ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that was accepted is finished.
    Clean,
    /// Something was cut: `shutdown_timeout` or a second signal came first.
    Cut,
}

/// Why hookward could not start.
#[derive(Debug)]
pub enum StartError {
    /// What the configuration names cannot be opened.
    Problems(Problems),
    /// It cannot be started at all; why.
    Other(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Problems(problems) => problems.fmt(f),
            StartError::Other(why) => write!(f, "error: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

/// How long errors of the ledger may come before the listeners are told.
const MOMENT: Duration = Duration::from_secs(1);

/// A hookward that is bound and does not serve yet.
pub struct App {
    state: Arc<State>,
    /// Not in the state, which what they run holds on to.
    workers: Workers,
}

/// What lives as long as the process.
pub(crate) struct State {
    shared: Arc<Shared>,
    current: ArcSwap<Current>,
    /// Held by who shows something of what is in force by its name, and while another
    /// takes its place: what is retired then would come back, and stay.
    showing: std::sync::Mutex<()>,
    written: Written,
    doors: Doors,
    queues: Queues,
    phase: AtomicU8,
    /// The files of the configuration in force, as they were when it was read; none
    /// while they are not watched, or being looked at.
    watch: std::sync::Mutex<Option<Watch>>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

impl App {
    /// Builds a gateway from `config`, which was read from `written`, and binds
    /// its listeners. To be called in a tokio runtime.
    ///
    /// # Errors
    /// All that cannot be opened or bound.
    pub fn bind(config: Config, written: Written) -> Result<Self, StartError> {
        // Before anything that takes its time: what changes meanwhile is new.
        let watch = Watch::wanted(&config);
        let metrics = Metrics::new().map_err(|e| StartError::Other(e.to_string()))?;
        let metrics = Arc::new(metrics);
        let clock = Clock::system(metrics.clock_steps().clone());
        let ledger = Ledger::open(&config.ledger, metrics.ledger().clone(), clock.clone())
            .map_err(|error| StartError::Other(error.to_string()))?;
        let limits = (
            Slots::new(config.server.max_in_flight),
            BufferBudget::new(
                config.server.max_buffered.bytes(),
                metrics.server().buffered_bytes.clone(),
            ),
        );
        let shared = Arc::new(Shared::new(ledger, clock, metrics, limits));
        let workers = Workers::start()
            .map_err(|error| StartError::Other(format!("cannot start threads: {error}")))?;
        // What cannot be used is to be told before anything is served, and all of it.
        let mut problems = Problems::default();
        let doors = problems.keep(Doors::bind(&config, workers.crew()));
        let queues = Queues::default();
        let prepared = problems.keep(queues.prepare(&config, &shared));
        let current = problems.keep(build(config, &shared, None));
        let (Some(doors), Some(_), Some(current)) = (doors, prepared, current) else {
            return Err(StartError::Problems(problems));
        };
        current.tell_dangers();
        current.show(None, &shared.metrics);
        doors.show(&shared.metrics);
        Ok(Self {
            state: Arc::new(State {
                shared,
                current: ArcSwap::from_pointee(current),
                showing: std::sync::Mutex::default(),
                written,
                doors,
                queues,
                phase: AtomicU8::new(Phase::Starting as u8),
                watch: std::sync::Mutex::new(watch),
                reloading: Mutex::new(()),
            }),
            workers,
        })
    }

    /// Where it listens for requests, as `http://127.0.0.1:8080` or `unix:/path`.
    pub fn address(&self) -> String {
        self.state.doors.server_address()
    }

    /// Where the admin listener is, if there is one.
    pub fn admin_address(&self) -> Option<String> {
        self.state.doors.admin_address()
    }

    /// Looks for a moment whether the ledger can be used, so that what is wrong with
    /// it is told before anything else. That it may take longer is no error yet.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn look_at_ledger(&self) -> Result<(), StartError> {
        match timeout(MOMENT, ledger::usable(&self.state)).await {
            Ok(usable) => usable,
            Err(_) => Ok(()),
        }
    }

    /// Serves until `controls` says to stop, or is closed.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn run(self, mut controls: mpsc::Receiver<Control>) -> Result<Ended, StartError> {
        let Self { state, workers } = self;
        let ended = Self::serve(&state, &mut controls).await;
        // What still runs had its time. It is dropped here, and what was cut is
        // logged by that.
        let _ = tokio::task::spawn_blocking(move || drop(workers)).await;
        ended
    }

    async fn serve(
        state: &Arc<State>,
        controls: &mut mpsc::Receiver<Control>,
    ) -> Result<Ended, StartError> {
        let ended = {
            let mut usable = pin!(ledger::wait(state, controls));
            match usable.as_mut().now_or_never() {
                Some(usable) => usable?,
                None => {
                    // Meanwhile, whoever asks can be told so.
                    state.doors.open_admin(state);
                    usable.await?
                }
            }
        };
        if let Some(ended) = ended {
            state.doors.finish(Duration::ZERO).await;
            return Ok(ended);
        }
        // Whoever is let in finds it ready: all that it needs is there.
        state.enter(Phase::Serving);
        state.doors.open_admin(state);
        state.doors.open(state);
        let prepared = {
            let current = state.current.load();
            state.queues.prepare(&current.config, &state.shared)
        };
        match prepared {
            Ok(prepared) => state.queues.change(state, prepared),
            // They were prepared once before anything was served.
            Err(problems) => return Err(StartError::Problems(problems)),
        }
        let housekeeping = tokio::spawn(housekeeping::run(Arc::clone(state)));
        let reload_wanted = Arc::new(Notify::new());
        let reloads = tokio::spawn(reload::reloads(
            Arc::clone(state),
            Arc::clone(&reload_wanted),
        ));
        let delayed = loop {
            match controls.recv().await {
                Some(Control::Reload) => reload_wanted.notify_one(),
                Some(Control::Stop) => break true,
                Some(Control::StopNow) | None => break false,
            }
        };
        let ended = drain::run(state, delayed, controls).await;
        reloads.abort();
        housekeeping.abort();
        Ok(ended)
    }
}

/// Where a hookward is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting = 0,
    Serving = 1,
    Draining = 2,
}

impl Phase {
    /// The word for `/readyz`, while requests should go elsewhere.
    fn not_ready(self) -> Option<&'static str> {
        match self {
            Phase::Starting => Some("starting"),
            Phase::Serving => None,
            Phase::Draining => Some("draining"),
        }
    }
}

impl State {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn showing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.showing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watching(&self) -> std::sync::MutexGuard<'_, Option<Watch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
