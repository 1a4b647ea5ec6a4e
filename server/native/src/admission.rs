//! Whether a request may wait: bounds on rows and bytes in the whole daemon, and rates by principal.
//!
//! The same rules as `server/grpcio_transport/admission.py`. One thread asks: nothing here is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::queue::{LEVELS, SHADOW};

const SHARES: [f64; LEVELS] = [1.25, 1.0, 0.5, 0.25];
const CALLER_SHARE: f64 = 0.75;
const MAX_BUCKETS: usize = 10_000;

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Daemon,
    Caller,
}

#[derive(Clone, Copy, Default)]
struct Held {
    rows: usize,
    bytes: usize,
}

impl Held {
    fn fits(self, rows: usize, bytes: usize, max: Held, share: f64) -> bool {
        (self.rows + rows) as f64 <= max.rows as f64 * share && (self.bytes + bytes) as f64 <= max.bytes as f64 * share
    }
}

/// Counts the rows and bytes that are admitted and not answered yet.
pub struct Admission {
    max: Held,
    all: Held,
    callers: HashMap<Arc<str>, Held>,
    requests: usize,
    shadows: usize,
    /// `requests`, for whoever asks from another thread.
    in_flight: Arc<AtomicUsize>,
}

impl Admission {
    /// `in_flight` shows how many requests are admitted that somebody waits for.
    pub fn new(max_rows: usize, max_bytes: usize, in_flight: Arc<AtomicUsize>) -> Self {
        let max = Held { rows: max_rows, bytes: max_bytes };
        Admission { max, all: Held::default(), callers: HashMap::new(), requests: 0, shadows: 0, in_flight }
    }

    /// Let a request wait. One with more rows than half the bound counts as half of it; whatever its size, it may when nothing else waits.
    pub fn admit(&mut self, caller: &Arc<str>, level: usize, rows: usize, bytes: usize) -> Result<(), Full> {
        let rows = self.counted(rows);
        let held = self.callers.get(caller).copied().unwrap_or_default();
        if self.requests + self.shadows > 0 {
            if !self.all.fits(rows, bytes, self.max, SHARES[level]) {
                return Err(Full::Daemon);
            }
            if held.rows + held.bytes > 0 && !held.fits(rows, bytes, self.max, SHARES[level] * CALLER_SHARE) {
                return Err(Full::Caller);
            }
        }
        self.callers.insert(caller.clone(), Held { rows: held.rows + rows, bytes: held.bytes + bytes });
        self.all = Held { rows: self.all.rows + rows, bytes: self.all.bytes + bytes };
        if level == SHADOW {
            self.shadows += 1;
        } else {
            self.requests += 1;
            self.in_flight.store(self.requests, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The request is answered, failed or given up.
    pub fn release(&mut self, caller: &Arc<str>, level: usize, rows: usize, bytes: usize) {
        let rows = self.counted(rows);
        self.all = Held { rows: self.all.rows - rows, bytes: self.all.bytes - bytes };
        if level == SHADOW {
            self.shadows -= 1;
        } else {
            self.requests -= 1;
            self.in_flight.store(self.requests, Ordering::Relaxed);
        }
        if let Some(held) = self.callers.get_mut(caller) {
            *held = Held { rows: held.rows - rows, bytes: held.bytes - bytes };
            if held.rows + held.bytes == 0 {
                self.callers.remove(caller);
            }
        }
    }

    fn counted(&self, rows: usize) -> usize {
        rows.min((self.max.rows / 2).max(1))
    }
}

/// What a request holds of the bounds until this is dropped.
pub struct Admitted {
    admission: Rc<RefCell<Admission>>,
    caller: Arc<str>,
    level: usize,
    rows: usize,
    bytes: usize,
}

impl Admitted {
    /// Let a request wait: see `Admission::admit`.
    pub fn by(admission: &Rc<RefCell<Admission>>, caller: Arc<str>, level: usize, rows: usize, bytes: usize) -> Result<Self, Full> {
        admission.borrow_mut().admit(&caller, level, rows, bytes)?;
        Ok(Admitted { admission: admission.clone(), caller, level, rows, bytes })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.borrow_mut().release(&self.caller, self.level, self.rows, self.bytes);
    }
}

struct Bucket {
    rows: f64,
    at: Instant,
}

/// A token bucket of rows for each principal (Turner 1986, "New directions in communications").
#[derive(Default)]
pub struct RateLimits {
    buckets: HashMap<Arc<str>, Bucket>,
}

impl RateLimits {
    /// Take `rows` from the bucket of `name`, which gets `rate` rows a second and holds `burst`; else the seconds until they are there.
    pub fn take(&mut self, name: &Arc<str>, rate: f64, burst: f64, rows: usize, now: Instant) -> Result<(), f64> {
        if !self.buckets.contains_key(name) && self.buckets.len() >= MAX_BUCKETS {
            self.forget_oldest();
        }
        let bucket = self.buckets.entry(name.clone()).or_insert(Bucket { rows: burst, at: now });
        bucket.rows = burst.min(bucket.rows + now.duration_since(bucket.at).as_secs_f64() * rate);
        bucket.at = now;
        let missing = burst.min(rows as f64) - bucket.rows;
        if missing > 0.0 {
            return Err(missing / rate);
        }
        bucket.rows -= rows as f64;
        Ok(())
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(name, _)| name.clone()) {
            self.buckets.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_least_urgent_fill_the_least() {
        let filled: Vec<usize> = (0..LEVELS)
            .map(|level| {
                let mut admission = Admission::new(40, 1000, Arc::default());
                (0..100).take_while(|caller| admission.admit(&caller.to_string().into(), level, 1, 1).is_ok()).count()
            })
            .collect();
        assert_eq!(filled, [50, 40, 20, 10]);
    }

    #[test]
    fn one_caller_leaves_room_for_the_next() {
        let mut admission = Admission::new(40, 1000, Arc::default());
        let (greedy, modest): (Arc<str>, Arc<str>) = ("greedy".into(), "modest".into());
        while admission.admit(&greedy, 1, 1, 1).is_ok() {}
        assert_eq!(admission.admit(&greedy, 1, 1, 1), Err(Full::Caller));
        assert_eq!(admission.admit(&modest, 1, 1, 1), Ok(()));
    }

    #[test]
    fn what_is_released_is_forgotten() {
        let mut admission = Admission::new(40, 1000, Arc::default());
        let caller: Arc<str> = "a".into();
        admission.admit(&caller, 1, 1_000_000, 10).unwrap();
        admission.release(&caller, 1, 1_000_000, 10);
        assert_eq!((admission.requests, admission.callers.len(), admission.all.rows), (0, 0, 0));
    }

    #[test]
    fn a_bucket_refills_at_its_rate() {
        let (mut rates, name, start) = (RateLimits::default(), Arc::from("a"), Instant::now());
        assert_eq!(rates.take(&name, 10.0, 5.0, 5, start), Ok(()));
        assert!((rates.take(&name, 10.0, 5.0, 1, start).unwrap_err() - 0.1).abs() < 1e-9);
        assert_eq!(rates.take(&name, 10.0, 5.0, 1, start + Duration::from_millis(100)), Ok(()));
    }
}
