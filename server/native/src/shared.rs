//! What the thread that serves shares with those of Python: the options, the counters, the functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

use crate::auth::Auth;
use crate::counters::Counters;
use crate::grants::Known;
use crate::health::Health;
use crate::kept::Store;
use crate::observers::Observers;
use crate::python::Functions;
use crate::tls::Tls;
use crate::turns::Turns;

/// What can be set.
pub struct Options {
    pub max_message_bytes: usize,
    pub max_metadata_bytes: usize,
    pub max_queue_rows: usize,
    pub max_queue_bytes: usize,
    pub rate_limit: f64,
    pub rate_burst: f64,
}

/// What the serving thread shares with those of Python.
pub struct Shared {
    pub options: Options,
    pub functions: Functions,
    pub counters: Counters,
    pub health: Health,
    pub tls: Tls,
    pub observers: Observers,
    pub kept: Arc<Store>,
    pub authenticated: bool,
    pub auth: Auth,
    pub turns: Turns,
    pub anybody: Arc<Known>,
    pub closed: AtomicBool,
    pub in_flight: Arc<AtomicUsize>,
    process: String,
    numbers: AtomicU64,
}

impl Shared {
    pub fn new(
        options: Options,
        functions: Functions,
        counters: Counters,
        authenticated: bool,
        observers: Observers,
        process: String,
    ) -> Self {
        // One message has to fit, and a connection may keep half.
        let kept = Store::new(options.max_queue_bytes.max(2 * options.max_message_bytes));
        Shared {
            turns: Turns::new(options.max_queue_bytes),
            options,
            functions,
            counters,
            health: Health::default(),
            tls: Tls::default(),
            observers,
            kept,
            authenticated,
            auth: Auth::default(),
            anybody: Arc::new(Known::anybody()),
            closed: AtomicBool::new(false),
            in_flight: Arc::default(),
            process,
            numbers: AtomicU64::new(0),
        }
    }

    /// What Python says, on a thread that may wait for it, and goes on where nobody waits any more; `None` if that failed.
    pub async fn on_python<T: Send + 'static>(self: &Arc<Self>, ask: impl FnOnce(&Functions) -> T + Send + 'static) -> Option<T> {
        let shared = self.clone();
        tokio::task::spawn_blocking(move || ask(&shared.functions)).await.ok()
    }

    /// An id for a request that has none.
    pub fn new_id(&self) -> Bytes {
        format!("{}{:016x}", self.process, self.numbers.fetch_add(1, Ordering::Relaxed)).into()
    }
}
