//! The engine: a Python object, called once for each batch. The only module that holds the interpreter while requests are answered.

use std::time::Instant;

use bytes::Bytes;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use crate::form::Form;
use crate::tensors::{self, Datatype, Tensor};

/// Why a batch has no outputs, in a line a caller may read.
pub struct Failure(pub String);

/// `run(inputs, outputs)` of Python: inputs are memory and shape for each of the signature's, texts as a list; outputs are places. It gives
/// shape and bytes of each output, or a text that says why there are none.
///
/// `tell(requests)`, if anybody wants to know, is told of the requests of the last run: id, arm, seconds since they came, rows, and the number
/// of the first of them.
pub struct Engine {
    run: Py<PyAny>,
    tell: Option<Py<PyAny>>,
}

/// What is told of a request in a batch that ran.
pub struct Told<'a> {
    pub id: &'a [u8],
    pub arm: &'static str,
    pub since: Instant,
    pub rows: usize,
    pub start: usize,
}

#[derive(FromPyObject)]
enum Answer {
    Outputs(Vec<(Vec<usize>, PyBackedBytes)>),
    Failed(String),
}

impl Engine {
    pub fn new(run: Py<PyAny>, tell: Option<Py<PyAny>>) -> Self {
        Engine { run, tell }
    }

    /// Tell of the batch that ran last; its callers have their answers.
    pub fn tell<'a>(&self, batch: impl Iterator<Item = Told<'a>>) {
        let Some(tell) = &self.tell else { return };
        Python::attach(|py| {
            let told = batch.map(|one| (String::from_utf8_lossy(one.id), one.arm, one.since.elapsed().as_secs_f64(), one.rows, one.start));
            if let Err(error) = tell.call1(py, (told.collect::<Vec<_>>(),)) {
                // The callers have their answers; what counts them must not end the thread.
                error.print(py);
            }
        });
    }

    /// The outputs at the places `computed` of the signature, in that order.
    pub fn run(&self, form: &Form, inputs: &[Tensor], computed: &[usize]) -> Result<Vec<Tensor>, Failure> {
        let answer = Python::attach(|py| self.call(py, inputs, computed)).map_err(|error| Failure(error.to_string()))?;
        match answer {
            Answer::Failed(text) => Err(Failure(text)),
            Answer::Outputs(outputs) => Ok(outputs
                .into_iter()
                .zip(computed)
                .map(|((shape, bytes), place)| Tensor::new(form.outputs()[*place].datatype, shape, Bytes::from_owner(bytes)))
                .collect()),
        }
    }

    fn call(&self, py: Python<'_>, inputs: &[Tensor], computed: &[usize]) -> PyResult<Answer> {
        let columns = PyList::empty(py);
        for tensor in inputs {
            columns.append((memory(py, tensor)?, tensor.shape.clone()))?;
        }
        self.run.call1(py, (columns, computed.to_vec()))?.extract(py)
    }
}

fn memory<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    if tensor.datatype == Datatype::Bytes {
        return Ok(PyList::new(py, tensors::texts(tensor.data()).map(|text| PyBytes::new(py, text)).collect::<Vec<_>>())?.into_any());
    }
    Ok(Bound::new(py, Memory { bytes: tensor.clone().into_data() })?.into_any())
}

/// Bytes that Python may read in place: `numpy.frombuffer` takes them without a copy.
#[pyclass(frozen)]
struct Memory {
    bytes: Bytes,
}

#[pymethods]
impl Memory {
    /// The buffer protocol.
    ///
    /// # Safety
    ///
    /// Called by the interpreter, with a view to be filled. The bytes never change and live as long as the object, which the view keeps.
    #[allow(clippy::needless_pass_by_value, reason = "the signature is that of the buffer protocol")]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: std::ffi::c_int) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let length = ffi::Py_ssize_t::try_from(bytes.len()).map_err(|_| PyBufferError::new_err("too long"))?;
        // SAFETY: `view` is the interpreter's, `bytes` outlives it as said above, and the view is read-only.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), bytes.as_ptr().cast_mut().cast(), length, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
