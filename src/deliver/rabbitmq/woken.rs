use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Which places were woken, in that order. Who looks at them all sees at least
/// what was there when the last of them was woken.
#[derive(Default)]
pub(super) struct Woken(Mutex<State>);

#[derive(Default)]
struct State {
    places: Vec<usize>,
    looker: Option<Waker>,
}

impl Woken {
    /// Wakes this place, and through it whoever looks.
    pub(super) fn waker(self: &Arc<Self>, place: usize) -> Waker {
        let woken = Arc::clone(self);
        Waker::from(Arc::new(Place { place, woken }))
    }

    /// From now on, `looker` is woken when a place is.
    pub(super) fn looked_at_by(&self, looker: &Waker) {
        let mut state = self.lock();
        match &mut state.looker {
            Some(present) => present.clone_from(looker),
            none => *none = Some(looker.clone()),
        }
    }

    /// Takes those that were woken since, in place of the `empty` list.
    pub(super) fn take(&self, empty: Vec<usize>) -> Vec<usize> {
        std::mem::replace(&mut self.lock().places, empty)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole, so a poisoned state is, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Place {
    place: usize,
    woken: Arc<Woken>,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let looker = {
            let mut state = self.woken.lock();
            state.places.push(self.place);
            // Woken for the first of them, it finds the others too.
            if state.places.len() == 1 {
                state.looker.clone()
            } else {
                None
            }
        };
        if let Some(looker) = looker {
            looker.wake();
        }
    }
}
