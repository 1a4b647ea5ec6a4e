//! The transport as Python sees it: one object with plain values in and out.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::auth::Digest;
use crate::counters::{Bounds, Counters, VersionCounts};
use crate::grants::{Holder, Known};
use crate::installed::{Installed, ServedModel, Version};
use crate::lane::Limits as LaneLimits;
use crate::listening;
use crate::observers::Observers;
use crate::python::Functions;
use crate::shared::{Options, Shared};
use crate::transport::{self, Limits, Order, Phase};

#[cfg(test)]
pub mod panics;

const ENDED: &str = "the transport has ended";

/// What the settings say; names and units are those of `server.settings.Settings`.
#[derive(FromPyObject)]
struct Settings {
    max_batch_rows: usize,
    max_queue_delay: f64,
    max_queue_rows: usize,
    max_queue_bytes: usize,
    max_message_bytes: usize,
    max_metadata_bytes: u32,
    max_streams: u32,
    rate_limit: f64,
    rate_burst: f64,
    connection_age: f64,
    max_connection_age_grace: f64,
    max_connection_idle: f64,
    keepalive_time: f64,
    keepalive_timeout: f64,
    min_ping_interval: f64,
}

/// Counts, total.
type Histogram = (Vec<u64>, f64);
/// Requests by arm and code; request, queue and compute seconds, batch rows; failed seconds; last answer.
type PlainCounts = (Vec<(String, String, u64)>, [Histogram; 4], f64, f64);

/// All counts, as plain values.
#[pyclass(frozen, get_all)]
struct Counts {
    versions: HashMap<(String, u32), PlainCounts>,
    unrouted: HashMap<String, u64>,
    rejected: HashMap<(String, String), u64>,
    queue_rows: HashMap<(String, u32), usize>,
    in_flight: usize,
}

