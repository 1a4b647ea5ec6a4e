//! What watches the traffic beside the counters: a thread that tells Python of calls that are over, many at once.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::python::Metadata;

/// Calls that may wait to be told; what is more is dropped, as nothing here may hold a request up.
const ROOM: usize = 4096;

/// An inference that is over; `batch_rows` is 0 if it never ran.
pub struct Traced {
    pub metadata: Metadata,
    pub model: String,
    pub version: u32,
    pub arm: &'static str,
    pub code: &'static str,
    pub rows: usize,
    pub began: Instant,
    pub took: Duration,
    pub queued: Duration,
    pub ran: Duration,
    pub batch_rows: usize,
}

#[derive(Default)]
pub struct Observers {
    calls: Option<SyncSender<Traced>>,
}

impl Observers {
    /// `call` is given each call that is over, if anybody asks for it.
    pub fn new(call: Option<Py<PyAny>>) -> std::io::Result<Self> {
        let Some(call) = call else { return Ok(Observers::default()) };
        let (calls, told) = mpsc::sync_channel(ROOM);
        std::thread::Builder::new().name("observe".into()).spawn(move || tell(&call, &told))?;
        Ok(Observers { calls: Some(calls) })
    }

    /// Whether anybody asks.
    pub fn wants_calls(&self) -> bool {
        self.calls.is_some()
    }

    pub fn call(&self, traced: Traced) {
        if let Some(calls) = &self.calls {
            let _ = calls.try_send(traced);
        }
    }
}

fn tell(call: &Py<PyAny>, told: &Receiver<Traced>) {
    while let Ok(first) = told.recv() {
        Python::attach(|py| {
            for traced in std::iter::once(first).chain(told.try_iter().take(ROOM)) {
                let Traced { metadata, model, version, arm, code, rows, began, took, queued, ran, batch_rows } = traced;
                // In seconds: how long ago it began, and how long it took, waited and ran.
                let seconds = [began.elapsed(), took, queued, ran].map(|time| time.as_secs_f64());
                let arguments = (metadata, model, version, arm, code, rows, seconds, batch_rows);
                if let Err(error) = call.call1(py, arguments) {
                    error.print(py);
                }
            }
        });
    }
}
