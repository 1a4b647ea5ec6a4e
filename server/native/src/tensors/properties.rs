//! What holds for the rows and the texts of any tensor.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encoding::{Sample, elements, seeded};

/// A tensor of rows, and how many of them each of its requests has.
fn parted() -> impl Strategy<Value = (Sample, Vec<usize>)> {
    let datatype = proptest::sample::select(&crate::encoding::DATATYPES[..]);
    (datatype, vec(0..5_usize, 0..6), vec(0..4_usize, 0..3)).prop_flat_map(|(datatype, rows, sizes)| {
        let shape = [vec![rows.iter().sum()], sizes].concat();
        elements(datatype, shape.iter().product())
            .prop_map(move |elements| (Sample { name: String::new(), datatype, shape: shape.clone(), elements }, rows.clone()))
    })
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn rows_one_after_the_other_are_the_whole((sample, rows) in parted()) {
        let data = sample.raw();
        let parts = Rows::of(Tensor::new(sample.datatype, sample.shape.clone(), data.clone().into()));
        let (mut joined, mut start) = (Vec::new(), 0);
        let width: usize = sample.shape[1..].iter().product();
        for count in rows {
            let stop = start + count;
            let elements = sample.elements[start * width..stop * width].to_vec();
            let part = parts.bytes(start, stop);
            prop_assert_eq!(parts.shape(start, stop).collect::<Vec<_>>(), [&[count], &sample.shape[1..]].concat());
            prop_assert_eq!(part, Sample { elements, ..sample.clone() }.raw());
            prop_assert_eq!(part, super::rows(&data, sample.datatype, width, start, stop));
            joined.extend_from_slice(part);
            start = stop;
        }
        prop_assert_eq!(&joined, &data);
        let whole = Rows::whole(Tensor::new(sample.datatype, sample.shape.clone(), data.clone().into()));
        prop_assert_eq!((whole.bytes(0, 1), whole.shape(0, 1).collect::<Vec<_>>()), (&data[..], sample.shape));
    }

    #[test]
    fn texts_are_counted_and_found(elements in vec(vec(any::<u8>(), 0..10), 0..10)) {
        let sample = Sample { name: String::new(), datatype: Datatype::Bytes, shape: vec![elements.len()], elements: elements.clone() };
        let data = Bytes::from(sample.raw());
        prop_assert_eq!(count_texts(&data), Ok(elements.len()));
        prop_assert_eq!(texts(&data).map(<[u8]>::to_vec).collect::<Vec<_>>(), elements);
        for cut in 1..data.len() {
            if let Ok(count) = count_texts(&data.slice(..cut)) {
                prop_assert!(count < sample.elements.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_texts_or_none(data: Vec<u8>) {
        let data = Bytes::from(data);
        if let Ok(count) = count_texts(&data) {
            prop_assert_eq!(texts(&data).count(), count);
        }
    }
}
