//! The engine: a Python object, called once for each batch by a thread of its own. The only module that holds the interpreter while requests
//! are answered.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use bytes::Bytes;
use pyo3::exceptions::PyUnicodeDecodeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::caught::caught;
use crate::drift::Counting;
use crate::form::Form;
use crate::log::Log;
use crate::logged::Logged;
use crate::memory::{self, Memory};
use crate::router::Arm;
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

/// A batch: its inputs, the places of the outputs to compute, how many rows each of them has to have, if that matters, and whose rows they
/// are, if anybody wants to know.
pub struct Work {
    pub inputs: Vec<Tensor>,
    pub computed: Vec<usize>,
    pub rows: Option<usize>,
    pub told: Vec<Told>,
}

/// What is told of a request in a batch that ran.
pub struct Told {
    pub id: Bytes,
    pub arm: Arm,
    pub since: Instant,
    pub rows: usize,
    pub start: usize,
}

/// What a lane sends its batches to.
pub struct Worker {
    work: Sender<Work>,
    done: UnboundedReceiver<Result<Vec<Tensor>, Failure>>,
    is_told: bool,
}

impl Worker {
    /// A thread that runs batches until this is dropped. `running` is held by it to its end.
    pub fn start(name: String, mut engine: Engine, running: impl Send + 'static) -> std::io::Result<Self> {
        let (work, mut to_run) = channel();
        let (report, done) = unbounded_channel();
        let is_told = engine.log.is_some() || engine.drift.is_some();
        std::thread::Builder::new().name(name).spawn(move || {
            // Attached for as long as it lives, and detached while it waits: to attach anew would make a thread state for each batch.
            Python::attach(|py| engine.serve(py, &mut to_run, &report));
            drop(running);
        })?;
        Ok(Worker { work, done, is_told })
    }

    /// Whether batches have to say whose rows they have.
    pub fn is_told(&self) -> bool {
        self.is_told
    }

    /// The outputs at the places `computed` of the signature, in that order.
    pub async fn run(&mut self, work: Work) -> Result<Vec<Tensor>, Failure> {
        let ended = || Failure("the engine has ended".into());
        self.work.send(work).map_err(|_| ended())?;
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

    fn serve(&mut self, py: Python<'_>, work: &mut Receiver<Work>, report: &UnboundedSender<Result<Vec<Tensor>, Failure>>) {
        loop {
            let due = self.log.as_ref().and_then(Log::due);
            let went_on = match py.detach(|| next(work, due)) {
                Ok(work) => self.answer(py, work, report),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
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
        let outputs = if work.told.is_empty() { None } else { computed.as_ref().ok().cloned() };
        // Without the interpreter: whoever is woken by it may be on this core.
        py.detach(|| {
            if report.send(computed).is_err() {
                return false;
            }
            // Its callers have their answers: a defect from here on must not end the thread.
            let Some(outputs) = outputs else { return true };
            if let Some(drift) = &self.drift {
                let requests = work.told.iter().map(|one| (one.arm, one.rows));
                caught(|| drift.count(&work.inputs, &work.computed, &outputs, requests));
            }
            if let Some(log) = &mut self.log {
                log.add(Logged { requests: work.told, inputs: work.inputs, computed: work.computed, outputs });
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

/// The next batch; an error once it is `due` to do something else, or there are no more.
fn next(work: &mut Receiver<Work>, due: Option<Instant>) -> Result<Work, RecvTimeoutError> {
    match due {
        None => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(due) => work.recv_timeout(due.saturating_duration_since(Instant::now())),
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
