//! Tidegate's native transport. Everything for each request and each row is here; the engine, and all that is asked rarely, is Python.
//!
//! A request is a value that goes down one road: `transport` (HTTP/2) -> `call` (gRPC) -> `pipeline` (decode by `requests`, choose by `router`,
//! admit by `admission`) -> `lane` (gather by `queue`, run by `engine`) -> `form` (encode) -> `call`. `server/native/transport.py` is the
//! other side: it gives the functions of Python, and installs what is loaded.

mod activity;
mod admission;
mod authority;
mod call;
mod counters;
mod engine;
mod form;
mod health;
mod lane;
mod listening;
mod observers;
mod pace;
mod pipeline;
mod python;
mod queue;
mod requests;
mod router;
mod server;
mod shared;
mod status;
mod streams;
mod tensors;
mod tls;
mod transport;
mod wire;

use pyo3::prelude::*;

/// The extension module `tidegate_native`.
#[pymodule]
fn tidegate_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<server::Server>()
}
