//! Counts the rows of each batch in the bins of a profile, arm by arm: the same integers as `server/drift_counting.py`. How values become
//! bins is in `drift_parts`, what the counts mean is Python's business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::drift_parts::{Kind, Numbers, Part, Run, Tally, Texts};
use crate::levels::Levels;
use crate::router::Arm;
use crate::tensors::{Datatype, Tensor};

/// Arms whose rows are counted; callers who name a version get answers that are nobody's traffic.
const ARMS: [Arm; 3] = [Arm::Stable, Arm::Canary, Arm::Shadow];

/// Where a feature is: its number in the profile, that of its tensor (inputs of the signature, then outputs), its column and how many there
/// are, and its first bin.
#[derive(Clone, Copy, FromPyObject)]
struct Place {
    feature: usize,
    tensor: usize,
    column: usize,
    width: usize,
    start: usize,
}

/// A feature, the bin of each of its categories by key, that of others, and that of what is no number.
type Written = (Place, Vec<(u64, usize)>, usize, usize);

/// How the features of a profile are counted in the tensors of a signature: see `server/native/drift.py`.
#[derive(FromPyObject)]
struct Features {
    /// How many there are, counted or not, and their bins together.
    number: usize,
    bins: usize,
    /// Numeric features, and their edges as singles.
    numbers: Vec<(Place, Vec<f32>)>,
    /// Categorical ones, and the texts that have bins of their own.
    texts: Vec<(Place, Vec<Vec<u8>>)>,
    /// Those whose values are numbers: by what keys those are known says `numbers`.
    written: Vec<Written>,
    /// The most probable class: the bin of each, and of rows that have none.
    classes: Vec<(Place, Vec<usize>, usize)>,
}

/// What a version has counted since it was loaded first.
pub struct Counting {
    parts: Vec<Part>,
    /// The first bin of each numeric feature, as they are in `Tally::levels`.
    starts: Vec<usize>,
    state: Mutex<State>,
}

struct State {
    tallies: Vec<Tally>,
    lost: Vec<bool>,
}

impl Counting {
    /// Count the rows of a batch: its inputs, the outputs at the places `computed` of the signature, and the arm and rows of each request.
    pub fn count(&self, inputs: &[Tensor], computed: &[usize], outputs: &[Tensor], requests: impl Iterator<Item = (Arm, usize)>) {
        let (runs, rows) = runs(requests);
        let mut state = self.lock();
        for (arm, run) in &runs {
            state.tallies[*arm].rows += run.rows as u64;
        }
        if runs.is_empty() {
            return;
        }
        let State { tallies, lost } = &mut *state;
        for part in &self.parts {
            let tensor = inputs.get(part.tensor).or_else(|| {
                let place = computed.iter().position(|place| place + inputs.len() == part.tensor)?;
                outputs.get(place)
            });
            match tensor {
                Some(tensor) if part.fits(tensor, rows) => part.count(tensor, &runs, tallies),
                _ => part.features.iter().for_each(|feature| lost[*feature] = true),
            }
        }
    }

