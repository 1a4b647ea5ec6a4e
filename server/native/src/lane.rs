//! One loaded version: its queue, and its batches on their way to the engine and back. Sockets are not known here.
//!
//! It never waits while the engine is idle: what came while the engine ran is the next batch. A batch that fails is halved until only the
//! requests at fault fail. All of it is on the thread that serves; the engine computes on one of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::caught::caught_task;
use crate::counters::VersionCounters;
use crate::engine::{Failure, Work, Worker};
use crate::form::Form;
use crate::jobs::{Job, Jobs, Part, Share, Submission, Waiter};
use crate::logged::{Chosen, Told};
use crate::pace::Pace;
use crate::pool::Pool;
use crate::queue::{FairQueue, Ticket};
use crate::sampling::Sampling;
use crate::tensors::{self, Rows, Tensor};

/// How soon it is seen that a request that waits has expired, or that its caller is gone.
const SWEEP: Duration = Duration::from_millis(2);
/// Most of the time that is given to seeing it.
const SWEEP_SHARE: u32 = 100;

/// Limits of a lane. `max_delay` is how long an idle engine waits for a batch to fill.
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_rows: usize,
    pub max_delay: Duration,
}

/// A batch that ran, for the counters.
pub struct Ran {
    pub rows: usize,
    pub took: Duration,
    pub queued: Vec<Duration>,
}

/// The queue of one loaded version.
pub struct Lane {
    pub model: String,
    pub version: u32,
    pub form: Form,
    pub counters: Arc<VersionCounters>,
    limits: Limits,
    pool: Arc<Pool>,
    queue: RefCell<FairQueue>,
    jobs: RefCell<Jobs>,
    pace: RefCell<Pace>,
    running: Cell<usize>,
    closed: Cell<bool>,
    changed: Notify,
    waits: Notify,
}

/// The version takes no more requests: choose again.
pub struct Closed;

impl Lane {
    /// A lane whose batches `worker` runs, until it is closed and has nothing left. To be called on the thread that serves.
    pub fn start(
        model: String,
        version: u32,
        form: Form,
        limits: Limits,
        pool: Arc<Pool>,
        counters: Arc<VersionCounters>,
        worker: Worker,
    ) -> Rc<Self> {
        let lane = Rc::new(Lane {
            model,
            version,
            form,
            counters,
            limits,
            pool,
            queue: RefCell::new(FairQueue::new(limits.max_rows)),
            jobs: RefCell::default(),
            pace: RefCell::default(),
            running: Cell::new(0),
            closed: Cell::new(false),
            changed: Notify::new(),
            waits: Notify::new(),
        });
        let sweeping = tokio::task::spawn_local(lane.clone().sweep());
        let own = lane.clone();
        tokio::task::spawn_local(async move {
            own.run(worker).await;
            sweeping.abort();
        });
        lane
    }

    /// Queue a request; its waiter is told what comes of it.
    pub fn submit<W: Waiter + 'static>(&self, ticket: Ticket, submission: Submission<W>) -> Result<(), (Closed, Box<W>)> {
        if self.closed.get() {
            return Err((Closed, submission.waiter));
        }
        let mut queue = self.queue.borrow_mut();
        let idle = queue.rows() == 0;
        let key = queue.push(ticket);
        let rows = queue.rows();
        self.counters.waiting(rows);
        let mut jobs = self.jobs.borrow_mut();
        if jobs.is_empty() {
            self.waits.notify_one();
        }
        jobs.insert(key, Job::new(submission));
        if idle || rows >= self.limits.max_rows {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Seconds until such a request would be answered, if nothing that is served before it comes after it; `None` if the engine is idle.
    pub fn expect(&self, level: usize, caller: &str, rows: usize) -> Option<f64> {
        let queue = self.queue.borrow();
        if self.running.get() == 0 && queue.rows() == 0 {
            return None;
        }
        let ahead = queue.ahead(level, caller, rows);
        Some(self.pace.borrow().expect(self.running.get() + ahead + rows, self.limits.max_rows))
    }

    /// Take no more requests; those queued are still answered.
    pub fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
    }

