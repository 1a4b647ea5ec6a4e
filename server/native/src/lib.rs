//! Tidegate's native transport. Everything for each request and each row is here; the engine, and all that is asked rarely, is Python.
//!
//! A request is a value that goes down one road: `transport` (HTTP/2) -> `call` (gRPC) -> `pipeline` (identify by `asking`, decode by
//! `requests`, choose by `router`, admit by `admission`) -> `lane` (gather by `queue`, run by `engine`) -> `inference` (encode by `form`) ->
//! `call`. All of it but the engines is on one thread, where nothing is locked and no request has a task of its own unless it has to wait for
//! its message or to be identified. `server/native/transport.py` is the
//! other side: it gives the functions of Python, and installs what is loaded.

mod activity;
mod admission;
mod allowance;
mod asking;
mod auth;
mod authority;
mod call;
mod caught;
mod connection;
mod counters;
mod drift;
mod drift_parts;
#[cfg(test)]
mod encoding;
mod engine;
mod field_count;
mod form;
mod frames;
#[cfg(test)]
mod framing;
mod grants;
mod handed;
mod health;
mod inference;
mod installed;
mod jobs;
mod kept;
mod lane;
mod levels;
mod listening;
mod log;
mod logged;
mod memory;
mod numbers;
mod observers;
mod outgoing;
mod pace;
mod parameters;
mod pipeline;
mod pool;
mod python;
mod queue;
mod requests;
mod router;
mod sampling;
mod server;
mod shadowing;
mod shared;
mod status;
mod streams;
mod tensors;
mod texts;
mod tls;
mod transport;
mod turns;
mod watched;
mod wire;

#[cfg(not(any(miri, sanitized)))]
use mimalloc::MiMalloc;
use pyo3::prelude::*;

/// A request is a dozen small allocations, some given back by another thread: glibc takes a tenth of its time for them.
/// Miri and `AddressSanitizer` bring their own (see `sanitize.sh`).
#[cfg(not(any(miri, sanitized)))]
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The extension module `tidegate_native`.
#[pymodule]
fn tidegate_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<drift::DriftCounting>()?;
    module.add_class::<server::Server>()
}
