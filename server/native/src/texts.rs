//! Texts between a tensor, where they are bytes behind their lengths, and Python, where they are `str`.

use std::hash::BuildHasher;

use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use crate::drift_parts::Mixing;
use crate::tensors;

/// Texts that are remembered while those of a batch are made. Categories repeat, and to find one takes half of the time that it takes to make
/// it: 64 rows of 8 of them are run in 57 µs instead of 65, and if no two are alike in 69. Each takes the place of another, so that callers
/// who choose texts of one place gain nothing by it.
const PLACES: usize = 256;
/// A longer one is no category, and takes as long to compare as to make.
const LONGEST: usize = 64;

/// The texts of a BYTES tensor whose lengths were checked; `UnicodeDecodeError` if one is not UTF-8.
pub fn made<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
    let mut known: [Option<(&[u8], Bound<'py, PyString>)>; PLACES] = [const { None }; PLACES];
    let made = tensors::texts(data).map(|bytes| {
        if bytes.len() > LONGEST {
            return PyString::from_bytes(py, bytes);
        }
        let place = &mut known[Mixing::default().hash_one(bytes) as usize % PLACES];
        match place {
            Some((same, text)) if *same == bytes => Ok(text.clone()),
            _ => Ok(place.insert((bytes, PyString::from_bytes(py, bytes)?)).1.clone()),
        }
    });
    PyList::new(py, made.collect::<PyResult<Vec<_>>>()?)
}

/// Shape of an array of texts, and they as a tensor has them.
pub fn read(array: &Bound<'_, PyAny>) -> PyResult<(Vec<usize>, Bytes)> {
    let py = array.py();
    let flat = array.call_method0(intern!(py, "ravel"))?.call_method0(intern!(py, "tolist"))?.cast_into::<PyList>()?;
    let mut bytes = Vec::with_capacity(16 * flat.len());
    for text in flat {
        let text = text.cast::<PyString>()?.to_str()?;
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    Ok((array.getattr(intern!(py, "shape"))?.extract()?, bytes.into()))
}