    async fn run(&self, mut worker: Worker) {
        while self.has_rows().await {
            self.linger().await;
            let batch = self.take();
            if batch.is_empty() {
                continue;
            }
            // A defect of ours ends the requests of this batch, each with INTERNAL as it is dropped, and not the lane.
            let keys: Vec<u64> = batch.iter().map(|share| share.key).collect();
            if caught_task(self.answer(batch, &mut worker)).await.is_none() {
                self.forget(&keys);
            }
            self.running.set(0);
        }
    }

    /// Wait until there is something to run; false at the end.
    async fn has_rows(&self) -> bool {
        while self.queue.borrow().rows() == 0 {
            if self.closed.get() {
                return false;
            }
            self.changed.notified().await;
        }
        true
    }

    /// Wait for the batch to fill, where the settings say so.
    async fn linger(&self) {
        let end = Instant::now() + self.limits.max_delay;
        while !self.limits.max_delay.is_zero() && !self.closed.get() {
            let rows = self.queue.borrow().rows();
            let patience = Duration::from_secs_f64(2.0 * self.pace.borrow().expect(rows, self.limits.max_rows));
            let soonest = self.jobs.borrow().soonest().map_or(end, |deadline| end.min(deadline.checked_sub(patience).unwrap_or(deadline)));
            if rows == 0 || rows >= self.limits.max_rows || soonest <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(soonest.into()) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// The next batch, without those that expired or whose callers are gone.
    fn take(&self) -> Vec<Share> {
        let mut queue = self.queue.borrow_mut();
        let pieces = queue.take();
        let now = Instant::now();
        let (mut batch, mut dropped) = (Vec::with_capacity(pieces.len()), Vec::new());
        {
            let mut jobs = self.jobs.borrow_mut();
            for piece in pieces {
                if let Some(job) = jobs.over(piece.key, now) {
                    queue.drop(piece.key);
                    dropped.push(job);
                }
                batch.extend(jobs.share(piece));
            }
        }
        self.counters.waiting(queue.rows());
        drop(queue);
        self.running.set(batch.iter().map(Share::rows).sum());
        // Who is told may submit again, so nothing is borrowed meanwhile.
        dropped.into_iter().for_each(Job::expire);
        batch
    }

    async fn answer(&self, batch: Vec<Share>, worker: &mut Worker) {
        let begun = Instant::now();
        let rows: usize = batch.iter().map(Share::rows).sum();
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let started = Instant::now();
            match self.compute(&part, worker).await {
                Ok(outputs) => self.deliver(&part, outputs, started),
                Err(Failure(text)) if part.len() == 1 => self.fail(part[0].key, &text),
                Err(_) => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
            }
        }
        self.pace.borrow_mut().add(rows, begun.elapsed().as_secs_f64());
    }

    async fn compute(&self, batch: &[Share], worker: &mut Worker) -> Result<Vec<Tensor>, Failure> {
        let first = &batch[0].fitted;
        let rows: usize = batch.iter().map(Share::rows).sum();
        let inputs = (0..first.inputs.len()).map(|place| gathered(&self.pool, batch, rows, place)).collect();
        let counted = if worker.counts_drift() { batch.iter().map(|share| (share.arm, share.rows())).collect() } else { Vec::new() };
        let chosen = worker.sampling().map(|sampling| chosen(batch, sampling)).unwrap_or_default();
        let whole = batch.len() == 1 && batch[0].rows() == first.rows;
        worker.run(Work { inputs, computed: first.computed.to_vec(), rows: (!whole).then_some(rows), counted, chosen }).await
    }

    fn deliver(&self, batch: &[Share], outputs: Vec<Tensor>, started: Instant) {
        let took = started.elapsed();
        let rows: usize = batch.iter().map(Share::rows).sum();
        let mut ran = Ran { rows, took, queued: Vec::with_capacity(batch.len()) };
        let rows_of = if batch.len() == 1 { Rows::whole } else { Rows::of };
        let outputs: Rc<Vec<Rows>> = Rc::new(outputs.into_iter().map(rows_of).collect());
        let mut place = 0;
        for share in batch {
            let part = Part { outputs: outputs.clone(), start: place, stop: place + share.rows() };
            place = part.stop;
            let done = {
                let mut jobs = self.jobs.borrow_mut();
                let Some(job) = jobs.get(share.key) else { continue };
                if share.start == 0 {
                    job.computed.queued = started.saturating_duration_since(job.since);
                    ran.queued.push(job.computed.queued);
                }
                job.computed.add(part, took, rows);
                if share.stop == job.fitted.rows { jobs.remove(share.key) } else { None }
            };
            if let Some(job) = done {
                job.answer();
            }
        }
        self.counters.ran(&ran);
    }

    fn fail(&self, key: u64, text: &str) {
        self.queue.borrow_mut().drop(key);
        let failed = self.jobs.borrow_mut().remove(key);
        if let Some(job) = failed {
            job.fail(text);
        }
    }

    fn forget(&self, keys: &[u64]) {
        for key in keys {
            self.queue.borrow_mut().drop(*key);
            let job = self.jobs.borrow_mut().remove(*key);
            drop(job);
        }
    }

    /// Drop what waits for nothing: requests that have expired, and those whose callers are gone.
    async fn sweep(self: Rc<Self>) {
        let mut pause = SWEEP;
        loop {
            if self.jobs.borrow().is_empty() {
                self.waits.notified().await;
            }
            sleep(pause).await;
            let begun = Instant::now();
            let swept = self.jobs.borrow_mut().swept(begun);
            for (key, job) in swept {
                self.queue.borrow_mut().drop(key);
                job.expire();
            }
            self.counters.waiting(self.queue.borrow().rows());
            pause = SWEEP.max(begun.elapsed() * SWEEP_SHARE);
        }
    }

    /// End: what is queued is not answered any more.
    pub fn stop(&self) {
        self.close();
        for key in self.jobs.borrow().keys() {
            self.queue.borrow_mut().drop(key);
        }
        let jobs = self.jobs.take();
        jobs.into_iter().for_each(|job| job.fail("the daemon is shutting down"));
    }
}

/// Which requests of a batch are logged.
fn chosen(batch: &[Share], sampling: Sampling) -> Chosen {
    let mut row = 0;
    let requests = batch.iter().filter_map(|share| {
        let first = row;
        row += share.rows();
        sampling.has(&share.id).then(|| (first, told(share)))
    });
    Chosen { requests: requests.collect(), of: batch.len() }
}

fn told(share: &Share) -> Told {
    Told { id: share.id.clone(), arm: share.arm, since: share.since, rows: share.rows(), start: share.start }
}

/// The rows of all shares of one input, in memory of their own: what numpy sees is nobody else's.
fn gathered(pool: &Arc<Pool>, batch: &[Share], rows: usize, place: usize) -> Tensor {
    let first = &batch[0].fitted.inputs[place];
    let mut shape = first.shape.clone();
    let whole = batch.len() == 1 && batch[0].rows() == batch[0].fitted.rows;
    if !whole {
        shape[0] = rows;
    }
    Tensor::new(first.datatype, shape, pool.joined(batch.iter().map(|share| rows_of(share, place))))
}

/// The bytes of the rows of an input that a share has.
fn rows_of(share: &Share, place: usize) -> &[u8] {
    let input = &share.fitted.inputs[place];
    if share.rows() == share.fitted.rows {
        return &input.data;
    }
    tensors::rows(&input.data, input.datatype, input.shape[1..].iter().product(), share.start, share.stop)
}
