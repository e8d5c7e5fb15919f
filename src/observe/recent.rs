use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The last refusals, for an operator who asks what was turned away and why.
/// Holds neither bodies nor signatures.
#[derive(Default)]
pub struct RecentRefusals(Mutex<VecDeque<RecentRefusal>>);

/// One of them.
#[derive(Clone, Debug)]
pub struct RecentRefusal {
    /// When it was refused.
    pub time: SystemTime,
    /// The source it came to; empty for unknown paths.
    pub source: Arc<str>,
    /// The reason as in `refusals_total`, or the word of the answer.
    pub reason: &'static str,
    /// The id it claimed, if its form was good.
    pub id: Option<String>,
}

impl RecentRefusals {
    /// How many are kept.
    pub const KEPT: usize = 256;

    /// Keeps one; the oldest goes when there are too many.
    pub fn push(&self, refusal: RecentRefusal) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == Self::KEPT {
            kept.pop_front();
        }
        kept.push_back(refusal);
    }

    /// All that are kept, the newest first.
    pub fn newest_first(&self) -> Vec<RecentRefusal> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_are_kept() {
        let recent = RecentRefusals::default();
        for number in 0..RecentRefusals::KEPT + 10 {
            recent.push(RecentRefusal {
                time: SystemTime::UNIX_EPOCH,
                source: "s".into(),
                reason: "too_old",
                id: Some(number.to_string()),
            });
        }
        let kept = recent.newest_first();
        assert_eq!(kept.len(), RecentRefusals::KEPT);
        assert_eq!(kept[0].id.as_deref(), Some("265"));
    }
}
