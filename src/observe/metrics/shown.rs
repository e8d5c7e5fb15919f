//! What is shown of the configuration in force, and of nothing before it: an
//! alert on something that is no longer configured would never end.

use std::time::Duration;

use super::Metrics;
use crate::observe::Limited;

impl Metrics {
    /// Shows how much there may be of something, so that an alert can tell what is
    /// near its limit.
    pub fn show_limit(&self, of: Limited, limit: usize) {
        self.limit
            .with_label_values(&[of.word()])
            .set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// Tells how often a source is expected to send.
    pub fn expect_every(&self, source: &str, interval: Duration) {
        self.expected_interval
            .with_label_values(&[source])
            .set(interval.as_secs_f64());
    }

    /// A source is no longer expected to send.
    pub fn expect_nothing(&self, source: &str) {
        let _ = self.expected_interval.remove_label_values(&[source]);
    }

    /// Shows how a destination is: whether it is there, and whether its circuit is
    /// open.
    pub fn show_destination(&self, destination: &str, up: bool, circuit_open: bool) {
        self.destination_up
            .with_label_values(&[destination])
            .set(i64::from(up));
        self.circuit_open
            .with_label_values(&[destination])
            .set(i64::from(circuit_open));
    }

    /// Shows no more how a source is that is no longer configured, or an alert
    /// would go on for ever. What was counted stays.
    pub fn retire_source(&self, source: &str) {
        self.expect_nothing(source);
        let _ = self.clock_skew.remove_label_values(&[source]);
        let _ = self.last_verified.remove_label_values(&[source]);
    }

    /// The same for a key of a source.
    pub fn retire_key(&self, source: &str, key: &str) {
        let _ = self.key_last_verified.remove_label_values(&[source, key]);
    }

    /// The same for a destination.
    pub fn retire_destination(&self, destination: &str) {
        let _ = self.destination_up.remove_label_values(&[destination]);
        let _ = self
            .destination_in_flight
            .remove_label_values(&[destination]);
        let _ = self.circuit_open.remove_label_values(&[destination]);
    }
}
