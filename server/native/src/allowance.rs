//! How long what clients send waits to be read, how many calls a connection may have at once for that, and how much is read in a turn.
//!
//! A request that is sent and not read waits unseen: its deadline runs, and nobody can refuse it. So while the thread that serves is behind,
//! connections are allowed fewer calls, and clients keep the others until there is time for them (RFC 9113, sections 5.1.2 and 6.5.2): that
//! costs nothing here, where to read a request and refuse it costs a third of answering it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout_at};

use crate::frames::Frames;

/// How long a request may wait to be read before its connection is allowed less.
const MOST_WAIT: Duration = Duration::from_micros(1500);
/// The fewest calls at once that the connections in use are held to together, enough to fill a batch while another runs, and each of them.
const FEWEST: u32 = 256;
const FEWEST_EACH: u32 = 4;
/// What is allowed changes no sooner than after this time, in which the last change has shown its effect.
const INTERVAL: Duration = Duration::from_millis(20);
const BEAT: Duration = Duration::from_millis(1);
/// What has come is read by portions, so that the engine and other connections need not wait for all of it. A portion is as much as takes the
/// connections in use so long together, and each of them at least so long.
const PORTION: Duration = Duration::from_micros(600);
const PORTION_EACH: Duration = Duration::from_micros(40);
/// What a call takes beside its bytes, of which each takes a nanosecond: measured with 1 and 64 rows, and rounded.
const CALL: Duration = Duration::from_nanos(2800);

/// When the thread that serves last woke, as there was nothing to do before.
pub struct Woken {
    base: Instant,
    /// Nanoseconds since then.
    at: AtomicU64,
}

impl Woken {
    pub fn new() -> Arc<Self> {
        Arc::new(Woken { base: Instant::now(), at: AtomicU64::new(0) })
    }

    pub fn wakes(&self) {
        self.at.store(self.base.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.base + Duration::from_nanos(self.at.load(Ordering::Relaxed))
    }
}

/// When the thread that serves was last through with everything that was ready.
pub struct Rounds {
    woken: Arc<Woken>,
    last: Cell<Instant>,
    before: Cell<Instant>,
    number: Cell<u64>,
    /// Connections that something came on in this round, and in the last.
    heard: Cell<u32>,
    heard_before: Cell<u32>,
    beats: Cell<bool>,
}

impl Rounds {
    pub fn new(woken: Arc<Woken>) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Rounds {
            woken,
            last: Cell::new(now),
            before: Cell::new(now),
            number: Cell::new(1),
            heard: Cell::new(0),
            heard_before: Cell::new(0),
            beats: Cell::new(false),
        })
    }

    /// The earliest time at which what is read now, at `now`, may have come, whichever connection it is on; `round` is when its connection
    /// was heard last.
    fn earliest(self: &Rc<Self>, now: Instant, round: &Cell<u64>) -> Instant {
        if round.replace(self.number.get()) != self.number.get() {
            self.heard.set(self.heard.get() + 1);
        }
        if !self.beats.replace(true) {
            self.last.set(now);
            self.before.set(now);
            spawn_local(self.clone().beat());
        }
        self.before.get().max(self.woken.last())
    }

    /// A task among the others has its turn once all that were ready before it had theirs.
    async fn beat(self: Rc<Self>) {
        while self.heard.get() > 0 {
            self.heard_before.set(self.heard.replace(0));
            self.number.set(self.number.get() + 1);
            sleep(BEAT).await;
            self.before.set(self.last.replace(Instant::now()));
        }
        self.beats.set(false);
    }

    /// The fewest calls at once that each connection in use is held to.
    fn fewest(&self) -> u32 {
        (FEWEST / self.connections()).max(FEWEST_EACH)
    }

    /// What each connection in use reads in one turn.
    fn portion(&self) -> Duration {
        (PORTION / self.connections()).max(PORTION_EACH)
    }

    /// How many are in use, or one.
    fn connections(&self) -> u32 {
        self.heard.get().max(self.heard_before.get()).max(1)
    }
}

