use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lapin::Channel;
use lapin::types::ShortString;
use tokio::time::Instant;

use super::flight::{Doubt, Flight};
use super::under_way::{Learned, UnderWay, half};
use super::waiting::{Batch, Room};

/// One channel, and what is under way on it.
pub(super) struct Window {
    channel: Arc<Channel>,
    confirm_timeout: Duration,
    under_way: UnderWay,
    /// Where they all go: the broker closes a channel over an exchange that it
    /// does not have, and that is to cost no neighbour.
    exchange: ShortString,
    /// Whether that is not proven, and one is alone.
    trial: bool,
}

/// Up to so many may be under way on one channel.
const LIMIT: usize = 512;

impl Window {
    /// `channel` is open, has confirms, and nobody else publishes on it.
    pub(super) fn new(channel: Channel, confirm_timeout: Duration) -> Self {
        Self {
            channel: Arc::new(channel),
            confirm_timeout,
            under_way: UnderWay::new(),
            exchange: ShortString::default(),
            trial: false,
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether it is good for nothing any more, and no outcome is to be waited for.
    pub(super) fn is_over(&self) -> bool {
        let open = self.channel.status().connected();
        (self.under_way.spent || !open) && !self.under_way.is_awaited()
    }

    /// Where those under way go, and whether that was a trial, which is over when
    /// this is asked.
    pub(super) fn tried(&mut self) -> (ShortString, bool) {
        (self.exchange.clone(), std::mem::take(&mut self.trial))
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What may be published beside what is under way. `overdue`: it waited long
    /// enough for more to come.
    pub(super) fn room(&mut self, overdue: bool) -> Room<'_> {
        let under_way = self.under_way.len();
        let shut = self.under_way.spent || self.trial;
        Room {
            exchange: (under_way > 0).then_some(&self.exchange),
            limit: if shut {
                0
            } else {
                LIMIT.saturating_sub(under_way)
            },
            // The second goes to a channel on which nothing is under way, if there
            // is one.
            enough: match under_way {
                1.. if !overdue => half(under_way).max(2),
                _ => 1,
            },
            ids: &mut self.under_way.ids,
        }
    }

    /// Hands these to the channel, in their order.
    pub(super) fn publish(&mut self, batch: Batch) {
        self.exchange = batch.exchange;
        self.trial = batch.trial;
        let deadline = Instant::now() + self.confirm_timeout;
        let jobs = batch.jobs.into_iter();
        self.under_way
            .begin(jobs.map(|job| Flight::new(&self.channel, job, deadline)));
    }

    /// Ready when it is time to [`settle`](Self::settle).
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.under_way.poll(context)
    }

    /// What has come of those under way.
    pub(super) fn settle(&mut self) -> Learned {
        self.under_way.settle()
    }

    /// Tells those whose confirm is late by now. True when the broker has answered
    /// nothing since one of them was published.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.under_way.expire(now, self.confirm_timeout)
    }

    /// How those came out that are left. `doubt` is why nothing is waited for any
    /// more, if something was.
    pub(super) fn end(self, doubt: Option<Doubt>) -> Learned {
        self.under_way.end(doubt)
    }
}
