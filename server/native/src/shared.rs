//! What the thread that serves shares with those of Python: the table, the counters, the functions.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::auth::Auth;
use crate::counters::Counters;
use crate::grants::Known;
use crate::health::Health;
use crate::observers::Observers;
use crate::python::Functions;
use crate::router::Table;
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
    pub authenticated: bool,
    pub auth: Auth,
    pub turns: Turns,
    pub anybody: Arc<Known>,
    pub closed: AtomicBool,
    pub in_flight: AtomicUsize,
    process: String,
    numbers: AtomicU64,
    table: RwLock<Arc<Table>>,
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
        Shared {
            turns: Turns::new(options.max_queue_bytes),
            options,
            functions,
            counters,
            health: Health::default(),
            tls: Tls::default(),
            observers,
            authenticated,
            auth: Auth::default(),
            anybody: Arc::new(Known::anybody()),
            closed: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            process,
            numbers: AtomicU64::new(0),
            table: RwLock::default(),
        }
    }

    pub fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn install(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// An id for a request that has none.
    pub fn new_id(&self) -> Bytes {
        format!("{}{:016x}", self.process, self.numbers.fetch_add(1, Ordering::Relaxed)).into()
    }
}
