use std::sync::Arc;

use tokio::sync::Notify;

use super::State;
use super::build::build;
use super::watch::Watch;
use crate::config::Config;
use crate::observe::Logs;
use crate::setting::{Place, Problem, Problems, Severity};

/// Reloads whenever that is wanted; wanted several times meanwhile, once. It is a
/// task of its own, because a file may take for ever to be read, and a call to
/// stop must not wait for that.
pub(super) async fn reloads(state: Arc<State>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        // What came of it is logged.
        let _ = state.reload().await;
    }
}

impl State {
    /// Reads the configuration again and takes it over if it is good: a whole
    /// new gateway, swapped in between requests. Answers with the warnings.
    ///
    /// # Errors
    /// Every problem; the old configuration goes on then.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Problems, Problems> {
        // A task of its own: whoever asked may go away, and a reload that was begun
        // is to be finished and told before another begins.
        let reload = tokio::spawn(reload(Arc::clone(self)));
        reload.await.unwrap_or_else(|_| Err(panicked()))
    }

    fn take_over(self: &Arc<Self>) -> Result<Problems, Problems> {
        let (config, warnings) = self.written.load()?;
        let series = self.shared.metrics.series();
        self.change(config).inspect_err(|_| {
            // Nobody is to be shown what never came into force.
            self.shared.metrics.take_back(&series);
        })?;
        Ok(warnings)
    }

    fn change(self: &Arc<Self>, config: Config) -> Result<(), Problems> {
        let watch = Watch::wanted(&config);
        let old = self.current.load_full();
        let mut problems = Problems::default();
        let queues = problems.keep(self.queues.prepare(&config, &self.shared));
        let new = problems.keep(build(config, &self.shared, Some(&old)));
        let (Some(queues), Some(new)) = (queues, new) else {
            return Err(problems);
        };
        // The last thing that can fail: from here on the new one is in force.
        self.doors.change(self, &new.config)?;
        let server = &new.config.server;
        self.shared.in_flight.set_limit(server.max_in_flight);
        new.share();
        self.shared.buffers.set_limit(server.max_buffered.bytes());
        self.shared.ledger.reconfigure(&new.config.ledger);
        // Checked with the rest of the configuration; the old filter stays otherwise.
        if new.config.log.options != old.config.log.options
            && let Err(error) = Logs::refilter(&new.config.log.options)
        {
            tracing::error!(error, "the log goes on as before");
        }
        new.tell_dangers();
        new.tell_restarts(&old.config);
        let new = Arc::new(new);
        let showing = self.showing();
        self.current.store(Arc::clone(&new));
        new.show(Some(&old.config), &self.shared.metrics);
        drop(showing);
        self.doors.show(&self.shared.metrics);
        *self.watching() = watch;
        self.queues.change(self, queues);
        self.reopen();
        Ok(())
    }

    /// Opens the files of the configuration in force by their names again.
    fn reopen(&self) {
        for destination in &self.current.load().destinations {
            destination.reopen();
        }
    }
}

/// One reload, from the first look at the file until what came of it is told.
async fn reload(state: Arc<State>) -> Result<Problems, Problems> {
    let _one_at_a_time = state.reloading.lock().await;
    // Reading files and moving a ledger may block for a while.
    let result = tokio::task::spawn_blocking({
        let state = Arc::clone(&state);
        move || state.take_over()
    });
    let result = result.await.unwrap_or_else(|_| Err(panicked()));
    state.shared.metrics.reloaded(result.is_ok());
    match &result {
        Ok(warnings) => {
            log(warnings);
            tracing::info!("the configuration was read again and taken over");
        }
        Err(problems) => {
            log(problems);
            tracing::error!("the new configuration is refused; the old one goes on");
            // A file that was moved away for the sake of this is to be left alone, too.
            state.reopen();
        }
    }
    result
}

fn log(problems: &Problems) {
    for problem in problems.iter() {
        match problem.severity {
            Severity::Error => tracing::error!(%problem, "the configuration"),
            Severity::Warning => tracing::warn!(%problem, "the configuration"),
        }
    }
}

fn panicked() -> Problems {
    Problems::from(Problem {
        severity: Severity::Error,
        key: String::new(),
        message: "the configuration could not be read: hookward has a fault, see its log".into(),
        place: Place::Nowhere,
        hint: None,
    })
}
