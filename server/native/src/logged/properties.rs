//! What is told is what was answered: each chosen request once, with its own rows.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encoding::seeded;
use crate::sampling::Sampling;

/// How many rows each request of a batch has, how many values a row, and whether the second output was computed.
type Shape = (Vec<usize>, usize, bool);

const EVERYTHING: f64 = 1.0;

fn batches() -> impl Strategy<Value = Vec<Shape>> {
    vec((vec(1..5_usize, 1..12), 1..3_usize, any::<bool>()), 1..12)
}

/// Singles, and a text of as many letters as the row's number is modulo five: row after row, from the number `from` on.
fn tensors(from: usize, rows: usize, width: usize) -> [Tensor; 2] {
    let numbers = (from..from + rows).flat_map(|row| vec![row as f32; width].into_iter().flat_map(f32::to_le_bytes));
    let texts = (from..from + rows).flat_map(|row| {
        let text = letters(row);
        [(text.len() as u32).to_le_bytes().to_vec(), text].concat()
    });
    let singles = Tensor::new(Datatype::Fp32, vec![rows, width], numbers.collect::<Vec<u8>>().into());
    [singles, Tensor::new(Datatype::Bytes, vec![rows], texts.collect::<Vec<u8>>().into())]
}

fn letters(row: usize) -> Vec<u8> {
    vec![b'a' + (row % 7) as u8; row % 5]
}

/// A batch whose rows are numbered from `from` on, and its requests named by the number of their first.
fn batch(from: usize, (rows, width, both): &Shape) -> (Vec<(usize, Told)>, Batch) {
    let mut first = from;
    let requests = rows.iter().map(|rows| {
        let told = Told { id: first.to_string().into(), arm: Arm::Stable, since: Instant::now(), rows: *rows, start: first };
        first += rows;
        (told.start - from, told)
    });
    let requests = requests.collect();
    let inputs = tensors(from, first - from, *width);
    let mut outputs = inputs.clone().to_vec();
    outputs.truncate(if *both { 2 } else { 1 });
    (requests, Batch { inputs: inputs.into(), computed: (0..outputs.len()).collect(), outputs })
}

/// The whole batch.
fn all(requests: Vec<(usize, Told)>) -> Chosen {
    Chosen { of: requests.len(), requests }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn chosen_requests_are_told_once_and_with_their_own_rows(shapes in batches(), share in prop_oneof![0.0..=1.0, Just(EVERYTHING)]) {
        let (mut untold, mut from, mut expected) = (Untold::default(), 0, Vec::new());
        let sampling = Sampling::new(share);
        for shape in &shapes {
            let (mut requests, batch) = batch(from, shape);
            from += shape.0.iter().sum::<usize>();
            let outputs = batch.outputs.len();
            let of = requests.len();
            requests.retain(|(_, request)| sampling.has(&request.id));
            expected.extend(requests.iter().map(|(_, request)| (request.start, request.rows, shape.1, outputs)));
            untold.add(Chosen { requests, of }, batch);
        }
        prop_assert_eq!(untold.rows, expected.iter().map(|request| request.1).sum::<usize>());
        prop_assert_eq!(untold.due().is_some(), !expected.is_empty());

        let mut found = Vec::new();
        for batch in untold.take() {
            let (mut row, width) = (0, batch.inputs[0].shape[1]);
            let parts: Vec<Vec<Rows>> = [&batch.inputs, &batch.outputs].map(|all| all.iter().cloned().map(Rows::of).collect()).into();
            prop_assert_eq!(&batch.computed, &(0..batch.outputs.len()).collect::<Vec<_>>());
            for request in &batch.requests {
                let own = tensors(request.start, request.rows, width);
                for (rows, own) in parts.iter().flat_map(|side| side.iter().zip(&own)) {
                    prop_assert_eq!(rows.bytes(row, row + request.rows), own.data());
                }
                row += request.rows;
                found.push((request.start, request.rows, width, batch.outputs.len()));
            }
            for tensor in batch.inputs.iter().chain(&batch.outputs) {
                prop_assert_eq!(tensor.shape[0], row);
            }
        }
        found.sort_unstable();
        prop_assert_eq!(found, expected);
        prop_assert!(untold.due().is_none() && untold.take().is_empty());
    }
}

#[test]
fn what_is_logged_whole_is_not_copied() {
    let mut untold = Untold::default();
    let (requests, batch) = batch(0, &(vec![2, 3], 2, true));
    let places: Vec<*const u8> = batch.inputs.iter().map(|tensor| tensor.data().as_ptr()).collect();
    untold.add(all(requests), batch);
    let told = untold.take();
    assert_eq!(told[0].inputs.iter().map(|tensor| tensor.data().as_ptr()).collect::<Vec<_>>(), places);
}

#[test]
fn a_tensor_of_one_request_is_told_as_it_is() {
    let told = Told { id: "a".into(), arm: Arm::Direct, since: Instant::now(), rows: 1, start: 0 };
    let number = || Tensor::new(Datatype::Fp32, Vec::new(), vec![0; 4].into());
    let mut untold = Untold::default();
    untold.add(all(vec![(0, told)]), Batch { inputs: vec![number()], computed: vec![0], outputs: vec![number()] });
    assert_eq!(untold.take()[0].inputs[0].shape, Vec::<usize>::new());
}

#[test]
fn rows_that_are_enough_wait_no_longer() {
    let mut untold = Untold::default();
    let (requests, first) = batch(0, &(vec![1], 1, false));
    untold.add(all(requests), first);
    assert!(untold.due().is_some_and(|due| due > Instant::now()));
    let (requests, second) = batch(1, &(vec![ENOUGH_ROWS], 1, false));
    untold.add(all(requests), second);
    assert!(untold.due().is_some_and(|due| due <= Instant::now()));
}