/// What one connection is allowed.
pub struct Allowance {
    rounds: Rc<Rounds>,
    most: u32,
    allowed: Cell<u32>,
    /// Calls that are no single inference: they may last, and leave the others what is allowed.
    lasting: Cell<u32>,
    round: Cell<u64>,
    /// What may still be read in this turn.
    portion: Cell<Duration>,
    drained: Cell<Instant>,
    arrived: Cell<Instant>,
    longest: Cell<Duration>,
    due: Cell<Instant>,
    changed: Notify,
    told: Cell<u32>,
    /// A setting is to leave, which then says what is allowed.
    telling: Cell<bool>,
}

impl Allowance {
    /// At first, and at most, `most` calls at once.
    pub fn new(rounds: Rc<Rounds>, most: u32) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Allowance {
            rounds,
            most,
            allowed: Cell::new(most),
            lasting: Cell::new(0),
            round: Cell::new(0),
            portion: Cell::new(PORTION_EACH),
            drained: Cell::new(now),
            arrived: Cell::new(now),
            longest: Cell::new(Duration::ZERO),
            due: Cell::new(now),
            changed: Notify::new(),
            told: Cell::new(most),
            telling: Cell::new(false),
        })
    }

    /// The earliest time at which what was read last may have come.
    pub fn arrived(&self) -> Instant {
        self.arrived.get()
    }

    /// The connection has its turn.
    pub fn begins(&self) {
        self.portion.set(self.rounds.portion());
    }

    /// How many bytes more it may read in this turn: a nanosecond each.
    pub fn portion(&self) -> u64 {
        self.portion.get().as_nanos() as u64
    }

    /// A call begins with what was read.
    pub fn called(&self) {
        self.portion.set(self.portion.get().saturating_sub(CALL));
    }

    /// Return once the client is to be told what it is allowed now.
    pub async fn changed(&self) {
        while self.allowed.get() < self.most {
            // A client that waits for what it has sent sends nothing that could show that others no longer wait.
            if timeout_at(self.due.get().into(), self.changed.notified()).await.is_ok() {
                return;
            }
            self.adapt(Instant::now());
        }
        self.changed.notified().await;
    }

    /// `h2` has been told to send a setting: it will say what is allowed.
    pub fn tells(&self) {
        self.telling.set(true);
    }

    /// Whether a setting is to leave that has not yet.
    pub fn is_telling(&self) -> bool {
        self.telling.get()
    }

    /// What the client is told in its place.
    pub fn setting(&self) -> Setting {
        self.telling.set(false);
        self.told.set(self.calls());
        Setting::of(self.told.get())
    }

    /// A call that may last; it does until what is returned is dropped.
    pub fn lasting(self: &Rc<Self>) -> Lasting {
        self.lasting.set(self.lasting.get() + 1);
        Lasting(self.clone())
    }

    /// How many calls at once the client may have.
    fn calls(&self) -> u32 {
        self.allowed.get().saturating_add(self.lasting.get()).min(self.most)
    }

    /// Nothing is left in the socket.
    pub fn drains(&self) {
        self.drained.set(Instant::now());
    }

    /// So many bytes came.
    pub fn reads(&self, bytes: u64) {
        self.portion.set(self.portion.get().saturating_sub(Duration::from_nanos(bytes)));
        let now = Instant::now();
        let arrived = self.rounds.earliest(now, &self.round).max(self.drained.get());
        self.arrived.set(arrived);
        let waited = now.saturating_duration_since(arrived);
        self.longest.set(self.longest.get().max(waited));
        if now >= self.due.get() {
            self.adapt(now);
        }
    }

    /// Allow what fits how long requests have waited since the last time.
    fn adapt(&self, now: Instant) {
        let longest = self.longest.replace(Duration::ZERO);
        self.due.set(now + INTERVAL.max(2 * longest));
        self.allowed.set(adapted(self.allowed.get(), longest).max(self.rounds.fewest()).min(self.most));
        if self.calls() != self.told.get() {
            self.changed.notify_one();
        }
    }
}

pub struct Lasting(Rc<Allowance>);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.lasting.set(self.0.lasting.get() - 1);
    }
}

