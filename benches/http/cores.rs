use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Who runs where: those that are measured on the first core this process may
/// use; sender and service on the last, which is no sibling of the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Measured,
    Beside,
}

/// The cores this process was given; told once, before anybody is pinned.
pub fn given() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// Keeps this thread, and those it starts, beside those that are measured.
pub fn stay_beside() {
    CORES.get_or_init(given);
    pin(Place::Beside);
}

/// Does this on another core, and comes back.
pub fn on<T>(place: Place, work: impl FnOnce() -> T) -> T {
    pin(place);
    let result = work();
    pin(Place::Beside);
    result
}

static CORES: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();

fn pin(place: Place) {
    let cores = CORES.get_or_init(given);
    let core = match place {
        Place::Measured => cores.first(),
        Place::Beside => cores.last(),
    };
    let mut set = CpuSet::new();
    set.set(*core.unwrap());
    sched_setaffinity(None, &set).unwrap();
}