/// A transport that listens once it is started.
#[pyclass(frozen)]
pub struct Server {
    shared: Arc<Shared>,
    orders: UnboundedSender<Order>,
    phase: watch::Sender<Phase>,
    loaded: Mutex<Vec<(String, u32)>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (settings, *, call, explain, authenticate, permit, admit, names, observe, authenticated, process, seconds, rows))]
    #[allow(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        settings: Settings,
        call: Py<PyAny>,
        explain: Py<PyAny>,
        authenticate: Py<PyAny>,
        permit: Py<PyAny>,
        admit: Py<PyAny>,
        names: Py<PyAny>,
        observe: Option<Py<PyAny>>,
        authenticated: bool,
        process: String,
        seconds: Vec<f64>,
        rows: Vec<f64>,
    ) -> PyResult<Self> {
        let options = Options {
            max_message_bytes: settings.max_message_bytes,
            max_metadata_bytes: settings.max_metadata_bytes as usize,
            max_queue_rows: settings.max_queue_rows,
            max_queue_bytes: settings.max_queue_bytes,
            rate_limit: settings.rate_limit,
            rate_burst: settings.rate_burst,
        };
        let functions = Functions { call, explain, authenticate, permit, admit, names };
        let observers = Observers::new(observe)?;
        let shared = Shared::new(options, functions, Counters::new(Bounds { seconds, rows }), authenticated, observers, process);
        let shared = Arc::new(shared);
        let limits = Limits {
            max_streams: settings.max_streams,
            max_metadata_bytes: settings.max_metadata_bytes,
            connection_age: (settings.connection_age > 0.0).then(|| Duration::from_secs_f64(settings.connection_age)),
            age_grace: Duration::from_secs_f64(settings.max_connection_age_grace),
            connection_idle: (settings.max_connection_idle > 0.0).then(|| Duration::from_secs_f64(settings.max_connection_idle)),
            keepalive_time: Duration::from_secs_f64(settings.keepalive_time),
            keepalive_timeout: Duration::from_secs_f64(settings.keepalive_timeout),
            min_ping_interval: Duration::from_secs_f64(settings.min_ping_interval),
        };
        let lanes = LaneLimits { max_rows: settings.max_batch_rows, max_delay: Duration::from_secs_f64(settings.max_queue_delay) };
        let (orders, to_do) = unbounded_channel();
        let phase = watch::channel(Phase::Serving).0;
        let (state, phases) = (shared.clone(), phase.subscribe());
        let thread = std::thread::Builder::new().name("serve".into()).spawn(move || {
            if let Err(error) = transport::run(state, Installed::new(lanes), limits, to_do, phases) {
                eprintln!("the transport ended: {error}");
            }
        })?;
        Ok(Server { shared, orders, phase, loaded: Mutex::default(), thread: Mutex::new(Some(thread)) })
    }

    /// Show this certificate chain from the next connection on, and ask for one of these authorities if there are any; all are PEM.
    #[pyo3(signature = (chain, key, client_ca=None))]
    fn renew_tls(&self, chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> PyResult<()> {
        self.shared.tls.renew(chain, key, client_ca).map_err(PyValueError::new_err)
    }

    /// Know these from now on, and what Python verifies: tokens by their SHA-256, certificates by a name in them.
    fn renew_access(&self, tokens: HashMap<Vec<u8>, Holder>, certificates: HashMap<String, Holder>) -> PyResult<()> {
        let known = |holder: Holder| Arc::new(Known::from(holder));
        let digest = |digest: Vec<u8>| Digest::try_from(digest).map_err(|_| PyValueError::new_err("no SHA-256"));
        let tokens = tokens.into_iter().map(|(key, holder)| Ok((digest(key)?, known(holder)))).collect::<PyResult<_>>()?;
        self.shared.auth.renew(tokens, certificates.into_iter().map(|(name, holder)| (name, known(holder))).collect());
        Ok(())
    }

    /// Listen on `HOST:PORT` or `unix:PATH`; returns the port really bound, if there is one. With `shared`, other processes may listen on it
    /// too.
    fn start(&self, address: &str, shared: bool) -> PyResult<Option<u16>> {
        let listener = listening::listen(address, shared)?;
        let port = listener.port()?;
        self.order(Order::Listen(listener))?;
        Ok(port)
    }

    /// Route by these versions and models from now on; requests already admitted finish on the version they were given.
    fn install(&self, py: Python<'_>, versions: Vec<Version>, models: Vec<ServedModel>, complete: bool) -> PyResult<()> {
        let loaded = versions.iter().map(Version::key).collect();
        let ready: Vec<(String, bool)> = models.iter().map(|model| (model.name.clone(), model.ready)).collect();
        let (done, told) = std::sync::mpsc::channel();
        self.order(Order::Install { versions, models, done })?;
        // The thread may need the interpreter before it comes to this.
        let installed = py.detach(move || told.recv()).map_err(|_| PyRuntimeError::new_err(ENDED))?;
        installed.map_err(PyRuntimeError::new_err)?;
        self.shared.health.install(complete, ready.into_iter());
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Say `NOT_SERVING` to whoever asks for its health, and go on.
    fn leave(&self) {
        self.shared.health.stop();
    }

    /// Refuse whatever comes from now on; what was admitted is answered.
    fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }

    /// Take no new connection, and no new call on those there are.
    fn hang_up(&self) {
        self.phase.send_replace(Phase::Leaving);
    }

    /// End: nothing more is answered. Waits for the threads that serve and compute.
    fn stop(&self, py: Python<'_>) {
        self.phase.send_replace(Phase::Stopped);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // They may need the interpreter for what they do last.
        py.detach(|| thread.map(JoinHandle::join));
    }

    /// Requests admitted and not answered yet.
    #[getter]
    fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// All counts since the start.
    fn counts(&self) -> Counts {
        let counted = self.shared.counters.versions();
        let refusals = self.shared.counters.refusals();
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |key: &(String, u32)| counted.get(key).map_or(0, |version| version.queue_rows());
        Counts {
            queue_rows: loaded.iter().map(|key| (key.clone(), waiting(key))).collect(),
            versions: counted.iter().map(|(key, version)| (key.clone(), plain(&version.snapshot()))).collect(),
            unrouted: refusals.unrouted.into_iter().map(|(code, number)| (code.into(), number)).collect(),
            rejected: refusals.rejected,
            in_flight: self.in_flight(),
        }
    }
}

impl Server {
    fn order(&self, order: Order) -> PyResult<()> {
        self.orders.send(order).map_err(|_| PyRuntimeError::new_err(ENDED))
    }
}

fn plain(counts: &VersionCounts) -> PlainCounts {
    let requests = counts.requests().map(|(arm, code, number)| (arm.into(), code.into(), number)).collect();
    let histograms = [&counts.request_seconds, &counts.queue_seconds, &counts.compute_seconds, &counts.batch_rows];
    let histograms = histograms.map(|histogram| (histogram.counts.clone(), histogram.total));
    (requests, histograms, counts.failed_seconds, counts.last_answer)
}
