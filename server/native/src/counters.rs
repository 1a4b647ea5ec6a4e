//! Counts requests and batches as they are answered. They only grow; names and labels are Python's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::lane::Ran;
use crate::router::Arm;
use crate::status::Status;

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

/// Of one version.
#[derive(Clone)]
pub struct Version {
    pub requests: HashMap<(Arm, &'static str), u64>,
    pub request_seconds: Histogram,
    pub queue_seconds: Histogram,
    pub compute_seconds: Histogram,
    pub batch_rows: Histogram,
    pub failed_seconds: f64,
    pub last_answer: f64,
}

/// Everything counted so far.
#[derive(Clone, Default)]
pub struct Counts {
    pub versions: HashMap<(String, u32), Version>,
    pub unrouted: HashMap<&'static str, u64>,
    pub rejected: HashMap<(String, String), u64>,
}

/// The bounds of the histograms, in seconds and in rows.
pub struct Bounds {
    pub seconds: Vec<f64>,
    pub rows: Vec<f64>,
}

pub struct Counters {
    bounds: Bounds,
    counts: Mutex<Counts>,
}

impl Counters {
    pub fn new(bounds: Bounds) -> Self {
        Counters { bounds, counts: Mutex::default() }
    }

    /// A request to a known version has its answer, or the status that it got in its place.
    pub fn answered(&self, model: &str, version: u32, arm: Arm, status: Option<&Status>, took: Duration) {
        let code = status.map_or("OK", |status| status.name);
        self.with(model, version, |bounds, counts| {
            *counts.requests.entry((arm, code)).or_default() += 1;
            counts.request_seconds.add(&bounds.seconds, took.as_secs_f64());
            if status.is_some() {
                counts.failed_seconds += took.as_secs_f64();
            }
        });
    }

    /// A request was refused before a version was chosen for it; its names are the caller's, so they are not used as labels.
    pub fn unrouted(&self, status: &Status) {
        *self.lock().unrouted.entry(status.name).or_default() += 1;
    }

    /// A request to a known model, or to none (an empty name), was refused for a reason.
    pub fn rejected(&self, model: &str, reason: &str) {
        *self.lock().rejected.entry((model.into(), reason.into())).or_default() += 1;
    }

    /// A batch was computed.
    pub fn ran(&self, model: &str, version: u32, ran: &Ran) {
        self.with(model, version, |bounds, counts| {
            counts.batch_rows.add(&bounds.rows, ran.rows as f64);
            counts.compute_seconds.add(&bounds.seconds, ran.took.as_secs_f64());
            for queued in &ran.queued {
                counts.queue_seconds.add(&bounds.seconds, queued.as_secs_f64());
            }
            counts.last_answer = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        });
    }

    /// All of it, as it is now.
    pub fn snapshot(&self) -> Counts {
        self.lock().clone()
    }

    fn with(&self, model: &str, version: u32, change: impl FnOnce(&Bounds, &mut Version)) {
        let mut counts = self.lock();
        // Looked up by a borrowed name first: a request must not allocate one.
        let found = counts.versions.iter_mut().find(|((name, number), _)| *number == version && name == model);
        if let Some((_, counts)) = found {
            change(&self.bounds, counts);
            return;
        }
        let seconds = || Histogram::new(&self.bounds.seconds);
        let mut fresh = Version {
            requests: HashMap::new(),
            request_seconds: seconds(),
            queue_seconds: seconds(),
            compute_seconds: seconds(),
            batch_rows: Histogram::new(&self.bounds.rows),
            failed_seconds: 0.0,
            last_answer: 0.0,
        };
        change(&self.bounds, &mut fresh);
        counts.versions.insert((model.into(), version), fresh);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
