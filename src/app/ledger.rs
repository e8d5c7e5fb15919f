use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Control, Ended, StartError, State};
use crate::ledger::Unusable;
use crate::setting::{Place, Problem, Problems, Severity};

/// Waits until the ledger can be used: as long as it takes to read it, and until
/// `shutdown_timeout` for another process to let it go, which is how long that
/// one may take to stop. A call to stop ends it.
///
/// # Errors
/// When the ledger cannot be used.
pub(super) async fn wait(
    state: &State,
    controls: &mut mpsc::Receiver<Control>,
) -> Result<Option<Ended>, StartError> {
    let mut usable = std::pin::pin!(usable(state));
    loop {
        tokio::select! {
            biased;
            usable = &mut usable => return usable.map(|()| None),
            control = controls.recv() => match control {
                Some(Control::Reload) => tracing::warn!("still starting; the configuration is not read again"),
                Some(Control::Stop | Control::StopNow) | None => return Ok(Some(Ended::Clean)),
            },
        }
    }
}

/// The same without an end but its own.
///
/// # Errors
/// When the ledger cannot be used.
pub(super) async fn usable(state: &State) -> Result<(), StartError> {
    let config = Arc::clone(&state.current.load());
    let patience = config.config.server.shutdown_timeout;
    let deadline = Instant::now() + patience;
    let unusable = match state.shared.ledger.usable(deadline).await {
        Ok(()) => return Ok(()),
        Err(unusable) => unusable,
    };
    let (message, hint) = match unusable {
        Unusable::Elsewhere => (
            format!("is owned by another process, which kept it for {patience:?}"),
            "stop the other hookward, or give this one a folder of its own".to_owned(),
        ),
        Unusable::Refused(why) => (
            why,
            "put a sound copy in its place, or move the folder away and start with an empty \
             ledger: then what was delivered before is delivered again when it comes again"
                .to_owned(),
        ),
    };
    Err(StartError::Problems(Problems::from(Problem {
        severity: Severity::Error,
        key: "ledger.journal".into(),
        message,
        place: Place::Nowhere,
        hint: Some(hint),
    })))
}