    /// Rows and bins of each of `ARMS` so far, and the numbers of features of which not all rows are counted.
    fn counted(&self) -> (Vec<(u64, Vec<u64>)>, Vec<usize>) {
        let mut state = self.lock();
        let tallies = state.tallies.iter_mut().map(|tally| {
            let mut bins = tally.bins.clone();
            for (start, levels) in self.starts.iter().zip(&mut tally.levels) {
                let found = levels.bins();
                bins[*start..][..found.len()].copy_from_slice(found);
            }
            (tally.rows, bins)
        });
        let tallies = tallies.collect();
        (tallies, (0..state.lost.len()).filter(|feature| state.lost[*feature]).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Features {
    fn counting(self) -> Counting {
        let (starts, levels): (Vec<_>, Vec<_>) =
            self.numbers.into_iter().map(|(place, edges)| (place.start, (place, Levels::new(edges)))).unzip();
        let tally = || Tally { rows: 0, bins: vec![0; self.bins], levels: levels.iter().map(|(_, levels)| levels.nothing()).collect() };
        let state = State { tallies: ARMS.iter().map(|_| tally()).collect(), lost: vec![false; self.number] };
        let mut parts = number_parts(levels);
        parts.extend(by_tensor(self.texts).into_iter().map(text_part));
        parts.extend(self.written.into_iter().map(|(place, known, other, missing)| {
            part(&[place], Kind::Written { column: place.column, known: known.into_iter().collect(), other, missing })
        }));
        parts.extend(self.classes.into_iter().map(|(place, bins, missing)| part(&[place], Kind::Classes { bins, missing })));
        Counting { parts, starts, state: Mutex::new(state) }
    }
}

fn number_parts(features: Vec<(Place, Levels)>) -> Vec<Part> {
    let numbered = features.into_iter().enumerate().map(|(number, (place, levels))| (place, (number, levels)));
    let parts = by_tensor(numbered.collect()).into_iter().map(|(places, features)| {
        let numbers = places.iter().zip(features).map(|(place, (number, levels))| Numbers { column: place.column, levels, number });
        part(&places, Kind::Numbers(numbers.collect()))
    });
    parts.collect()
}

fn text_part((places, features): (Vec<Place>, Vec<Vec<Vec<u8>>>)) -> Part {
    let mut columns: Vec<Option<Texts>> = (0..places[0].width).map(|_| None).collect();
    for (place, values) in places.iter().zip(features) {
        columns[place.column] = Some(Texts::new(values, place.start));
    }
    part(&places, Kind::Texts(columns))
}

/// Features of the same tensor together.
fn by_tensor<T>(features: Vec<(Place, T)>) -> Vec<(Vec<Place>, Vec<T>)> {
    let mut tensors: BTreeMap<usize, (Vec<Place>, Vec<T>)> = BTreeMap::new();
    for (place, feature) in features {
        let (places, together) = tensors.entry(place.tensor).or_default();
        places.push(place);
        together.push(feature);
    }
    tensors.into_values().collect()
}

fn part(places: &[Place], kind: Kind) -> Part {
    Part { features: places.iter().map(|place| place.feature).collect(), tensor: places[0].tensor, width: places[0].width, kind }
}

/// The runs of rows that are counted, each with the number of its arm, and the rows of all.
fn runs(requests: impl Iterator<Item = (Arm, usize)>) -> (Vec<(usize, Run)>, usize) {
    let (mut runs, mut start): (Vec<(usize, Run)>, usize) = (Vec::new(), 0);
    for (arm, rows) in requests {
        if let Some(arm) = ARMS.iter().position(|counted| *counted == arm) {
            match runs.last_mut() {
                Some((last, run)) if *last == arm && run.start + run.rows == start => run.rows += rows,
                _ => runs.push((arm, Run { start, rows })),
            }
        }
        start += rows;
    }
    (runs, start)
}

/// Datatype, shape and raw bytes of a tensor.
type PlainTensor = (String, Vec<usize>, Vec<u8>);

/// What Python makes, gives to the version whose batches are to be counted, and reads.
#[pyclass(frozen)]
pub struct DriftCounting {
    pub counting: Arc<Counting>,
}

#[pymethods]
impl DriftCounting {
    #[new]
    fn new(features: Features) -> Self {
        DriftCounting { counting: Arc::new(features.counting()) }
    }

    /// Count the rows of tensors that came another way than through a transport: all inputs and outputs, and arm and rows of each request.
    fn count(&self, inputs: Vec<PlainTensor>, outputs: Vec<PlainTensor>, requests: Vec<(String, usize)>) -> PyResult<()> {
        let requests = requests.into_iter().map(|(name, rows)| {
            let arm = Arm::ALL.into_iter().find(|arm| arm.name() == name);
            arm.map(|arm| (arm, rows)).ok_or_else(|| PyValueError::new_err(format!("no arm {name}")))
        });
        let requests: Vec<(Arm, usize)> = requests.collect::<PyResult<_>>()?;
        let computed: Vec<usize> = (0..outputs.len()).collect();
        self.counting.count(&tensors(inputs)?, &computed, &tensors(outputs)?, requests.into_iter());
        Ok(())
    }

    /// Rows and bins of the arms stable, canary and shadow so far, and the numbers of features of which not all rows are counted.
    fn counts(&self) -> (Vec<(u64, Vec<u64>)>, Vec<usize>) {
        self.counting.counted()
    }
}

fn tensors(plain: Vec<PlainTensor>) -> PyResult<Vec<Tensor>> {
    let tensor = |(datatype, shape, bytes): PlainTensor| {
        let datatype = Datatype::named(datatype.as_bytes()).ok_or_else(|| PyValueError::new_err(format!("no datatype {datatype}")))?;
        Ok(Tensor::new(datatype, shape, Bytes::from(bytes)))
    };
    plain.into_iter().map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const NO_FEATURES: Features =
        Features { number: 0, bins: 0, numbers: Vec::new(), texts: Vec::new(), written: Vec::new(), classes: Vec::new() };

    fn place(feature: usize, tensor: usize, column: usize, width: usize, start: usize) -> Place {
        Place { feature, tensor, column, width, start }
    }

    fn singles(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::new(Datatype::Fp32, shape.to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn texts(width: usize, values: &[&str]) -> Tensor {
        let bytes = values.iter().flat_map(|value| (value.len() as u32).to_le_bytes().into_iter().chain(value.bytes()));
        Tensor::new(Datatype::Bytes, vec![values.len() / width, width], bytes.collect())
    }

    /// Two numbers in a tensor, two texts in another, score and class in an output of which the model gives another one first.
    fn counting() -> Counting {
        let numbers = vec![(place(0, 0, 1, 2, 0), vec![1.0, 2.0]), (place(2, 3, 1, 2, 8), vec![0.5])];
        let texts = vec![(place(1, 1, 1, 2, 4), vec![b"a".to_vec(), b"bb".to_vec()])];
        let classes = vec![(place(3, 3, 0, 2, 11), vec![11, 12], 13)];
        Features { number: 4, bins: 14, numbers, texts, classes, ..NO_FEATURES }.counting()
    }

    fn inputs(rows: usize) -> Vec<Tensor> {
        let numbers: Vec<f32> = (0..rows).flat_map(|row| [f32::NAN, row as f32]).collect();
        let values: Vec<&str> = (0..rows).flat_map(|row| ["x", ["a", "bb", "", "other"][row % 4]]).collect();
        vec![singles(&[rows, 2], &numbers), texts(2, &values)]
    }

    fn probabilities(rows: usize) -> Vec<Tensor> {
        let table: Vec<f32> = (0..rows).flat_map(|row| [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [f32::NAN, 1.0]][row % 4]).collect();
        vec![singles(&[rows, 2], &table)]
    }

    #[test]
    fn rows_are_counted_for_the_arm_of_their_request_and_those_of_callers_who_named_a_version_are_not() {
        let counting = counting();
        let requests = [(Arm::Stable, 1), (Arm::Direct, 2), (Arm::Stable, 1), (Arm::Canary, 1), (Arm::Canary, 2), (Arm::Shadow, 1)];
        counting.count(&inputs(8), &[1], &probabilities(8), requests.into_iter());
        let (tallies, lost) = counting.counted();
        let stable = vec![1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1];
        let canary = vec![0, 0, 3, 0, 1, 1, 0, 1, 2, 1, 0, 2, 1, 0];
        let shadow = vec![0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(tallies, [(2, stable), (3, canary), (1, shadow)]);
        assert!(lost.is_empty());
    }

    #[test]
    fn tensor_of_another_shape_or_none_at_all_loses_its_features_alone() {
        for outputs in [vec![singles(&[2, 3], &[0.0; 6])], vec![singles(&[1, 2], &[0.0; 2])], vec![texts(2, &["a"; 4])], vec![]] {
            let counting = counting();
            counting.count(&inputs(2), &[1], &outputs, [(Arm::Stable, 2)].into_iter());
            let (tallies, lost) = counting.counted();
            assert_eq!(lost, [2, 3]);
            assert_eq!((tallies[0].0, tallies[0].1.iter().sum::<u64>()), (2, 4));
        }
    }

    #[test]
    fn what_is_nobodys_traffic_loses_nothing() {
        let counting = counting();
        counting.count(&inputs(2), &[1], &[], [(Arm::Direct, 2)].into_iter());
        assert_eq!(counting.counted(), (vec![(0, vec![0; 14]); 3], vec![]));
    }

    #[test]
    fn counts_go_on_after_they_were_read() {
        let counting = counting();
        for turn in 1..4 {
            counting.count(&inputs(4), &[1], &probabilities(4), [(Arm::Stable, 4)].into_iter());
            assert_eq!(counting.counted().0[0].1, [2, 1, 1, 0, 1, 1, 1, 1, 2, 2, 0, 2, 1, 1].map(|bin| bin * turn));
        }
    }

    #[test]
    #[ignore = "figures to be read: cargo test --release -- --ignored --nocapture"]
    fn nanoseconds_a_row_of_20_features() {
        let edges: Vec<f32> = (0..19).map(|edge| edge as f32 / 10.0 - 1.0).collect();
        let categories: Vec<Vec<u8>> = (0..30).map(|number| format!("category {number}").into_bytes()).collect();
        let numbers = |width: usize| (0..width).map(|column| (place(column, 0, column, width, 21 * column), edges.clone())).collect();
        let kinds = (0..5).map(|column| (place(15 + column, 1, column, 5, 315 + 32 * column), categories.clone())).collect();
        let numeric = Features { number: 20, bins: 420, numbers: numbers(20), ..NO_FEATURES }.counting();
        let mixed = Features { number: 20, bins: 475, numbers: numbers(15), texts: kinds, ..NO_FEATURES }.counting();
        let mut random = 1_u32;
        let mut next = |most: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % most
        };
        for rows in [1, 16, 64, 1024] {
            let mut values =
                |width| singles(&[rows, width], &(0..width * rows).map(|_| next(4000) as f32 / 1e3 - 2.0).collect::<Vec<f32>>());
            let (twenty, fifteen) = (values(20), values(15));
            let chosen: Vec<String> = (0..5 * rows).map(|_| format!("category {}", next(32))).collect();
            let chosen = texts(5, &chosen.iter().map(String::as_str).collect::<Vec<&str>>());
            for (what, counting, batch) in [("numeric", &numeric, vec![twenty]), ("5 of them texts", &mixed, vec![fifteen, chosen])] {
                // The shortest of many short turns: whatever else runs here lengthens the others.
                let turn = || {
                    let begun = Instant::now();
                    counting.count(&batch, &[], &[], (0..rows).map(|_| (Arm::Stable, 1)));
                    begun.elapsed()
                };
                let shortest = (0..2000).map(|_| turn()).min().unwrap_or_default();
                eprintln!("{rows:5} rows a batch, {what}: {:.1} ns a row", shortest.as_secs_f64() * 1e9 / rows as f64);
            }
        }
    }
}
