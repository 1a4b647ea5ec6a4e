//! The transport as Python sees it: one object with plain values in and out.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::sync::watch;

use crate::counters::{Bounds, Counters};
use crate::engine::Engine;
use crate::form::{Form, Spec};
use crate::lane::{Lane, Limits as LaneLimits};
use crate::listening;
use crate::observers::Observers;
use crate::python::Functions;
use crate::router::{Model, Table};
use crate::shared::{Options, Shared};
use crate::tensors::Datatype;
use crate::transport::{self, Limits, Phase};

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

/// Name, datatype and shape of a tensor.
type TensorSpec = (String, String, Vec<i64>);

/// A loaded version.
#[derive(FromPyObject)]
struct Version {
    model: String,
    number: u32,
    digest: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    batchable: bool,
    always: Vec<String>,
    run: Py<PyAny>,
    tell: Option<Py<PyAny>>,
}

/// A model: the number each label means, the percent of each canary in order, and the shadows.
#[derive(FromPyObject)]
struct ServedModel {
    name: String,
    labels: HashMap<String, u32>,
    canaries: Vec<(u32, u64)>,
    shadows: Vec<u32>,
    ready: bool,
}

/// Counts, total.
type Histogram = (Vec<u64>, f64);
/// Requests by arm and code; request, queue and compute seconds, batch rows; failed seconds; last answer.
type VersionCounts = (Vec<(String, String, u64)>, [Histogram; 4], f64, f64);

/// All counts, as plain values.
#[pyclass(frozen, get_all)]
struct Counts {
    versions: HashMap<(String, u32), VersionCounts>,
    unrouted: HashMap<String, u64>,
    rejected: HashMap<(String, String), u64>,
    queue_rows: HashMap<(String, u32), usize>,
    in_flight: usize,
}

type Key = (String, u32, String);

/// A transport that listens once it is started.
#[pyclass(frozen)]
pub struct Server {
    shared: Arc<Shared>,
    lane_limits: LaneLimits,
    limits: Limits,
    phase: watch::Sender<Phase>,
    lanes: Mutex<HashMap<Key, Arc<Lane>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (settings, *, call, explain, authenticate, admit, names, observe, authenticated, process, seconds, rows))]
    #[allow(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        settings: Settings,
        call: Py<PyAny>,
        explain: Py<PyAny>,
        authenticate: Py<PyAny>,
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
        let functions = Functions { call, explain, authenticate, admit, names };
        let observers = Observers::new(observe)?;
        let shared = Shared::new(options, functions, Counters::new(Bounds { seconds, rows }), authenticated, observers, process);
        Ok(Server {
            shared: Arc::new(shared),
            lane_limits: LaneLimits { max_rows: settings.max_batch_rows, max_delay: Duration::from_secs_f64(settings.max_queue_delay) },
            limits: Limits {
                max_streams: settings.max_streams,
                max_metadata_bytes: settings.max_metadata_bytes,
                connection_age: (settings.connection_age > 0.0).then(|| Duration::from_secs_f64(settings.connection_age)),
                age_grace: Duration::from_secs_f64(settings.max_connection_age_grace),
                connection_idle: (settings.max_connection_idle > 0.0).then(|| Duration::from_secs_f64(settings.max_connection_idle)),
                keepalive_time: Duration::from_secs_f64(settings.keepalive_time),
                keepalive_timeout: Duration::from_secs_f64(settings.keepalive_timeout),
                min_ping_interval: Duration::from_secs_f64(settings.min_ping_interval),
            },
            phase: watch::channel(Phase::Serving).0,
            lanes: Mutex::default(),
            thread: Mutex::default(),
        })
    }

    /// Show this certificate chain from the next connection on, and ask for one of these authorities if there are any; all are PEM.
    #[pyo3(signature = (chain, key, client_ca=None))]
    fn renew_tls(&self, chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> PyResult<()> {
        self.shared.tls.renew(chain, key, client_ca).map_err(PyValueError::new_err)
    }

    /// Listen on `HOST:PORT` or `unix:PATH`; returns the port really bound, if there is one. With `shared`, other processes may listen on it
    /// too.
    fn start(&self, address: &str, shared: bool) -> PyResult<Option<u16>> {
        let listener = listening::listen(address, shared)?;
        let port = listener.port()?;
        let (state, limits, phase) = (self.shared.clone(), self.limits.clone(), self.phase.subscribe());
        let thread = std::thread::Builder::new().name("serve".into()).spawn(move || {
            if let Err(error) = transport::run(listener, state, limits, phase) {
                eprintln!("the transport ended: {error}");
            }
        })?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(port)
    }

    /// Route by these versions and models from now on; requests already admitted finish on the version they were given.
    fn install(&self, versions: Vec<Version>, models: Vec<ServedModel>, complete: bool) -> PyResult<()> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut loaded = HashMap::new();
        for version in versions {
            let key = (version.model.clone(), version.number, version.digest.clone());
            let lane = match lanes.get(&key) {
                Some(lane) => lane.clone(),
                None => self.lane(version)?,
            };
            loaded.insert(key, lane);
        }
        let ready: Vec<(String, bool)> = models.iter().map(|model| (model.name.clone(), model.ready)).collect();
        self.shared.install(table(&loaded, models));
        self.shared.health.install(complete, ready.into_iter());
        for (key, lane) in lanes.iter() {
            if !loaded.contains_key(key) {
                lane.close();
            }
        }
        *lanes = loaded;
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

    /// End: nothing more is answered. Waits for the thread that serves.
    fn stop(&self, py: Python<'_>) {
        self.phase.send_replace(Phase::Stopped);
        for lane in self.lanes.lock().unwrap_or_else(PoisonError::into_inner).values() {
            lane.stop();
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread may need the interpreter for its last calls.
        py.detach(|| thread.map(JoinHandle::join));
    }

    /// Requests admitted and not answered yet.
    #[getter]
    fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// All counts since the start.
    fn counts(&self) -> Counts {
        let counts = self.shared.counters.snapshot();
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            versions: counts
                .versions
                .into_iter()
                .map(|(key, version)| {
                    let requests = version.requests.iter().map(|((arm, code), number)| (arm.name().into(), (*code).into(), *number));
                    let histograms = [version.request_seconds, version.queue_seconds, version.compute_seconds, version.batch_rows];
                    let plain = histograms.map(|histogram| (histogram.counts, histogram.total));
                    (key, (requests.collect(), plain, version.failed_seconds, version.last_answer))
                })
                .collect(),
            unrouted: counts.unrouted.into_iter().map(|(code, number)| (code.into(), number)).collect(),
            rejected: counts.rejected,
            queue_rows: lanes.iter().map(|((model, number, _), lane)| ((model.clone(), *number), lane.queue_rows())).collect(),
            in_flight: self.shared.in_flight.load(Ordering::Relaxed),
        }
    }
}

