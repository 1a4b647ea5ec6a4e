//! Rows on their way to the prediction log: those of the chosen requests, gathered over many batches. Python is not known here.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::router::Arm;
use crate::tensors::{Datatype, Rows, Tensor};

/// How long rows wait for others.
const DELAY: Duration = Duration::from_millis(100);
/// How many rows, or bytes, wait for nothing more.
const ENOUGH_ROWS: usize = 4096;
const ENOUGH_BYTES: usize = 4 << 20;

/// What is told of a request.
pub struct Told {
    pub id: Bytes,
    pub arm: Arm,
    pub since: Instant,
    pub rows: usize,
    pub start: usize,
}

/// The requests of a batch that are logged, each with the number of its first row there, and of how many they were chosen.
#[derive(Default)]
pub struct Chosen {
    pub requests: Vec<(usize, Told)>,
    pub of: usize,
}

/// The tensors of a batch: all inputs, and the outputs at the places `computed` of the signature.
pub struct Batch {
    pub inputs: Vec<Tensor>,
    pub computed: Vec<usize>,
    pub outputs: Vec<Tensor>,
}

/// Requests that were answered, and the tensors that hold their rows, in order.
pub struct Logged {
    pub requests: Vec<Told>,
    pub inputs: Vec<Tensor>,
    pub computed: Vec<usize>,
    pub outputs: Vec<Tensor>,
}

/// What is not told yet.
#[derive(Default)]
pub struct Untold {
    whole: Vec<Logged>,
    gathered: Vec<Gathered>,
    rows: usize,
    bytes: usize,
    since: Option<Instant>,
}

impl Untold {
    /// Keep what a batch has of the chosen requests. Where that is all, its memory is kept as it is.
    pub fn add(&mut self, chosen: Chosen, batch: Batch) {
        let (Chosen { requests, of }, Batch { inputs, computed, outputs }) = (chosen, batch);
        if requests.is_empty() {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.rows += requests.iter().map(|(_, request)| request.rows).sum::<usize>();
        self.bytes += requests.iter().map(|(_, request)| request.id.len()).sum::<usize>();
        if requests.len() == of {
            self.bytes += inputs.iter().chain(&outputs).map(|tensor| tensor.data().len()).sum::<usize>();
            let requests = requests.into_iter().map(|(_, request)| request).collect();
            self.whole.push(Logged { requests, inputs, computed, outputs });
            return;
        }
        let tensors: Vec<Tensor> = inputs.into_iter().chain(outputs).collect();
        let place = self.gathered.iter().rposition(|gathered| gathered.fits(&computed, &tensors)).unwrap_or_else(|| {
            self.gathered.push(Gathered::new(computed, &tensors));
            self.gathered.len() - 1
        });
        // Several requests share a run only where every tensor of it has their rows one after the other.
        let tensors: Vec<Rows> = tensors.into_iter().map(Rows::of).collect();
        for (first, request) in requests {
            self.bytes += self.gathered[place].add(first, request, &tensors);
        }
    }

    /// When it has to be told; never, if there is nothing.
    pub fn due(&self) -> Option<Instant> {
        let is_enough = self.rows >= ENOUGH_ROWS || self.bytes >= ENOUGH_BYTES;
        self.since.map(|since| if is_enough { since } else { since + DELAY })
    }

    /// All of it, which is told now.
    pub fn take(&mut self) -> Vec<Logged> {
        let taken = std::mem::take(self);
        taken.whole.into_iter().chain(taken.gathered.into_iter().map(Gathered::logged)).collect()
    }
}

/// Rows that were cut from batches whose rows are alike.
struct Gathered {
    requests: Vec<Told>,
    rows: usize,
    computed: Vec<usize>,
    /// The inputs, then the outputs.
    tensors: Vec<Grown>,
}

/// A tensor that gets more and more rows.
struct Grown {
    datatype: Datatype,
    in_row: Vec<usize>,
    data: Vec<u8>,
}

impl Gathered {
    fn new(computed: Vec<usize>, tensors: &[Tensor]) -> Self {
        let grown = |tensor: &Tensor| Grown { datatype: tensor.datatype, in_row: tensor.shape[1..].to_vec(), data: Vec::new() };
        Gathered { requests: Vec::new(), rows: 0, computed, tensors: tensors.iter().map(grown).collect() }
    }

    fn fits(&self, computed: &[usize], tensors: &[Tensor]) -> bool {
        self.computed == computed && self.tensors.iter().zip(tensors).all(|(grown, tensor)| grown.in_row == tensor.shape[1..])
    }

    /// The rows of a request, of which `first` is the first; how many bytes they are.
    fn add(&mut self, first: usize, request: Told, tensors: &[Rows]) -> usize {
        self.rows += request.rows;
        let mut added = 0;
        for (grown, rows) in self.tensors.iter_mut().zip(tensors) {
            let data = rows.bytes(first, first + request.rows);
            grown.data.extend_from_slice(data);
            added += data.len();
        }
        self.requests.push(request);
        added
    }

    fn logged(self) -> Logged {
        let rows = self.rows;
        let tensors = self.tensors.into_iter().map(|grown| {
            let shape = [&[rows], &grown.in_row[..]].concat();
            Tensor::new(grown.datatype, shape, grown.data.into())
        });
        let mut inputs: Vec<Tensor> = tensors.collect();
        let outputs = inputs.split_off(inputs.len() - self.computed.len());
        Logged { requests: self.requests, inputs, computed: self.computed, outputs }
    }
}

#[cfg(test)]
mod properties;
