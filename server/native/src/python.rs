//! What stays in Python and exists once, by the functions it gives: every call but inference, who calls, and why something is refused.
//!
//! Each is called on a thread that may wait for the interpreter, never on the one that serves.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::call::Peer;
use crate::grants::{Holder, Known};
use crate::status::Status;

/// Metadata of a call, as Python takes it.
pub type Metadata = Vec<(String, Vec<u8>)>;

/// `call(path, message, metadata, peer, names)` answers a call, `explain(message, id)` says why an inference is refused.
pub struct Functions {
    pub call: Py<PyAny>,
    pub explain: Py<PyAny>,
    /// `authenticate(metadata, peer, names)` says who sends an inference.
    pub authenticate: Py<PyAny>,
    /// `permit(model, metadata, peer, names)` refuses an inference of a model, or does not.
    pub permit: Py<PyAny>,
    /// `admit(path, metadata, peer, names)` refuses a stream, or does not.
    pub admit: Py<PyAny>,
    /// The names in a certificate (DER) of a client.
    pub names: Py<PyAny>,
}

/// Code, reason, text, and when to try again.
type Refusal = (u32, String, String, Option<f64>);

#[derive(FromPyObject)]
enum Answer {
    Message(PyBackedBytes),
    Refused(Refusal),
}

#[derive(FromPyObject)]
enum Authenticated {
    Holder(Holder),
    Refused(Refusal),
}

impl Functions {
    /// Answer a call that is no inference.
    pub fn call(&self, path: &str, message: &[u8], metadata: Metadata, peer: &Peer) -> Result<Bytes, Status> {
        let answer =
            Python::attach(|py| self.call.call1(py, (path, PyBytes::new(py, message), metadata, &*peer.address, &peer.names))?.extract(py));
        match told(answer)? {
            Answer::Message(bytes) => Ok(Bytes::from_owner(bytes)),
            Answer::Refused(refusal) => Err(status_of(&refusal)),
        }
    }

    /// Whether a stream may begin, whatever its messages will be about.
    pub fn admit(&self, path: &str, metadata: Metadata, peer: &Peer) -> Result<(), Status> {
        let refused =
            Python::attach(|py| self.admit.call1(py, (path, metadata, &*peer.address, &peer.names))?.extract::<Option<Refusal>>(py));
        told(refused)?.map_or(Ok(()), |refusal| Err(status_of(&refusal)))
    }

    /// The names in a verified certificate of a client.
    pub fn names(&self, certificate: &[u8]) -> Vec<String> {
        Python::attach(|py| self.names.call1(py, (PyBytes::new(py, certificate),))?.extract(py)).unwrap_or_default()
    }

    /// Why an inference that could not be read, routed or fitted is refused; `None` if by now it would not be.
    pub fn explain(&self, message: &[u8], id: &[u8]) -> Option<Status> {
        let id = String::from_utf8_lossy(id);
        let refused = Python::attach(|py| self.explain.call1(py, (PyBytes::new(py, message), id))?.extract::<Option<Refusal>>(py));
        told(refused).map_or_else(Some, |refusal| refusal.as_ref().map(status_of))
    }

    /// Who sends an inference.
    pub fn authenticate(&self, metadata: Metadata, peer: &Peer) -> Result<Known, Status> {
        let found = Python::attach(|py| self.authenticate.call1(py, (metadata, &*peer.address, &peer.names))?.extract(py));
        match told(found)? {
            Authenticated::Holder(holder) => Ok(holder.into()),
            Authenticated::Refused(refusal) => Err(status_of(&refusal)),
        }
    }

    /// Whether he who sends an inference of a model may.
    pub fn permit(&self, model: &str, metadata: Metadata, peer: &Peer) -> Result<(), Status> {
        let refused =
            Python::attach(|py| self.permit.call1(py, (model, metadata, &*peer.address, &peer.names))?.extract::<Option<Refusal>>(py));
        told(refused)?.map_or(Ok(()), |refusal| Err(status_of(&refusal)))
    }
}

fn told<T>(answer: Result<T, PyErr>) -> Result<T, Status> {
    answer.map_err(|error| {
        Python::attach(|py| error.print(py));
        Status::defect()
    })
}

fn status_of((code, reason, text, retry): &Refusal) -> Status {
    Status::refusal(*code, reason, text, *retry)
}
