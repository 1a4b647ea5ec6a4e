//! One loaded version: its queue, and the thread that runs its batches. Sockets are not known here.
//!
//! It never waits while the engine is idle: what came while the engine ran is the next batch. A batch that fails is halved until only the
//! requests at fault fail. The interpreter is held for the run alone: everything for each request is done before and after.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::engine::{Engine, Failure, Told};
use crate::form::{Fitted, Form};
use crate::pace::Pace;
use crate::queue::{FairQueue, Piece, Ticket};
use crate::router::Arm;
use crate::tensors::{Datatype, Rows, Tensor};

/// What came of a request: the tensors of each run it was in, and how long it waited and ran; or why there are none.
pub struct Computed {
    pub parts: Vec<Vec<Tensor>>,
    pub queued: Duration,
    pub ran: Duration,
    pub batch_rows: usize,
}

/// Why a request has no outputs.
pub enum Lost {
    Expired,
    Failed(String),
}

pub type Outcome = Result<Computed, Lost>;

/// A batch that ran, for the counters.
pub struct Ran {
    pub rows: usize,
    pub took: Duration,
    pub queued: Vec<Duration>,
}

/// A request to be queued, `since` when it waits.
pub struct Submission {
    pub ticket: Ticket,
    pub fitted: Fitted,
    pub deadline: Option<Instant>,
    pub id: Bytes,
    pub arm: Arm,
    pub since: Instant,
}

struct Job {
    fitted: Arc<Fitted>,
    taken: usize,
    deadline: Option<Instant>,
    since: Instant,
    id: Bytes,
    arm: Arm,
    reply: oneshot::Sender<Outcome>,
    computed: Computed,
}

#[derive(Default)]
struct Jobs {
    by_key: HashMap<u64, Job>,
}

struct State {
    queue: FairQueue,
    jobs: Jobs,
    pace: Pace,
    running: usize,
    closed: bool,
    stopped: bool,
}

/// Limits of a lane. `max_delay` is how long an idle engine waits for a batch to fill.
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_rows: usize,
    pub max_delay: Duration,
}

/// The queue and the thread of one loaded version.
pub struct Lane {
    pub model: String,
    pub version: u32,
    pub form: Form,
    limits: Limits,
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The version takes no more requests: choose again.
pub struct Closed;

impl Lane {
    /// A lane whose batches `engine` runs on a thread of its own; `observe` is told of each, after its callers have their answers.
    pub fn start(
        model: String,
        version: u32,
        form: Form,
        limits: Limits,
        engine: Engine,
        observe: impl Fn(Ran) + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let state = State {
            queue: FairQueue::new(limits.max_rows),
            jobs: Jobs::default(),
            pace: Pace::default(),
            running: 0,
            closed: false,
            stopped: false,
        };
        let lane =
            Arc::new(Lane { model, version, form, limits, state: Mutex::new(state), changed: Condvar::new(), thread: Mutex::new(None) });
        let own = lane.clone();
        let thread = std::thread::Builder::new().name(format!("lane-{}", lane.version)).spawn(move || own.run(&engine, observe))?;
        *lane.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(lane)
    }

    /// Rows waiting now.
    pub fn queue_rows(&self) -> usize {
        self.lock().queue.rows()
    }

    /// Queue a request; what comes of it is sent to the receiver. The key gives it up.
    pub fn submit(&self, submission: Submission) -> Result<(u64, oneshot::Receiver<Outcome>), Closed> {
        let Submission { ticket, fitted, deadline, id, arm, since } = submission;
        let (reply, outcome) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        let idle = state.queue.rows() == 0;
        let key = state.queue.push(ticket);
        let computed = Computed { parts: Vec::new(), queued: Duration::ZERO, ran: Duration::ZERO, batch_rows: 0 };
        state.jobs.by_key.insert(key, Job { fitted: Arc::new(fitted), taken: 0, deadline, since, id, arm, reply, computed });
        let full = state.queue.rows() >= self.limits.max_rows;
        drop(state);
        if idle || full {
            self.changed.notify_one();
        }
        Ok((key, outcome))
    }

