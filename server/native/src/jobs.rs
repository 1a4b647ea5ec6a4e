//! The requests of one version that are not answered yet: what was asked, who waits, and what there is of the answer.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::caught::caught;
use crate::form::Fitted;
use crate::queue::{ByKey, Piece};
use crate::router::Arm;
use crate::tensors::Rows;

/// Rows of the outputs of one run.
pub struct Part {
    pub outputs: Rc<Vec<Rows>>,
    pub start: usize,
    pub stop: usize,
}

impl Part {
    /// The bytes of an output, by its order among those that were computed.
    pub fn bytes(&self, order: usize) -> &[u8] {
        self.outputs[order].bytes(self.start, self.stop)
    }

    /// The sizes of an output.
    pub fn shape(&self, order: usize) -> impl Iterator<Item = usize> + Clone + '_ {
        self.outputs[order].shape(self.start, self.stop)
    }
}

/// What came of a request: its rows of each run it was in, and how long it waited and ran; or why there are none.
#[derive(Default)]
pub struct Computed {
    pub parts: Vec<Part>,
    pub queued: Duration,
    pub ran: Duration,
    pub batch_rows: usize,
}

impl Computed {
    /// The rows of one more run, of a batch of `rows` rows.
    pub fn add(&mut self, part: Part, took: Duration, rows: usize) {
        self.parts.push(part);
        self.ran += took;
        self.batch_rows = self.batch_rows.max(rows);
    }
}

/// Why a request has no outputs.
pub enum Lost {
    Expired,
    Gone,
    Failed(String),
}

pub type Outcome = Result<Computed, Lost>;

/// Whoever waits for a request.
pub trait Waiter {
    /// Whether nobody waits any more.
    fn is_gone(&mut self) -> bool;

    /// What came of it.
    fn end(self: Box<Self>, outcome: Outcome);
}

/// A request to be queued, `since` when it waits.
pub struct Submission<W> {
    pub fitted: Rc<Fitted>,
    pub deadline: Option<Instant>,
    pub id: Bytes,
    pub arm: Arm,
    pub since: Instant,
    pub waiter: Box<W>,
}

/// A request that waits, or runs.
pub struct Job {
    pub fitted: Rc<Fitted>,
    pub since: Instant,
    pub computed: Computed,
    taken: usize,
    deadline: Option<Instant>,
    id: Bytes,
    arm: Arm,
    waiter: Box<dyn Waiter>,
}

impl Job {
    pub fn new<W: Waiter + 'static>(submission: Submission<W>) -> Self {
        let Submission { fitted, deadline, id, arm, since, waiter } = submission;
        Job { fitted, since, computed: Computed::default(), taken: 0, deadline, id, arm, waiter }
    }

    /// Whether nothing needs to be computed for it any more.
    fn is_over(&mut self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now) || self.is_gone()
    }

    /// Whoever waits may have a defect, and is gone then: others share the batch.
    fn is_gone(&mut self) -> bool {
        caught(|| self.waiter.is_gone()).unwrap_or(true)
    }

    pub fn answer(mut self) {
        let computed = std::mem::take(&mut self.computed);
        self.end(Ok(computed));
    }

    pub fn fail(self, text: &str) {
        self.end(Err(Lost::Failed(text.into())));
    }

    /// Its deadline has passed, or its caller is gone.
    pub fn expire(mut self) {
        let lost = if self.is_gone() { Lost::Gone } else { Lost::Expired };
        self.end(Err(lost));
    }

    fn end(self, outcome: Outcome) {
        caught(|| self.waiter.end(outcome));
    }
}

/// Rows of one request in a batch: `start` to `stop`.
pub struct Share {
    pub key: u64,
    pub start: usize,
    pub stop: usize,
    pub fitted: Rc<Fitted>,
    pub since: Instant,
    pub id: Bytes,
    pub arm: Arm,
}

impl Share {
    pub fn rows(&self) -> usize {
        self.stop - self.start
    }
}

#[derive(Default)]
pub struct Jobs {
    by_key: HashMap<u64, Job, ByKey>,
}

impl Jobs {
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.by_key.keys().copied()
    }

    pub fn into_iter(self) -> impl Iterator<Item = Job> {
        self.by_key.into_values()
    }

    pub fn insert(&mut self, key: u64, job: Job) {
        self.by_key.insert(key, job);
    }

    pub fn get(&mut self, key: u64) -> Option<&mut Job> {
        self.by_key.get_mut(&key)
    }

    pub fn remove(&mut self, key: u64) -> Option<Job> {
        self.by_key.remove(&key)
    }

    /// The request, if it is over before a batch has taken anything of it.
    pub fn over(&mut self, key: u64, now: Instant) -> Option<Job> {
        let job = self.by_key.get_mut(&key)?;
        if job.taken == 0 && job.is_over(now) { self.by_key.remove(&key) } else { None }
    }

    /// What a batch takes of a request; nothing if that has ended.
    pub fn share(&mut self, piece: Piece) -> Option<Share> {
        let Piece { key, start, stop } = piece;
        let job = self.by_key.get_mut(&key)?;
        job.taken += stop - start;
        Some(Share { key, start, stop, fitted: job.fitted.clone(), since: job.since, id: job.id.clone(), arm: job.arm })
    }

    /// Those that are over, whether they wait or run.
    pub fn swept(&mut self, now: Instant) -> Vec<(u64, Job)> {
        self.by_key.extract_if(|_, job| job.is_over(now)).collect()
    }

    /// The deadline that is next.
    pub fn soonest(&self) -> Option<Instant> {
        self.by_key.values().filter_map(|job| job.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Fails at whatever it is asked or told; the others count how many of them have ended.
    enum Someone {
        Broken,
        Whole(Rc<Cell<usize>>),
    }

    impl Waiter for Someone {
        fn is_gone(&mut self) -> bool {
            assert!(matches!(self, Someone::Whole(_)), "provoked");
            false
        }

        fn end(self: Box<Self>, _: Outcome) {
            let Someone::Whole(ended) = *self else { panic!("provoked") };
            ended.set(ended.get() + 1);
        }
    }

    fn job(waiter: Someone) -> Job {
        let fitted = Rc::new(Fitted { inputs: Vec::new(), rows: 1, wanted: Rc::new([]), computed: Rc::new([]) });
        let since = Instant::now();
        Job::new(Submission { fitted, deadline: None, id: Bytes::new(), arm: Arm::Stable, since, waiter: Box::new(waiter) })
    }

    #[test]
    fn whoever_fails_while_it_waits_is_gone_and_others_wait_on() {
        let (mut jobs, ended) = (Jobs::default(), Rc::default());
        jobs.insert(1, job(Someone::Broken));
        jobs.insert(2, job(Someone::Whole(Rc::clone(&ended))));
        let swept: Vec<u64> = jobs.swept(Instant::now()).into_iter().map(|(key, _)| key).collect();
        assert_eq!(swept, [1]);
        for ending in [Job::answer, Job::expire, |job: Job| job.fail("")] {
            ending(job(Someone::Broken));
            ending(job(Someone::Whole(Rc::clone(&ended))));
        }
        assert_eq!(ended.get(), 3);
    }
}
