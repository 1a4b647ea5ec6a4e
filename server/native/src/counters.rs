//! Counts requests and batches as they are answered. They only grow; names and labels are Python's.
//!
//! Each version counts for itself: the thread that serves is the only one that adds, Python reads now and then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::lane::Ran;
use crate::router::Arm;
use crate::status;

/// How many values fell at or under each bound and over the one before; one more for those over all; and their sum.
#[derive(Clone)]
pub struct Histogram {
    pub counts: Vec<u64>,
    pub total: f64,
}

impl Histogram {
    fn new(bounds: &[f64]) -> Self {
        Histogram { counts: vec![0; bounds.len() + 1], total: 0.0 }
    }

    fn add(&mut self, bounds: &[f64], value: f64) {
        self.counts[bounds.partition_point(|bound| *bound < value)] += 1;
        self.total += value;
    }
}

/// Of one version. `requests` are by arm and code.
#[derive(Clone)]
pub struct VersionCounts {
    pub requests: [[u64; status::CODES]; Arm::NUMBER],
    pub request_seconds: Histogram,
    pub queue_seconds: Histogram,
    pub compute_seconds: Histogram,
    pub batch_rows: Histogram,
    pub failed_seconds: f64,
    pub last_answer: f64,
}

impl VersionCounts {
    /// Requests that were answered, by the names of arm and code.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.requests.iter().zip(Arm::ALL).flat_map(|(codes, arm)| {
            let seen = codes.iter().enumerate().filter(|(_, number)| **number > 0);
            seen.map(move |(code, number)| (arm.name(), status::name(code as u32), *number))
        })
    }
}

/// The counters of one version.
pub struct VersionCounters {
    bounds: Arc<Bounds>,
    counts: Mutex<VersionCounts>,
    waiting: AtomicUsize,
}

impl VersionCounters {
    fn new(bounds: Arc<Bounds>) -> Self {
        let seconds = || Histogram::new(&bounds.seconds);
        let counts = VersionCounts {
            requests: Default::default(),
            request_seconds: seconds(),
            queue_seconds: seconds(),
            compute_seconds: seconds(),
            batch_rows: Histogram::new(&bounds.rows),
            failed_seconds: 0.0,
            last_answer: 0.0,
        };
        VersionCounters { bounds, counts: Mutex::new(counts), waiting: AtomicUsize::new(0) }
    }

    /// A request has its answer, or the code of the status that it got in its place.
    pub fn answered(&self, arm: Arm, code: u32, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut counts = self.lock();
        counts.requests[arm as usize][code as usize % status::CODES] += 1;
        counts.request_seconds.add(&self.bounds.seconds, seconds);
        if code != status::OK {
            counts.failed_seconds += seconds;
        }
    }

    /// A batch was computed.
    pub fn ran(&self, ran: &Ran) {
        let mut counts = self.lock();
        counts.batch_rows.add(&self.bounds.rows, ran.rows as f64);
        counts.compute_seconds.add(&self.bounds.seconds, ran.took.as_secs_f64());
        for queued in &ran.queued {
            counts.queue_seconds.add(&self.bounds.seconds, queued.as_secs_f64());
        }
        counts.last_answer = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    }

    /// So many rows wait now.
    pub fn waiting(&self, rows: usize) {
        self.waiting.store(rows, Ordering::Relaxed);
    }

    /// Rows that wait now.
    pub fn queue_rows(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// All of it, as it is now.
    pub fn snapshot(&self) -> VersionCounts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, VersionCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bounds of the histograms, in seconds and in rows.
pub struct Bounds {
    pub seconds: Vec<f64>,
    pub rows: Vec<f64>,
}

/// Requests that no version answered: refused before one was chosen by the code they got, and all refusals by model and reason.
#[derive(Clone, Default)]
pub struct Refusals {
    pub unrouted: HashMap<&'static str, u64>,
    pub rejected: HashMap<(String, String), u64>,
}

/// Everything counted so far.
pub struct Counters {
    bounds: Arc<Bounds>,
    versions: Mutex<HashMap<(String, u32), Arc<VersionCounters>>>,
    refusals: Mutex<Refusals>,
}

impl Counters {
    pub fn new(bounds: Bounds) -> Self {
        Counters { bounds: Arc::new(bounds), versions: Mutex::default(), refusals: Mutex::default() }
    }

    /// The counters of a version: those it had before, if it was loaded before.
    pub fn of(&self, model: &str, version: u32) -> Arc<VersionCounters> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.entry((model.into(), version)).or_insert_with(|| Arc::new(VersionCounters::new(self.bounds.clone()))).clone()
    }

    /// A request was refused before a version was chosen for it; its names are the caller's, so they are not used as labels.
    pub fn unrouted(&self, code: u32) {
        *self.refused().unrouted.entry(status::name(code)).or_default() += 1;
    }

    /// A request to a known model, or to none (an empty name), was refused for a reason.
    pub fn rejected(&self, model: &str, reason: &str) {
        *self.refused().rejected.entry((model.into(), reason.into())).or_default() += 1;
    }

    /// The counters of every version that was ever loaded.
    pub fn versions(&self) -> HashMap<(String, u32), Arc<VersionCounters>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that no version answered.
    pub fn refusals(&self) -> Refusals {
        self.refused().clone()
    }

    fn refused(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