impl Server {
    fn lane(&self, version: Version) -> PyResult<Arc<Lane>> {
        let (inputs, outputs) = (specs(version.inputs)?, specs(version.outputs)?);
        let form = Form::new(&version.model, &version.number.to_string(), inputs, outputs, version.batchable, version.always);
        let limits = if version.batchable { self.lane_limits } else { LaneLimits { max_rows: 1, max_delay: Duration::ZERO } };
        let (shared, model, number) = (self.shared.clone(), version.model.clone(), version.number);
        Lane::start(version.model, version.number, form, limits, Engine::new(version.run, version.tell), move |ran| {
            shared.counters.ran(&model, number, &ran);
        })
        .map_err(|error| PyRuntimeError::new_err(format!("no thread for a version: {error}")))
    }
}

fn table(lanes: &HashMap<Key, Arc<Lane>>, models: Vec<ServedModel>) -> Table {
    let by_number: HashMap<(&str, u32), &Arc<Lane>> =
        lanes.iter().map(|((name, number, _), lane)| ((name.as_str(), *number), lane)).collect();
    let mut table = Table::default();
    for served in models {
        let lane = |number: u32| by_number.get(&(served.name.as_str(), number)).map(|lane| Arc::clone(lane));
        let labels = served.labels.iter().filter_map(|(label, number)| Some((label.clone().into_bytes(), lane(*number)?))).collect();
        let canaries = served.canaries.iter().filter_map(|(number, percent)| Some((lane(*number)?, *percent))).collect();
        let shadows = served.shadows.iter().filter_map(|number| lane(*number)).collect();
        table.models.insert(served.name.clone().into_bytes(), Model { labels, canaries, shadows });
    }
    table
}

fn specs(specs: Vec<TensorSpec>) -> PyResult<Vec<Spec>> {
    let spec = |(name, datatype, shape): TensorSpec| {
        let datatype = Datatype::named(datatype.as_bytes()).ok_or_else(|| PyValueError::new_err(format!("no datatype {datatype}")))?;
        Ok(Spec { name, datatype, shape })
    };
    specs.into_iter().map(spec).collect()
}
