//! How the values of a tensor are counted in bins: numbers by `levels`, texts and numbers that are categories by look-up, classes by the most
//! probable one. Which rows are counted for whom is in `drift`.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::levels::{Counted, Levels};
use crate::numbers::{Number, with_numbers};
use crate::tensors::{Datatype, Tensor, texts};

/// Bytes of rows that are gone through column by column: what stays in the first cache; and how many rows they are at least.
const BLOCK_BYTES: usize = 16 << 10;
const MIN_BLOCK_ROWS: usize = 16;

/// Rows `start` to `start + rows` of a batch.
#[derive(Clone, Copy)]
pub struct Run {
    pub start: usize,
    pub rows: usize,
}

/// What was counted for one arm: rows, all bins but those of numeric features, and those.
pub struct Tally {
    pub rows: u64,
    pub bins: Vec<u64>,
    pub levels: Vec<Counted>,
}

/// The bin of each text that has one of its own, of the empty text, and of all others.
pub struct Texts {
    known: HashMap<Box<[u8]>, usize, Mixing>,
    longest: usize,
    other: usize,
}

/// One numeric feature: its column, its edges, and the number of what is counted of it.
pub struct Numbers {
    pub column: usize,
    pub levels: Levels,
    pub number: usize,
}

/// How some features of one tensor are counted.
pub enum Kind {
    Numbers(Vec<Numbers>),
    /// For each column, if it is counted.
    Texts(Vec<Option<Texts>>),
    /// Numbers that are categories: the bin of each that has one of its own, by its key, of all others, and of what is no number.
    Written {
        column: usize,
        known: HashMap<u64, usize, Mixing>,
        other: usize,
        missing: usize,
    },
    /// The bin of each class, and of rows where a probability is no number.
    Classes {
        bins: Vec<usize>,
        missing: usize,
    },
}

/// Features that are counted together, and the tensor [n, width] they are in.
pub struct Part {
    pub features: Vec<usize>,
    pub tensor: usize,
    pub width: usize,
    pub kind: Kind,
}

impl Part {
    /// Whether the tensor has this many rows, each as wide as the signature says.
    pub fn fits(&self, tensor: &Tensor, rows: usize) -> bool {
        let (first, rest) = tensor.shape.split_first().map_or((1, &[][..]), |(first, rest)| (*first, rest));
        let size = rows * self.width * tensor.datatype.size();
        let is_whole = tensor.datatype == Datatype::Bytes || tensor.data().len() == size;
        let is_text = matches!(self.kind, Kind::Texts(_));
        first == rows && rest.iter().product::<usize>() == self.width && is_whole && is_text == (tensor.datatype == Datatype::Bytes)
    }

    /// Count rows of a tensor that fits, each run of them for its arm; they are in order.
    pub fn count(&self, tensor: &Tensor, runs: &[(usize, Run)], tallies: &mut [Tally]) {
        if let Kind::Texts(columns) = &self.kind {
            return count_texts(columns, tensor.data(), runs, tallies);
        }
        for (arm, run) in runs {
            with_numbers!(tensor.datatype, T => {
                let row = self.width * T::SIZE;
                let rows = &tensor.data()[run.start * row..][..run.rows * row];
                self.kind.count::<T>(rows, row, &mut tallies[*arm]);
            });
        }
    }
}

impl Kind {
    /// Count these rows, of `row` bytes each.
    fn count<T: Number>(&self, rows: &[u8], row: usize, tally: &mut Tally) {
        match self {
            Kind::Numbers(features) => count_numbers::<T>(features, rows, row, &mut tally.levels),
            Kind::Written { column, known, other, missing } => {
                for row in rows.chunks_exact(row) {
                    let bin = T::read(&row[column * T::SIZE..]).key().map_or(*missing, |key| *known.get(&key).unwrap_or(other));
                    tally.bins[bin] += 1;
                }
            }
            Kind::Classes { bins, missing } => {
                for row in rows.chunks_exact(row) {
                    tally.bins[most_probable::<T>(row).map_or(*missing, |class| bins[class])] += 1;
                }
            }
            Kind::Texts(_) => {}
        }
    }
}

impl Texts {
    /// The values have bins of their own from `start` on, then come all others, then the empty text.
    pub fn new(values: Vec<Vec<u8>>, start: usize) -> Self {
        let other = start + values.len();
        let longest = values.iter().map(Vec::len).max().unwrap_or(0);
        let mut known: HashMap<Box<[u8]>, usize, Mixing> =
            values.into_iter().enumerate().map(|(place, value)| (value.into(), start + place)).collect();
        known.insert(Box::default(), other + 1);
        Texts { known, longest, other }
    }

    fn bin(&self, text: &[u8]) -> usize {
        // A text of a megabyte is not read to see that it is not among them.
        if text.len() > self.longest { self.other } else { *self.known.get(text).unwrap_or(&self.other) }
    }
}

fn count_numbers<T: Number>(features: &[Numbers], rows: &[u8], row: usize, levels: &mut [Counted]) {
    let block = (BLOCK_BYTES / row).max(MIN_BLOCK_ROWS);
    for rows in rows.chunks(block * row) {
        for feature in features {
            let column = rows[feature.column * T::SIZE..].chunks(row);
            feature.levels.count(column.map(|bytes| T::read(bytes).single()), &mut levels[feature.number]);
        }
    }
}

fn count_texts(columns: &[Option<Texts>], data: &[u8], runs: &[(usize, Run)], tallies: &mut [Tally]) {
    let (mut texts, mut row) = (texts(data), 0);
    for (arm, run) in runs {
        texts.by_ref().take((run.start - row) * columns.len()).for_each(drop);
        row = run.start + run.rows;
        let counted = texts.by_ref().take(run.rows * columns.len());
        for (text, column) in counted.zip(columns.iter().cycle()) {
            if let Some(column) = column {
                tallies[*arm].bins[column.bin(text)] += 1;
            }
        }
    }
}

/// The class of the largest number, of two that are alike the first; `None` if one is no number.
fn most_probable<T: Number>(row: &[u8]) -> Option<usize> {
    let (mut best, mut class) = (T::read(row), 0);
    let mut missing = false;
    for (place, bytes) in row.chunks_exact(T::SIZE).enumerate() {
        let value = T::read(bytes);
        missing |= value.single().is_nan();
        if value > best {
            (best, class) = (value, place);
        }
    }
    (!missing).then_some(class)
}

pub type Mixing = BuildHasherDefault<Mixer>;

/// Hashes what is looked up in a table that a profile has filled once: callers add nothing to it, so they cannot make it slow.
#[derive(Default)]
pub struct Mixer(u64);

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.write_u64(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