    /// Give a request up, because its caller is gone; nothing more is sent of it.
    pub fn give_up(&self, key: u64) {
        let mut state = self.lock();
        state.queue.drop(key);
        state.jobs.by_key.remove(&key);
    }

    /// Seconds until such a request would be answered, if nothing that is served before it comes after it; `None` if the engine is idle.
    pub fn expect(&self, level: usize, caller: &str, rows: usize) -> Option<f64> {
        let state = self.lock();
        if state.running == 0 && state.queue.rows() == 0 {
            return None;
        }
        let ahead = state.queue.ahead(level, caller, rows);
        Some(state.pace.expect(state.running + ahead + rows, self.limits.max_rows))
    }

    /// Take no more requests; those queued are still answered.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Run nothing more, not even what is queued.
    pub fn stop(&self) {
        let mut state = self.lock();
        (state.closed, state.stopped) = (true, true);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, engine: &Engine, observe: impl Fn(Ran)) {
        while let Some(batch) = self.take() {
            if batch.is_empty() {
                continue;
            }
            let started = Instant::now();
            let rows: usize = batch.iter().map(Share::rows).sum();
            for ran in self.answer(engine, &batch) {
                observe(ran);
            }
            self.lock().pace.add(rows, started.elapsed().as_secs_f64());
        }
    }