/// What is allowed once requests have waited so long with `allowed` at once.
fn adapted(allowed: u32, waited: Duration) -> u32 {
    if waited > MOST_WAIT {
        (f64::from(allowed) * MOST_WAIT.as_secs_f64() / waited.as_secs_f64()) as u32
    } else if waited < MOST_WAIT / 2 {
        allowed.saturating_mul(2)
    } else {
        allowed
    }
}

/// The size of windows is all that `h2` changes on a connection, once it is told to, and it waits for the client to confirm it. So it is told
/// to set that to what it is, and on its way out the frame becomes one about the number of calls.
const OF_WINDOW: [u8; 11] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4];
const OF_CALLS: [u8; 11] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3];
const VALUE: usize = 4;
const SETTING: usize = OF_WINDOW.len() + VALUE;

/// The frame that tells a client what it is allowed.
pub struct Setting {
    frame: [u8; SETTING],
    sent: usize,
}

impl Setting {
    fn of(calls: u32) -> Self {
        let mut frame = [0; SETTING];
        frame[..OF_CALLS.len()].copy_from_slice(&OF_CALLS);
        frame[OF_CALLS.len()..].copy_from_slice(&calls.to_be_bytes());
        Setting { frame, sent: 0 }
    }

    /// How many bytes of `data`, which comes next in `frames`, go before the one whose place it takes; that one `h2` writes whole.
    pub fn place(mut frames: Frames, data: &[u8]) -> Option<usize> {
        let mut place = 0;
        while place < data.len() {
            if frames.begins() && data[place..].starts_with(&OF_WINDOW) && data.len() - place >= SETTING {
                return Some(place);
            }
            place += frames.next(&data[place..]).0;
        }
        None
    }

    /// What of it is still to be sent.
    pub fn rest(&self) -> &[u8] {
        &self.frame[self.sent..]
    }

    /// What is left of it once so many bytes more are sent.
    pub fn after(self, bytes: usize) -> Option<Self> {
        let sent = self.sent + bytes;
        (sent < SETTING).then_some(Setting { sent, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_calls_are_allowed_the_longer_requests_wait_and_more_once_they_do_not() {
        assert_eq!(adapted(256, MOST_WAIT * 8), 32);
        assert_eq!(adapted(32, MOST_WAIT), 32);
        assert_eq!(adapted(32, MOST_WAIT / 3), 64);
    }

    #[test]
    fn calls_that_last_take_nothing_of_what_is_allowed() {
        let allowance = Allowance::new(Rounds::new(Woken::new()), 100);
        allowance.allowed.set(FEWEST_EACH);
        let lasting: Vec<Lasting> = (0..50).map(|_| allowance.lasting()).collect();
        assert_eq!(allowance.calls(), FEWEST_EACH + 50);
        drop(lasting);
        assert_eq!(allowance.calls(), FEWEST_EACH);
    }

    #[test]
    fn few_connections_are_left_enough_to_keep_the_engine_busy_together() {
        let rounds = Rounds::new(Woken::new());
        rounds.beats.set(true);
        let allowances: Vec<Rc<Allowance>> = (0..8).map(|_| Allowance::new(rounds.clone(), 1000)).collect();
        for allowance in allowances.iter().cycle().take(20) {
            allowance.reads(0);
        }
        assert_eq!(rounds.fewest(), FEWEST / 8);
        rounds.heard.set(1000);
        assert_eq!(rounds.fewest(), FEWEST_EACH);
    }

    #[test]
    fn nothing_that_is_read_after_the_thread_woke_has_waited_for_it() {
        let woken = Woken::new();
        let rounds = Rounds::new(woken.clone());
        rounds.beats.set(true);
        let allowance = Allowance::new(rounds, 100);
        let begun = Instant::now();
        woken.wakes();
        allowance.reads(0);
        assert!(allowance.arrived() >= begun);
    }

    #[test]
    fn a_client_that_sends_nothing_is_allowed_all_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let allowance = Allowance::new(Rounds::new(Woken::new()), 1000);
        allowance.allowed.set(FEWEST_EACH);
        runtime.block_on(async {
            while allowance.calls() < 1000 {
                allowance.changed().await;
                allowance.setting();
            }
        });
    }
}
