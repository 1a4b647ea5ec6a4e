//! What holds for any answer: whoever reads it by the protocol finds what the engine gave.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encoding::{self, Sample, elements, read, read_varint, seeded};
use crate::tensors::{Rows, Tensor};

/// Outputs, each of the same rows, and how many rows each run gave of them.
fn computed() -> impl Strategy<Value = (Vec<Sample>, Vec<usize>)> {
    let kinds = vec((proptest::sample::select(&encoding::DATATYPES[..]), vec(0..3_usize, 0..3)), 1..4);
    (kinds, vec(0..4_usize, 1..4)).prop_flat_map(|(kinds, runs)| {
        let rows: usize = runs.iter().sum();
        let outputs: Vec<_> = (0..).zip(kinds).map(move |(place, (datatype, sizes))| output(place, datatype, rows, &sizes)).collect();
        (outputs, Just(runs))
    })
}

fn output(place: usize, datatype: Datatype, rows: usize, sizes: &[usize]) -> impl Strategy<Value = Sample> + use<> {
    let shape = [&[rows], sizes].concat();
    elements(datatype, shape.iter().product()).prop_map(move |elements| Sample {
        name: format!("out{place}"),
        datatype,
        shape: shape.clone(),
        elements,
    })
}

fn values(fields: &[(u32, Vec<u8>)], number: u32) -> impl Iterator<Item = &[u8]> {
    fields.iter().filter(move |field| field.0 == number).map(|field| &field.1[..])
}

fn sizes(mut packed: &[u8]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while !packed.is_empty() {
        sizes.push(read_varint(&mut packed) as usize);
    }
    sizes
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn an_answer_is_read_as_it_was_computed(
        (outputs, runs) in computed(), raw: bool, id in "\\PC{0,20}", timing in proptest::option::of("[a-z]{1,9}")
    ) {
        let spec = |output: &Sample| Spec { name: output.name.clone(), datatype: output.datatype, shape: vec![-1; output.shape.len()] };
        let form = Form::new("model", "7", Vec::new(), outputs.iter().map(spec).collect(), true, Vec::new());
        // In any order but that of the signature, as callers may ask.
        let wanted: Vec<usize> = (0..outputs.len()).rev().collect();
        let tensor = |output: &Sample| Tensor::new(output.datatype, output.shape.clone(), output.raw().into());
        let whole = Rc::new(wanted.iter().map(|place| Rows::of(tensor(&outputs[*place]))).collect::<Vec<_>>());
        let mut start = 0;
        let mut parts = Vec::new();
        for rows in &runs {
            parts.push(Part { outputs: whole.clone(), start, stop: start + rows });
            start += rows;
        }
        let mut answer = BytesMut::from(&b"before"[..]);
        form.encode(&mut answer, id.as_bytes(), raw, &wanted, &parts, timing.as_deref());
        let answer = answer.strip_prefix(b"before").unwrap();

        let fields = read(answer);
        prop_assert_eq!(values(&fields, 1).chain(values(&fields, 2)).chain(values(&fields, 3)).collect::<Vec<_>>(), [b"model", &b"7"[..], id.as_bytes()]);
        let told: Vec<_> = values(&fields, 4).map(read).map(|entry| (entry[0].1.clone(), read(&entry[1].1))).collect();
        prop_assert_eq!(told, timing.map(|text| (TIMING.to_vec(), vec![(3, text.into_bytes())])).into_iter().collect::<Vec<_>>());
        let raw = raw || outputs.iter().any(|output| output.datatype == Datatype::Fp16);
        prop_assert_eq!(values(&fields, 5).count(), wanted.len());
        prop_assert_eq!(values(&fields, 6).count(), if raw { wanted.len() } else { 0 });
        for ((described, place), data) in values(&fields, 5).zip(&wanted).zip(values(&fields, 6).map(Some).chain(std::iter::repeat(None))) {
            let (output, described) = (&outputs[*place], read(described));
            prop_assert_eq!(values(&described, 1).next(), Some(output.name.as_bytes()));
            prop_assert_eq!(values(&described, 2).next(), Some(output.datatype.name().as_bytes()));
            prop_assert_eq!(sizes(values(&described, 3).next().unwrap_or_default()), output.shape.clone());
            if let Some(data) = data {
                prop_assert_eq!(data, output.raw());
            } else {
                prop_assert_eq!(values(&described, 5).next().unwrap(), output.typed(&[]));
            }
        }
    }
}
