//! The engine: a Python object, called once for each batch by a thread of its own. The only module that holds the interpreter while requests
//! are answered.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pyo3::exceptions::PyUnicodeDecodeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::caught::caught;
use crate::drift::Counting;
use crate::form::Form;
use crate::memory::{self, Memory};
use crate::router::Arm;
use crate::tensors::{Datatype, Tensor};
use crate::texts;

/// Why a batch has no outputs, in a line a caller may read.
pub struct Failure(pub String);

/// `run(inputs, outputs)` of Python: inputs are memory and shape for each of the signature's, texts as a list; outputs are places. It gives
/// the array of each output, or a text that says why there are none.
///
/// `tell(requests)`, if anybody wants to know, is told of the requests of the last run: id, arm, seconds since they came, rows, and the number
/// of the first of them. `drift` counts their rows.
pub struct Engine {
    run: Py<PyAny>,
    tell: Option<Py<PyAny>>,
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
    work: UnboundedSender<Work>,
    done: UnboundedReceiver<Result<Vec<Tensor>, Failure>>,
    is_told: bool,
}

impl Worker {
    /// A thread that runs batches until this is dropped. `running` is held by it to its end.
    pub fn start(name: String, engine: Engine, running: impl Send + 'static) -> std::io::Result<Self> {
        let (work, mut to_run) = unbounded_channel();
        let (report, done) = unbounded_channel();
        let is_told = engine.tell.is_some() || engine.drift.is_some();
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
        self.done.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

impl Engine {
    pub fn new(form: &Form, run: Py<PyAny>, tell: Option<Py<PyAny>>, drift: Option<Arc<Counting>>) -> Self {
        let inputs = form.inputs().iter().map(|spec| spec.name.clone()).collect();
        Engine { run, tell, drift, inputs, outputs: form.outputs().iter().map(|spec| spec.datatype).collect() }
    }

    fn serve(&self, py: Python<'_>, work: &mut UnboundedReceiver<Work>, report: &UnboundedSender<Result<Vec<Tensor>, Failure>>) {
        while let Some(work) = py.detach(|| work.blocking_recv()) {
            let computed = caught(|| self.run(py, &work)).unwrap_or_else(|| Err(Failure("the daemon failed on this request".into())));
            let succeeded = computed.is_ok();
            let outputs = if self.drift.is_some() { computed.as_ref().ok().cloned() } else { None };
            // Without the interpreter: whoever is woken by it may be on this core.
            if py.detach(|| report.send(computed)).is_err() {
                return;
            }
            if let (Some(drift), Some(outputs)) = (&self.drift, outputs) {
                let requests = work.told.iter().map(|one| (one.arm, one.rows));
                // Its callers have their answers: a defect here must not end the thread.
                py.detach(|| caught(|| drift.count(&work.inputs, &work.computed, &outputs, requests)));
            }
            if succeeded {
                self.tell(py, &work.told);
            }
        }
    }

    /// Tell of the batch that ran last; its callers have their answers.
    fn tell(&self, py: Python<'_>, batch: &[Told]) {
        let Some(tell) = &self.tell else { return };
        let requests = batch.iter().map(|one| {
            let seconds = one.since.elapsed().as_secs_f64();
            (String::from_utf8_lossy(&one.id), one.arm.name(), seconds, one.rows, one.start)
        });
        if let Err(error) = tell.call1(py, (requests.collect::<Vec<_>>(),)) {
            // The callers have their answers; what counts them must not end the thread.
            error.print(py);
        }
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
