//! What is loaded: a lane for each version, and the table that routes to them, made of what Python describes. On the thread that serves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use pyo3::prelude::*;

use crate::counters::Counters;
use crate::drift::DriftCounting;
use crate::engine::{Engine, Worker};
use crate::form::{Form, Spec};
use crate::lane::{Lane, Limits};
use crate::log::Log;
use crate::pool::Pool;
use crate::router::{Model, Table};
use crate::tensors::Datatype;

/// How long runs that go on at the end may take to end as well.
const LAST_RUNS: Duration = Duration::from_secs(5);

/// Name, datatype and shape of a tensor.
type TensorSpec = (String, String, Vec<i64>);

/// A loaded version.
#[derive(FromPyObject)]
pub struct Version {
    model: String,
    number: u32,
    digest: String,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    batchable: bool,
    always: Vec<String>,
    run: Py<PyAny>,
    /// What is told of the rows of a share of the requests, and that share.
    log: Option<(Py<PyAny>, f64)>,
    drift: Option<Py<DriftCounting>>,
}

impl Version {
    /// Model and number.
    pub fn key(&self) -> (String, u32) {
        (self.model.clone(), self.number)
    }
}

/// A model: the number each label means, the percent of each canary in order, and the shadows.
#[derive(FromPyObject)]
pub struct ServedModel {
    pub name: String,
    labels: HashMap<String, u32>,
    canaries: Vec<(u32, u64)>,
    shadows: Vec<u32>,
    pub ready: bool,
}

type Key = (String, u32, String);

/// The lanes and the table.
pub struct Installed {
    limits: Limits,
    pool: Arc<Pool>,
    lanes: RefCell<HashMap<Key, Rc<Lane>>>,
    table: RefCell<Rc<Table>>,
    /// Held by the threads of the engines, each to its end.
    running: RefCell<Option<Sender<()>>>,
    ended: Receiver<()>,
}

impl Installed {
    pub fn new(limits: Limits) -> Self {
        let (running, ended) = channel();
        Installed {
            limits,
            pool: Arc::default(),
            lanes: RefCell::default(),
            table: RefCell::default(),
            running: RefCell::new(Some(running)),
            ended,
        }
    }

    /// What routes now.
    pub fn table(&self) -> Rc<Table> {
        self.table.borrow().clone()
    }

    /// Route by these versions and models from now on; requests already admitted finish on the version they were given.
    pub fn install(&self, versions: Vec<Version>, models: Vec<ServedModel>, counters: &Counters) -> Result<(), String> {
        let mut loaded = HashMap::new();
        for version in versions {
            let key = (version.model.clone(), version.number, version.digest.clone());
            let known = self.lanes.borrow().get(&key).cloned();
            let lane = match known {
                Some(lane) => lane,
                None => self.lane(version, counters)?,
            };
            loaded.insert(key, lane);
        }
        *self.table.borrow_mut() = Rc::new(table(&loaded, models));
        let before = self.lanes.replace(loaded);
        for (key, lane) in before {
            if !self.lanes.borrow().contains_key(&key) {
                lane.close();
            }
        }
        Ok(())
    }

    /// Run nothing more, not even what is queued.
    pub fn stop(&self) {
        *self.table.borrow_mut() = Rc::default();
        for lane in self.lanes.take().into_values() {
            lane.stop();
        }
        self.running.take();
    }

    /// Return once the engines have ended, or take too long for it.
    pub fn wait(&self) {
        // Nothing is ever sent: it ends when all who could have are gone.
        let _ = self.ended.recv_timeout(LAST_RUNS);
    }

    fn lane(&self, version: Version, counters: &Counters) -> Result<Rc<Lane>, String> {
        let (inputs, outputs) = (specs(version.inputs)?, specs(version.outputs)?);
        let form = Form::new(&version.model, &version.number.to_string(), inputs, outputs, version.batchable, version.always);
        let limits = if version.batchable { self.limits } else { Limits { max_rows: 1, max_delay: Duration::ZERO } };
        let drift = version.drift.map(|drift| drift.get().counting.clone());
        let engine = Engine::new(&form, version.run, version.log.map(|(tell, share)| Log::new(tell, share)), drift);
        let worker = Worker::start(format!("engine-{}", version.number), engine, self.running.borrow().clone());
        let worker = worker.map_err(|error| format!("no thread for a version: {error}"))?;
        let counters = counters.of(&version.model, version.number);
        Ok(Lane::start(version.model, version.number, form, limits, self.pool.clone(), counters, worker))
    }
}

fn table(lanes: &HashMap<Key, Rc<Lane>>, models: Vec<ServedModel>) -> Table {
    let by_number: HashMap<(&str, u32), &Rc<Lane>> =
        lanes.iter().map(|((name, number, _), lane)| ((name.as_str(), *number), lane)).collect();
    let mut table = Table::default();
    for served in models {
        let lane = |number: u32| by_number.get(&(served.name.as_str(), number)).map(|lane| Rc::clone(lane));
        let labels = served.labels.iter().filter_map(|(label, number)| Some((label.clone().into_bytes(), lane(*number)?))).collect();
        let canaries = served.canaries.iter().filter_map(|(number, percent)| Some((lane(*number)?, *percent))).collect();
        let shadows = served.shadows.iter().filter_map(|number| lane(*number)).collect();
        table.models.insert(served.name.clone().into_bytes(), Model { labels, canaries, shadows });
    }
    table
}

fn specs(specs: Vec<TensorSpec>) -> Result<Vec<Spec>, String> {
    let spec = |(name, datatype, shape): TensorSpec| {
        let datatype = Datatype::named(datatype.as_bytes()).ok_or_else(|| format!("no datatype {datatype}"))?;
        Ok(Spec { name, datatype, shape })
    };
    specs.into_iter().map(spec).collect()
}
