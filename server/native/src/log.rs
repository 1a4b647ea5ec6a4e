//! The prediction log: a function of Python, told of many rows at once after their callers have their answers.

use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::caught::caught;
use crate::logged::{Batch, Chosen, Logged, Untold};
use crate::memory::Memory;
use crate::sampling::Sampling;
use crate::tensors::{self, Datatype, Tensor};

/// `tell(batches)` of Python; of each batch its requests, its inputs, the places of its outputs and the outputs. A request is id, arm, seconds
/// since it came, rows, and the number of the first of them; a tensor is memory, texts as a list, and shape.
pub struct Log {
    tell: Py<PyAny>,
    sampling: Sampling,
    untold: Untold,
}

impl Log {
    pub fn new(tell: Py<PyAny>, share: f64) -> Self {
        Log { tell, sampling: Sampling::new(share), untold: Untold::default() }
    }

    /// Which requests are logged.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Keep what is logged of a batch until it is told.
    pub fn add(&mut self, chosen: Chosen, batch: Batch) {
        if caught(|| self.untold.add(chosen, batch)).is_none() {
            // Rows that may not be their requests' are worse than none.
            self.untold = Untold::default();
        }
    }

    /// When it has to be told; never, while there is nothing to tell.
    pub fn due(&self) -> Option<Instant> {
        self.untold.due()
    }

    /// Tell what has not been told yet.
    pub fn tell(&mut self, py: Python<'_>) {
        let batches = self.untold.take();
        if batches.is_empty() {
            return;
        }
        let told = caught(|| {
            let batches = batches.into_iter().map(|batch| plain(py, batch)).collect::<PyResult<Vec<_>>>()?;
            self.tell.call1(py, (batches,))
        });
        if let Some(Err(error)) = told {
            error.print(py);
        }
    }
}

fn plain(py: Python<'_>, batch: Logged) -> PyResult<Bound<'_, PyAny>> {
    let requests = batch.requests.iter().map(|one| {
        let seconds = one.since.elapsed().as_secs_f64();
        (String::from_utf8_lossy(&one.id), one.arm.name(), seconds, one.rows, one.start)
    });
    let requests: Vec<_> = requests.collect();
    let [inputs, outputs] = [batch.inputs, batch.outputs].map(|tensors| tensors.into_iter().map(|one| tensor(py, one)).collect());
    let (inputs, outputs): (PyResult<Vec<_>>, PyResult<Vec<_>>) = (inputs, outputs);
    Ok((requests, inputs?, batch.computed, outputs?).into_pyobject(py)?.into_any())
}

fn tensor(py: Python<'_>, tensor: Tensor) -> PyResult<(Bound<'_, PyAny>, Vec<usize>)> {
    let shape = tensor.shape.clone();
    if tensor.datatype == Datatype::Bytes {
        let texts: Vec<_> = tensors::texts(tensor.data()).map(|text| PyBytes::new(py, text)).collect();
        return Ok((PyList::new(py, texts)?.into_any(), shape));
    }
    Ok((Bound::new(py, Memory::new(tensor.into_data()))?.into_any(), shape))
}
