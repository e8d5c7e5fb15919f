use std::collections::{HashSet, VecDeque};

use lapin::types::ShortString;

use super::job::Job;

/// What goes to the broker together.
///
/// One exchange, because the broker closes the channel over one it does not have,
/// and that is to cost no neighbour. No message id twice, because the id is what
/// tells which one the broker gave back.
pub(super) struct Batch {
    pub(super) exchange: ShortString,
    pub(super) jobs: Vec<Job>,
    /// The exchange is not proven, and this is one job alone.
    pub(super) trial: bool,
}

/// What may be published on a channel beside what is under way on it.
pub(super) struct Room<'a> {
    /// Where what is under way goes, if anything is.
    pub(super) exchange: Option<&'a ShortString>,
    /// Its ids; those of a batch are added.
    pub(super) ids: &'a mut HashSet<ShortString>,
    /// How many at most.
    pub(super) limit: usize,
    /// As long as fewer wait, more are waited for.
    pub(super) enough: usize,
}

/// What a batch showed of the exchange that it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The broker answered, so that it is there.
    There,
    /// The broker closed the channel, as it does over one that is not there.
    Refused,
    /// No answer came.
    Nothing,
}

/// How many of those that go elsewhere, or under an id again, are looked past.
const FURTHER: usize = 128;
/// How many exchanges are known to be there: names may be made of what comes
/// from outside.
const KNOWN: usize = 1024;
/// Trials at once: fewer than there are channels, so that what is known to pass
/// never waits for what may not.
const TRIALS: usize = 1;

