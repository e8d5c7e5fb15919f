//! What is shown of the configuration in force, and of nothing before it: an
//! alert on something that is no longer configured would never end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::Metrics;
use crate::observe::Limited;

/// The labels of one series.
type Labels = BTreeMap<String, String>;

/// Which series there were, of each metric with labels.
pub struct Series(Vec<HashSet<Labels>>);

/// A metric with labels, of whatever kind.
trait Labelled {
    fn series(&self) -> HashSet<Labels>;
    fn drop_series(&self, labels: &Labels);
}

impl<T: MetricVecBuilder> Labelled for MetricVec<T> {
    fn series(&self) -> HashSet<Labels> {
        let families = self.collect();
        let series = families.iter().flat_map(|family| family.get_metric());
        let labels = series.map(|series| {
            let labels = series.get_label().iter();
            let pair = |label: &prometheus::proto::LabelPair| {
                (label.name().to_owned(), label.value().to_owned())
            };
            labels.map(pair).collect()
        });
        labels.collect()
    }

    fn drop_series(&self, labels: &Labels) {
        let labels = labels.iter().map(|(name, value)| (&**name, &**value));
        // That it is gone already is as good.
        let _ = self.remove(&labels.collect::<HashMap<_, _>>());
    }
}

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

    /// Which series there are.
    pub fn series(&self) -> Series {
        Series(self.labelled().map(Labelled::series).into())
    }

    /// Drops the series that have come since then: those of a configuration that did
    /// not come into force, of which nothing can have been counted.
    pub fn take_back(&self, before: &Series) {
        for (metric, before) in self.labelled().into_iter().zip(&before.0) {
            for new in metric.series().difference(before) {
                metric.drop_series(new);
            }
        }
    }

    /// Those whose series a configuration makes when it is built.
    fn labelled(&self) -> [&dyn Labelled; 14] {
        [
            &self.requests,
            &self.refusals,
            &self.request_duration,
            &self.deliveries,
            &self.attempts,
            &self.delivery_duration,
            &self.key_verified,
            &self.key_last_verified,
            &self.repeats,
            &self.body_changed,
            &self.queue_messages,
            &self.destination_in_flight,
            &self.clock_skew,
            &self.last_verified,
        ]
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