    /// The next batch without those that expired; `None` at the end.
    fn take(&self) -> Option<Vec<Share>> {
        let mut state = self.lock();
        state.running = 0;
        loop {
            if state.stopped {
                state.jobs.by_key.clear();
                return None;
            }
            if state.queue.rows() > 0 {
                break;
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state = self.linger(state);
        let pieces = state.queue.take();
        let now = Instant::now();
        let shares: Vec<Share> = pieces.into_iter().filter_map(|piece| state.jobs.share(piece, now)).collect();
        state.running = shares.iter().map(Share::rows).sum();
        Some(shares)
    }

    /// Wait for the batch to fill, where the settings say so.
    fn linger<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let end = Instant::now() + self.limits.max_delay;
        while !self.limits.max_delay.is_zero() && state.queue.rows() < self.limits.max_rows && !state.closed {
            let patience = Duration::from_secs_f64(2.0 * state.pace.expect(state.queue.rows(), self.limits.max_rows));
            let soonest = state.jobs.soonest().map_or(end, |deadline| end.min(deadline.checked_sub(patience).unwrap_or(deadline)));
            let left = soonest.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn answer(&self, engine: &Engine, batch: &[Share]) -> Vec<Ran> {
        let started = Instant::now();
        match self.compute(engine, batch) {
            Ok(outputs) => {
                let ran = self.deliver(batch, outputs, started);
                engine.tell(batch.iter().map(Share::told));
                vec![ran]
            }
            Err(Failure(text)) if batch.len() == 1 => {
                self.fail(batch[0].piece.key, &text);
                Vec::new()
            }
            Err(_) => {
                let (first, second) = batch.split_at(batch.len() / 2);
                let mut ran = self.answer(engine, first);
                ran.append(&mut self.answer(engine, second));
                ran
            }
        }
    }

    fn compute(&self, engine: &Engine, batch: &[Share]) -> Result<Vec<Tensor>, Failure> {
        let first = &batch[0].fitted;
        let inputs: Vec<Tensor> = (0..first.inputs.len()).map(|place| gathered(batch, place)).collect();
        let outputs = engine.run(&self.form, &inputs, &first.computed)?;
        let rows: usize = batch.iter().map(Share::rows).sum();
        let whole = batch.len() == 1 && batch[0].rows() == first.rows;
        if !whole && outputs.iter().any(|tensor| tensor.shape.first() != Some(&rows)) {
            return Err(Failure("the model gave another number of rows than it got".into()));
        }
        Ok(outputs)
    }

    fn deliver(&self, batch: &[Share], outputs: Vec<Tensor>, started: Instant) -> Ran {
        let took = started.elapsed();
        let rows: usize = batch.iter().map(Share::rows).sum();
        let mut ran = Ran { rows, took, queued: Vec::new() };
        let alone = batch.len() == 1;
        let mut parted: Vec<Rows> = if alone { Vec::new() } else { outputs.iter().cloned().map(Rows::new).collect() };
        let mut whole = Some(outputs);
        let mut state = self.lock();
        for share in batch {
            let part =
                if alone { whole.take().unwrap_or_default() } else { parted.iter_mut().map(|rows| rows.next(share.rows())).collect() };
            let Some(job) = state.jobs.by_key.get_mut(&share.piece.key) else { continue };
            if share.piece.start == 0 {
                job.computed.queued = started.saturating_duration_since(job.since);
                ran.queued.push(job.computed.queued);
            }
            job.computed.ran += took;
            job.computed.batch_rows = job.computed.batch_rows.max(rows);
            job.computed.parts.push(part);
            if share.piece.stop == job.fitted.rows
                && let Some(job) = state.jobs.by_key.remove(&share.piece.key)
            {
                // Whoever waited may be gone.
                let _ = job.reply.send(Ok(job.computed));
            }
        }
        ran
    }

    fn fail(&self, key: u64, text: &str) {
        let mut state = self.lock();
        state.queue.drop(key);
        if let Some(job) = state.jobs.by_key.remove(&key) {
            let _ = job.reply.send(Err(Lost::Failed(text.into())));
        }
    }
}

/// Rows of one request in a batch.
struct Share {
    piece: Piece,
    fitted: Arc<Fitted>,
    since: Instant,
    id: Bytes,
    arm: Arm,
}

impl Share {
    fn told(&self) -> Told<'_> {
        Told { id: &self.id, arm: self.arm.name(), since: self.since, rows: self.rows(), start: self.piece.start }
    }

    fn rows(&self) -> usize {
        self.piece.stop - self.piece.start
    }
}

impl Jobs {
    fn share(&mut self, piece: Piece, now: Instant) -> Option<Share> {
        let job = self.by_key.get_mut(&piece.key)?;
        if job.taken == 0 && job.deadline.is_some_and(|deadline| deadline <= now) {
            let job = self.by_key.remove(&piece.key)?;
            let _ = job.reply.send(Err(Lost::Expired));
            return None;
        }
        job.taken += piece.stop - piece.start;
        Some(Share { piece, fitted: job.fitted.clone(), since: job.since, id: job.id.clone(), arm: job.arm })
    }

    fn soonest(&self) -> Option<Instant> {
        self.by_key.values().filter_map(|job| job.deadline).min()
    }
}

/// The rows of all shares of one input, in memory of their own: what numpy sees is aligned, and nobody else's.
fn gathered(batch: &[Share], place: usize) -> Tensor {
    let first = &batch[0].fitted.inputs[place];
    let mut shape = first.shape.clone();
    let whole = batch.len() == 1 && batch[0].rows() == batch[0].fitted.rows;
    if !whole {
        shape[0] = batch.iter().map(Share::rows).sum();
    }
    let size = if whole { first.data.len() } else { shape.iter().product::<usize>() * first.datatype.size().max(8) };
    let mut data = BytesMut::with_capacity(size);
    for share in batch {
        data.put_slice(&rows_of(share, place));
    }
    Tensor::new(first.datatype, shape, data.freeze())
}

fn rows_of(share: &Share, place: usize) -> Bytes {
    let input = &share.fitted.inputs[place];
    if share.rows() == share.fitted.rows {
        return input.data.clone();
    }
    let width: usize = input.shape[1..].iter().product();
    if input.datatype == Datatype::Bytes {
        let mut rows = Rows::new(Tensor::new(input.datatype, input.shape.clone(), input.data.clone()));
        rows.next(share.piece.start);
        return rows.next(share.rows()).into_data();
    }
    let row = width * input.datatype.size();
    input.data.slice(share.piece.start * row..share.piece.stop * row)
}
