use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use humantime::format_duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Control, Ended, Phase, State};

/// Stops in order (contract P7): after `drain_delay`, in which everything goes
/// on so that a load balancer can turn away, new requests are refused, and what
/// is in flight is finished within `shutdown_timeout`. A further signal ends it.
pub(super) async fn run(
    state: &Arc<State>,
    delayed: bool,
    controls: &mut mpsc::Receiver<Control>,
) -> Ended {
    let server = &state.current.load_full().config.server;
    state.enter(Phase::Draining);
    state.doors.leave();
    // Nobody has to be turned away from a queue: another hookward reads on.
    state.queues.stop();
    let delay = if delayed {
        server.drain_delay
    } else {
        Duration::ZERO
    };
    tracing::info!(
        delay = %format_duration(delay),
        timeout = %format_duration(server.shutdown_timeout),
        "stopping"
    );
    tokio::select! {
        biased;
        () = told_again(controls) => return cut(state).await,
        () = sleep(delay) => {}
    }
    let deadline = Instant::now() + server.shutdown_timeout;
    state.shared.drain();
    state.doors.close();
    let finished = tokio::select! {
        biased;
        () = told_again(controls) => false,
        finished = timeout_at(deadline, in_flight_ends(state)) => finished.is_ok(),
    };
    if !finished {
        return cut(state).await;
    }
    // Only idle connections are left, and requests that are being refused.
    let left = deadline.saturating_duration_since(Instant::now());
    let current = state.current.load_full();
    let leaving = current
        .destinations
        .iter()
        .map(|destination| destination.leave());
    futures_util::join!(state.doors.finish(left.min(LAST_WORDS)), join_all(leaving));
    tracing::info!("stopped; all that was accepted is finished");
    Ended::Clean
}

/// How long a connection may take to write its last answer out.
const LAST_WORDS: Duration = Duration::from_secs(2);

async fn cut(state: &Arc<State>) -> Ended {
    if state.shared.tasks.is_empty() {
        state.doors.finish(Duration::ZERO).await;
        tracing::info!("stopped at once; all that was accepted is finished");
        return Ended::Clean;
    }
    tracing::error!(
        in_flight = state.shared.in_flight.taken(),
        "stopped before all that was accepted is finished"
    );
    state.doors.finish(Duration::ZERO).await;
    Ended::Cut
}

/// Waits for a further call to stop. That nobody can call any more is none.
async fn told_again(controls: &mut mpsc::Receiver<Control>) {
    loop {
        match controls.recv().await {
            Some(Control::Stop | Control::StopNow) => return,
            Some(Control::Reload) => {}
            None => std::future::pending().await,
        }
    }
}

/// Waits until no request is under way, and no delivery goes on behind one that
/// was answered.
async fn in_flight_ends(state: &Arc<State>) {
    state.shared.tasks.close();
    state.shared.tasks.wait().await;
}
