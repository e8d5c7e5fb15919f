use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::crowd::Load;

/// What was promised and not kept. Slow is not broken.
#[derive(Default)]
pub struct Promises(RefCell<BTreeMap<String, usize>>);

impl Promises {
    /// Every message is genuine, new and wanted: it is to be answered 2xx.
    pub fn answered(&self, name: &str, load: &Load) {
        self.keep(load.refused == 0, || {
            format!("{name}: requests were not answered 2xx")
        });
    }

    /// What was answered 2xx has reached the service.
    pub fn delivered(&self, name: &str, load: &Load, delivered: usize) {
        self.keep(delivered >= load.accepted, || {
            format!("{name}: more requests were answered 2xx than reached the service")
        });
    }

    /// What the README states of memory (bytes).
    pub fn at_most(&self, what: &str, found: u64, stated: u64) {
        self.keep(found <= stated, || {
            format!("{what}: the README states {stated} bytes, found {found}")
        });
    }

    /// Prints what was broken; whether all were kept.
    pub fn told(&self) -> bool {
        let broken = self.0.borrow();
        for (what, times) in &*broken {
            println!("BROKEN {what} ({times} times)");
        }
        broken.is_empty()
    }

    fn keep(&self, kept: bool, what: impl FnOnce() -> String) {
        if !kept {
            *self.0.borrow_mut().entry(what()).or_default() += 1;
        }
    }
}
