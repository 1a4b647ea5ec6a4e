//! Memory that Rust and numpy share without a copy. Each piece of memory has one owner that never changes it.

use bytes::Bytes;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

/// Bytes that Python may read in place: `numpy.frombuffer` takes them without a copy.
#[pyclass(frozen)]
pub struct Memory {
    bytes: Bytes,
}

impl Memory {
    pub fn new(bytes: Bytes) -> Self {
        Memory { bytes }
    }
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

/// The memory of an array that nobody changes any more.
struct Held {
    /// Keeps it. Dropped on any thread: `PyO3` gives the reference back when the interpreter is held next.
    _array: Py<PyAny>,
    start: *const u8,
    length: usize,
}

// SAFETY: the memory is only read, and the array that owns it is not touched but to be given back.
unsafe impl Send for Held {}
// SAFETY: the same.
unsafe impl Sync for Held {}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: `held` has seen that so many bytes are there, and `_array` keeps them.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

/// Shape and bytes of an array of elements of `size` bytes, which has to be contiguous and must not be changed from now on, without a copy.
pub fn held(array: &Bound<'_, PyAny>, size: usize) -> PyResult<(Vec<usize>, Bytes)> {
    // PyO3 takes no buffer without dimensions.
    if array.getattr(intern!(array.py(), "ndim"))?.extract::<usize>()? == 0 {
        let (_, bytes) = held(&array.call_method0(intern!(array.py(), "ravel"))?, size)?;
        return Ok((Vec::new(), bytes));
    }
    let buffer = PyUntypedBuffer::get(array)?;
    if !buffer.is_c_contiguous() || buffer.item_size() != size {
        return Err(PyBufferError::new_err("an output is not contiguous, or has another datatype than the signature says"));
    }
    let held = Held { _array: array.clone().unbind(), start: buffer.buf_ptr().cast_const().cast(), length: buffer.len_bytes() };
    Ok((buffer.shape().to_vec(), Bytes::from_owner(held)))
}
