//! The engine: a Python object, called once for each batch by a thread of its own. The only module that holds the interpreter while requests
//! are answered.

use std::sync::Arc;
use std::time::Instant;

use pyo3::exceptions::PyUnicodeDecodeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::caught::caught;
use crate::drift::Counting;
use crate::form::Form;
use crate::handed::{Giver, Taken, Taker, handed};
use crate::log::Log;
use crate::logged::{Batch, Chosen};
use crate::memory::{self, Memory};
use crate::router::Arm;
use crate::sampling::Sampling;
use crate::tensors::{Datatype, Tensor};
use crate::texts;

/// Why a batch has no outputs, in a line a caller may read.
pub struct Failure(pub String);

/// `run(inputs, outputs)` of Python: inputs are memory and shape for each of the signature's, texts as a list; outputs are places. It gives
/// the array of each output, or a text that says why there are none.
///
/// `drift` counts the rows of what it ran, and `log` keeps them, if anybody wants that.
pub struct Engine {
    run: Py<PyAny>,
    log: Option<Log>,
    drift: Option<Arc<Counting>>,
    inputs: Vec<String>,
    outputs: Vec<Datatype>,
}

/// A batch: its inputs, the places of the outputs to compute, how many rows each of them has to have, if that matters; arm and rows of its
/// requests, if drift is counted; and which of them are logged.
pub struct Work {
    pub inputs: Vec<Tensor>,
    pub computed: Vec<usize>,
    pub rows: Option<usize>,
    pub counted: Vec<(Arm, usize)>,
    pub chosen: Chosen,
}

/// What a lane sends its batches to.
pub struct Worker {
    work: Giver<Work>,
    done: UnboundedReceiver<Result<Vec<Tensor>, Failure>>,
    sampling: Option<Sampling>,
    counts_drift: bool,
}

impl Worker {
    /// A thread that runs batches until this is dropped. `running` is held by it to its end.
    pub fn start(name: String, mut engine: Engine, running: impl Send + 'static) -> std::io::Result<Self> {
        let (work, to_run) = handed();
        let (report, done) = unbounded_channel();
        let (sampling, counts_drift) = (engine.log.as_ref().map(Log::sampling), engine.drift.is_some());
        std::thread::Builder::new().name(name).spawn(move || {
            // Attached for as long as it lives, and detached while it waits: to attach anew would make a thread state for each batch.
            Python::attach(|py| engine.serve(py, &to_run, &report));
            drop(running);
        })?;
        Ok(Worker { work, done, sampling, counts_drift })
    }

    /// Which requests are logged, if any are.
    pub fn sampling(&self) -> Option<Sampling> {
        self.sampling
    }

    /// Whether drift is counted.
    pub fn counts_drift(&self) -> bool {
        self.counts_drift
    }

    /// The outputs at the places `computed` of the signature, in that order.
    pub async fn run(&mut self, work: Work) -> Result<Vec<Tensor>, Failure> {
        let ended = || Failure("the engine has ended".into());
        self.work.give(work).map_err(|_| ended())?;
        // Where both threads have but one core, the engine would wait for the rest of this one's time, which is milliseconds.
        std::thread::yield_now();
        self.done.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

impl Engine {
    pub fn new(form: &Form, run: Py<PyAny>, log: Option<Log>, drift: Option<Arc<Counting>>) -> Self {
        let inputs = form.inputs().iter().map(|spec| spec.name.clone()).collect();
        Engine { run, log, drift, inputs, outputs: form.outputs().iter().map(|spec| spec.datatype).collect() }
    }

    fn serve(&mut self, py: Python<'_>, work: &Taker<Work>, report: &UnboundedSender<Result<Vec<Tensor>, Failure>>) {
        loop {
            let due = self.log.as_ref().and_then(Log::due);
            let went_on = match py.detach(|| work.take(due)) {
                Taken::Item(work) => self.answer(py, work, report),
                Taken::Due => true,
                Taken::Over => false,
            };
            if let Some(log) = &mut self.log
                && (!went_on || log.due().is_some_and(|due| due <= Instant::now()))
            {
                log.tell(py);
            }
            if !went_on {
                return;
            }
        }
    }

    /// Run a batch and report it; false if nobody is there to whom.
    fn answer(&mut self, py: Python<'_>, work: Work, report: &UnboundedSender<Result<Vec<Tensor>, Failure>>) -> bool {
        let computed = caught(|| self.run(py, &work)).unwrap_or_else(|| Err(Failure("the daemon failed on this request".into())));
        let is_observed = !(work.counted.is_empty() && work.chosen.requests.is_empty());
        let outputs = if is_observed { computed.as_ref().ok().cloned() } else { None };
        // Without the interpreter: whoever is woken by it may be on this core.
        py.detach(|| {
            if report.send(computed).is_err() {
                return false;
            }
            // Its callers have their answers: a defect from here on must not end the thread.
            let Some(outputs) = outputs else { return true };
            if let Some(drift) = &self.drift {
                caught(|| drift.count(&work.inputs, &work.computed, &outputs, work.counted.into_iter()));
            }
            if let Some(log) = &mut self.log {
                log.add(work.chosen, Batch { inputs: work.inputs, computed: work.computed, outputs });
            }
            true
        })
    }

    fn run(&self, py: Python<'_>, work: &Work) -> Result<Vec<Tensor>, Failure> {
        let told = |error: PyErr| Failure(error.to_string());
        let columns = PyList::empty(py);
        for (name, tensor) in self.inputs.iter().zip(&work.inputs) {
            let memory = memory(py, tensor).map_err(|error| {
                if error.is_instance_of::<PyUnicodeDecodeError>(py) {
                    return Failure(format!("input {name} holds bytes that are not UTF-8 text, which this model needs"));
                }
                told(error)
            })?;
            columns.append((memory, &tensor.shape)).map_err(told)?;
        }
        let answer = self.run.call1(py, (columns, &work.computed)).map_err(told)?.into_bound(py);
        if let Ok(text) = answer.cast::<PyString>() {
            return Err(Failure(text.to_string()));
        }
        let arrays = answer.cast::<PyList>().map_err(|error| told(error.into()))?;
        let outputs = arrays.iter().zip(&work.computed).map(|(array, place)| tensor(self.outputs[*place], &array));
        let outputs: Vec<Tensor> = outputs.collect::<PyResult<_>>().map_err(told)?;
        if outputs.iter().any(|output| work.rows.is_some_and(|rows| output.shape.first() != Some(&rows))) {
            return Err(Failure("the model gave another number of rows than it got".into()));
        }
        Ok(outputs)
    }
}

fn memory<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    if tensor.datatype == Datatype::Bytes {
        return Ok(texts::made(py, tensor.data())?.into_any());
    }
    Ok(Bound::new(py, Memory::new(tensor.clone().into_data()))?.into_any())
}

fn tensor(datatype: Datatype, array: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let (shape, data) = if datatype == Datatype::Bytes { texts::read(array)? } else { memory::held(array, datatype.size())? };
    Ok(Tensor::new(datatype, shape, data))
}