/// Publications that wait, and which of them may go together.
#[derive(Default)]
pub(super) struct Waiting {
    /// Those to exchanges that are proven.
    jobs: VecDeque<Job>,
    /// Those to exchanges that are not.
    untried: VecDeque<Job>,
    /// The exchanges that have taken something on this connection.
    proven: HashSet<ShortString>,
    /// How many channels are at a trial.
    trials: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.jobs.len() + self.untried.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.untried.is_empty()
    }

    /// Whether there is something for one more channel.
    pub(super) fn has_more(&self) -> bool {
        !self.jobs.is_empty() || (!self.untried.is_empty() && self.trials < TRIALS)
    }

    pub(super) fn line_up(&mut self, job: Job) {
        if self.proven.contains(&job.publication.exchange) {
            self.jobs.push_back(job);
        } else {
            self.untried.push_back(job);
        }
    }

    /// After other exchanges are proven than before.
    fn line_up_anew(&mut self) {
        for job in self.take_all() {
            self.line_up(job);
        }
    }

    /// Empties it.
    pub(super) fn take_all(&mut self) -> Vec<Job> {
        let (jobs, untried) = (&mut self.jobs, &mut self.untried);
        jobs.drain(..).chain(untried.drain(..)).collect()
    }

    /// Notes what became of an exchange with a batch.
    pub(super) fn learn(&mut self, exchange: ShortString, trial: bool, shown: Shown) {
        if trial {
            self.trials = self.trials.saturating_sub(1);
        }
        match shown {
            Shown::There => self.prove(exchange),
            Shown::Refused => self.doubt(&exchange),
            Shown::Nothing => {}
        }
    }

    /// On a new connection, nothing is known.
    pub(super) fn forget(&mut self) {
        self.trials = 0;
        self.proven.clear();
        self.line_up_anew();
    }

    fn prove(&mut self, exchange: ShortString) {
        // As with nearly every batch: then nothing is lined up otherwise.
        if self.proven.contains(&exchange) {
            return;
        }
        if self.proven.len() >= KNOWN {
            self.proven.clear();
        }
        self.proven.insert(exchange);
        self.line_up_anew();
    }

    fn doubt(&mut self, exchange: &ShortString) {
        if self.proven.remove(exchange) {
            self.line_up_anew();
        }
    }

    /// What may go now. See [`Queue::take`](super::queue::Queue::take).
    pub(super) fn batch(&mut self, room: &mut Room<'_>) -> Option<Batch> {
        if room.limit == 0 || self.len() < room.enough {
            return None;
        }
        if room.exchange.is_none()
            && self.trials < TRIALS
            && let Some(job) = self.first_untried()
        {
            self.trials += 1;
            room.ids.insert(job.publication.message_id.clone());
            return Some(Batch {
                exchange: job.publication.exchange.clone(),
                jobs: vec![job],
                trial: true,
            });
        }
        // Whoever is first is not passed over for ever by those that follow what
        // is under way.
        let exchange = self.jobs.front()?.publication.exchange.clone();
        if room.exchange.is_some_and(|own| *own != exchange) {
            return None;
        }
        let jobs = self.together(&exchange, room);
        (!jobs.is_empty()).then_some(Batch {
            exchange,
            jobs,
            trial: false,
        })
    }

    /// One that was taken back is dropped here.
    fn first_untried(&mut self) -> Option<Job> {
        while let Some(job) = self.untried.pop_front() {
            if job.begin() {
                return Some(job);
            }
        }
        None
    }

    fn together(&mut self, exchange: &ShortString, room: &mut Room<'_>) -> Vec<Job> {
        let limit = room.limit;
        let mut jobs: Vec<Job> = Vec::with_capacity(limit.min(self.jobs.len()));
        let mut later = Vec::new();
        while jobs.len() < limit
            && later.len() < FURTHER
            && let Some(job) = self.jobs.pop_front()
        {
            let id = &job.publication.message_id;
            if job.publication.exchange != *exchange || room.ids.contains(id) {
                later.push(job);
                continue;
            }
            // One that was taken back is dropped here.
            if job.begin() {
                room.ids.insert(id.clone());
                jobs.push(job);
            }
        }
        for job in later.into_iter().rev() {
            self.jobs.push_front(job);
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::BasicProperties;

    use super::super::properties::Publication;
    use super::*;
    use crate::deliver::claim::Claim;

    fn job(exchange: &str, id: &str) -> (Job, Claim) {
        let (job, claim, _) = Job::new(Publication {
            exchange: exchange.into(),
            routing_key: "key".into(),
            message_id: id.into(),
            properties: BasicProperties::default(),
            body: Bytes::new(),
        });
        (job, claim)
    }

    /// One where `x` and `y` are proven, and these wait.
    fn with(jobs: &[(&str, &str)]) -> (Waiting, Vec<Claim>) {
        let mut waiting = Waiting::default();
        for exchange in ["x", "y"] {
            waiting.learn(exchange.into(), false, Shown::There);
        }
        let claims = add(&mut waiting, jobs);
        (waiting, claims)
    }

    fn add(waiting: &mut Waiting, jobs: &[(&str, &str)]) -> Vec<Claim> {
        let add = |(exchange, id): &(&str, &str)| {
            let (job, claim) = job(exchange, id);
            waiting.line_up(job);
            claim
        };
        jobs.iter().map(add).collect()
    }

    fn ids(jobs: &[Job]) -> Vec<&str> {
        let ids = jobs.iter().map(|job| job.publication.message_id.as_str());
        ids.collect()
    }

    /// What goes to a channel on which nothing is under way.
    fn batch(waiting: &mut Waiting, limit: usize) -> Option<Batch> {
        waiting.batch(&mut Room {
            exchange: None,
            ids: &mut HashSet::new(),
            limit,
            enough: 1,
        })
    }

    fn take(waiting: &mut Waiting, limit: usize) -> Vec<Job> {
        batch(waiting, limit).map_or_else(Vec::new, |batch| batch.jobs)
    }

    #[test]
    fn what_goes_together_has_no_id_twice_and_one_exchange() {
        let jobs = [("x", "1"), ("x", "1"), ("y", "2"), ("x", "3"), ("x", "1")];
        let (mut waiting, _claims) = with(&jobs);
        for expected in [&["1", "3"][..], &["1"], &["2"], &["1"]] {
            assert_eq!(ids(&take(&mut waiting, 8)), expected);
        }
    }

    #[test]
    fn beside_what_is_under_way_goes_what_has_its_exchange_and_none_of_its_ids() {
        let jobs = [("x", "1"), ("x", "2"), ("y", "3"), ("x", "4")];
        let (mut waiting, _claims) = with(&jobs);
        let (x, mut ids) = ("x".into(), HashSet::from(["1".into()]));
        let mut beside = |limit, enough| {
            let exchange = Some(&x);
            let batch = waiting.batch(&mut Room {
                exchange,
                ids: &mut ids,
                limit,
                enough,
            });
            batch.map(|batch| self::ids(&batch.jobs).join(" "))
        };
        assert_eq!(beside(8, 5), None);
        assert_eq!(beside(0, 4), None);
        assert_eq!(beside(1, 4).as_deref(), Some("2"));
        assert_eq!(beside(8, 1).as_deref(), Some("4"));
        ids.remove("1");
        // What goes elsewhere is not passed over for ever.
        let [_first] = take(&mut waiting, 1).try_into().ok().unwrap();
        let _claims = add(&mut waiting, &[("x", "5")]);
        let beside = waiting.batch(&mut Room {
            exchange: Some(&x),
            ids: &mut ids,
            limit: 8,
            enough: 1,
        });
        assert!(beside.is_none());
    }

    #[test]
    fn to_an_exchange_that_is_not_proven_goes_one_alone() {
        let jobs = [("new", "1"), ("new", "2"), ("other", "3"), ("x", "4")];
        let (mut waiting, _claims) = with(&jobs);
        let alone = batch(&mut waiting, 8).unwrap();
        assert!(alone.trial);
        assert_eq!(ids(&alone.jobs), ["1"]);
        // What is proven waits for no trial, and no other trial begins.
        assert_eq!(ids(&take(&mut waiting, 8)), ["4"]);
        assert!(!waiting.has_more() && batch(&mut waiting, 8).is_none());

        waiting.learn(alone.exchange, true, Shown::Refused);
        assert!(waiting.has_more());
        let again = batch(&mut waiting, 8).unwrap();
        assert_eq!(ids(&again.jobs), ["2"]);
        let _more = add(&mut waiting, &[("new", "5"), ("new", "6")]);
        waiting.learn(again.exchange, true, Shown::There);
        assert_eq!(ids(&take(&mut waiting, 8)), ["3"]);
        let proven = batch(&mut waiting, 8).unwrap();
        assert!(!proven.trial);
        assert_eq!(ids(&proven.jobs), ["5", "6"]);
    }

    #[test]
    fn an_exchange_is_proven_until_the_broker_refuses_it_or_the_connection_is_another() {
        let (mut waiting, _) = with(&[]);
        let is_trial = |waiting: &mut Waiting| {
            let _claims = add(waiting, &[("x", "1")]);
            batch(waiting, 8).unwrap().trial
        };
        assert!(!is_trial(&mut waiting));
        waiting.learn("x".into(), false, Shown::Nothing);
        assert!(!is_trial(&mut waiting));
        // Those that wait by then, too.
        let _claims = add(&mut waiting, &[("x", "2")]);
        waiting.learn("x".into(), false, Shown::Refused);
        assert!(batch(&mut waiting, 8).unwrap().trial);
        waiting.learn("x".into(), true, Shown::There);
        assert!(!is_trial(&mut waiting));
        waiting.forget();
        assert!(is_trial(&mut waiting));
    }

    #[test]
    fn no_more_exchanges_are_remembered_than_may_be() {
        let (mut waiting, _) = with(&[]);
        for number in 0..2 * KNOWN {
            waiting.learn(format!("x{number}").into(), true, Shown::There);
            assert!(waiting.proven.len() <= KNOWN);
            // One that is remembered pushes no other out.
            if waiting.proven.len() == KNOWN {
                waiting.learn(format!("x{number}").into(), false, Shown::There);
                assert_eq!(waiting.proven.len(), KNOWN);
            }
        }
    }

    #[test]
    fn no_more_is_taken_than_there_is_room_for() {
        let (mut waiting, _claims) = with(&[("x", "1"), ("x", "2"), ("x", "3")]);
        assert_eq!(ids(&take(&mut waiting, 2)), ["1", "2"]);
        assert_eq!(ids(&take(&mut waiting, 2)), ["3"]);
    }

    #[test]
    fn what_was_taken_back_is_never_published_and_what_was_begun_is_not_taken_back() {
        for exchange in ["x", "new"] {
            let (mut waiting, claims) = with(&[(exchange, "1"), (exchange, "2"), (exchange, "3")]);
            let [first, second, third] = claims.try_into().ok().unwrap();
            assert!(first.take_back());
            drop(third);
            assert_eq!(ids(&take(&mut waiting, 8)), ["2"]);
            assert!(!second.take_back());
        }
    }
}
