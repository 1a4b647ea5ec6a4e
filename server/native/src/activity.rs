//! What is seen of a connection beside its calls: when something came last, how many calls are open, and pings without end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep_until;

use crate::kept::{Account, Kept};

/// Pings that may come too soon after another, with no part of an answer between them. The same as gRPC's C core.
const MOST_STRIKES: u32 = 2;

/// Shared by the connection and its calls, on one thread.
pub struct Activity {
    min_ping_interval: Duration,
    last_read: Cell<Instant>,
    last_ping: Cell<Option<Instant>>,
    strikes: Cell<u32>,
    too_many: Notify,
    calls: Cell<usize>,
    idle_since: Cell<Instant>,
    account: Arc<Account>,
}

impl Activity {
    pub fn new(min_ping_interval: Duration, account: Arc<Account>) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Activity {
            min_ping_interval,
            last_read: Cell::new(now),
            last_ping: Cell::new(None),
            strikes: Cell::new(0),
            too_many: Notify::new(),
            calls: Cell::new(0),
            idle_since: Cell::new(now),
            account,
        })
    }

    /// See `Account::keep`.
    pub fn keep(&self, bytes: usize) -> Option<Kept> {
        self.account.keep(bytes)
    }

    /// Return once the client pings more often than it may.
    pub async fn too_many_pings(&self) {
        self.too_many.notified().await;
    }

    /// Return once there was no call for so long.
    pub async fn idle(&self, most: Option<Duration>) {
        let Some(most) = most else { return std::future::pending().await };
        loop {
            let due = if self.calls.get() == 0 { self.idle_since.get() + most } else { Instant::now() + most };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due.into()).await;
        }
    }

    /// Return once nothing has come for so long.
    pub async fn silent(&self, most: Duration) {
        loop {
            let due = self.last_read.get() + most;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due.into()).await;
        }
    }

    /// A call is open until what is returned is dropped.
    pub fn call(self: &Rc<Self>) -> OpenCall {
        self.calls.set(self.calls.get() + 1);
        OpenCall(self.clone())
    }

    /// Something came.
    pub fn hears(&self, now: Instant) {
        self.last_read.set(now);
    }

    /// Some of an answer is sent: whoever gets it may well ask how long that took.
    pub fn answers(&self) {
        self.strikes.set(0);
        self.last_ping.set(None);
    }

    /// A ping came.
    pub fn pinged(&self, now: Instant) {
        let too_soon = self.last_ping.replace(Some(now)).is_some_and(|last| now.duration_since(last) < self.min_ping_interval);
        if too_soon {
            self.strikes.set(self.strikes.get() + 1);
            if self.strikes.get() > MOST_STRIKES {
                self.too_many.notify_one();
            }
        }
    }
}

pub struct OpenCall(Rc<Activity>);

impl OpenCall {
    /// See `Account::keep`.
    pub fn keep(&self, bytes: usize) -> Option<Kept> {
        self.0.keep(bytes)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
        if self.0.calls.get() == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}
