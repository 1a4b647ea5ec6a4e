//! What holds for any bytes, and for any request that is written in any way the protocol allows.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encoding::{Sample, field, sample, seeded, tag, varint};

#[derive(Clone, Debug)]
struct Written {
    texts: [String; 3],
    samples: Vec<Sample>,
    outputs: usize,
    parameters: [Option<u64>; 4],
    raw: bool,
}

fn written() -> impl Strategy<Value = Written> {
    let samples = (0..4_usize).prop_flat_map(|count| (0..count).map(|place| sample(format!("in{place}"))).collect::<Vec<_>>());
    let parameters = proptest::array::uniform4(proptest::option::of(0..u64::MAX >> 1));
    (proptest::array::uniform3("\\PC{0,4}"), samples, 0..20_usize, parameters, any::<bool>()).prop_map(
        |(texts, samples, outputs, parameters, raw)| {
            let only_raw = samples.iter().any(|sample| sample.datatype == Datatype::Fp16);
            Written { texts, raw: !samples.is_empty() && (raw || only_raw), samples, outputs, parameters }
        },
    )
}

/// How a request is written: `order` mixes its fields, `apart` says which numbers are not packed, `unknown` are fields put in between.
#[derive(Clone, Debug)]
struct Manner {
    order: Vec<usize>,
    apart: Vec<bool>,
    unknown: bool,
}

fn manner() -> impl Strategy<Value = Manner> {
    (vec(any::<usize>(), 40), vec(any::<bool>(), 40), any::<bool>()).prop_map(|(order, apart, unknown)| Manner { order, apart, unknown })
}

impl Manner {
    /// The fields mixed, those that have a number in common in their order.
    fn mixed(&self, fields: Vec<Vec<u8>>) -> Vec<u8> {
        let mut places: Vec<usize> = (0..fields.len()).collect();
        places.sort_by_key(|place| self.order[place % self.order.len()]);
        let mut numbers: Vec<u8> = places.iter().map(|place| fields[*place][0]).collect();
        let mut message = Vec::new();
        let mut fields: Vec<Option<Vec<u8>>> = fields.into_iter().map(Some).collect();
        for number in numbers.drain(..) {
            let next = fields.iter_mut().find(|field| field.as_ref().is_some_and(|field| field[0] == number));
            message.extend(next.and_then(Option::take).unwrap_or_default());
            if self.unknown {
                message.extend([tag(99, 3), tag(1, 0), varint(7), tag(99, 4), tag(2, 5), vec![0; 4], field(100, b"?")].concat());
            }
        }
        message
    }

    fn tensor(&self, sample: &Sample, raw: bool) -> Vec<u8> {
        let mut fields = sample.head();
        if !raw {
            fields.push(field(5, &sample.typed(&self.apart)));
        }
        field(5, &self.mixed(fields))
    }
}

impl Written {
    fn bytes(&self, manner: &Manner) -> Vec<u8> {
        let mut fields: Vec<Vec<u8>> = (1..).zip(&self.texts).map(|(number, text)| field(number, text.as_bytes())).collect();
        fields.extend(self.samples.iter().map(|sample| manner.tensor(sample, self.raw)));
        fields.extend((0..self.outputs).map(|place| field(6, &field(1, format!("out{place}").as_bytes()))));
        if self.raw {
            fields.extend(self.samples.iter().map(|sample| field(7, &sample.raw())));
        }
        let [priority, timeout, key, timing] = self.parameters;
        let choices = [
            ("priority", priority.map(|number| [tag(2, 0), varint(number)].concat())),
            ("timeout", timeout.map(|number| [tag(5, 0), varint(number)].concat())),
            ("tidegate_routing_key", key.map(|number| field(3, number.to_string().as_bytes()))),
            ("tidegate_timing", timing.map(|number| [tag(1, 0), varint(number)].concat())),
        ];
        let set = choices.into_iter().filter_map(|(key, choice)| Some((key, choice?)));
        fields.extend(set.map(|(key, choice)| field(4, &[field(1, key.as_bytes()), field(2, &choice)].concat())));
        manner.mixed(fields)
    }
}

/// Change a few bytes: put one in the place of another, cut some out, or repeat them.
fn mutated(mut bytes: Vec<u8>, changes: &[(usize, u8, usize)]) -> Vec<u8> {
    for &(place, byte, length) in changes {
        if bytes.is_empty() {
            break;
        }
        let place = place % bytes.len();
        let end = (place + length % 8).min(bytes.len());
        match length / 8 {
            0 => bytes[place] = byte,
            1 => drop(bytes.drain(place..end)),
            _ => drop(bytes.splice(place..place, bytes[place..end].to_vec())),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn any_bytes_are_a_request_or_none(bytes: Vec<u8>) {
        let _ = decode(bytes.into());
    }

    #[test]
    fn a_changed_request_is_one_that_adds_up_or_none(
        request in written(), manner in manner(), changes in vec((any::<usize>(), any::<u8>(), 0..24_usize), 1..4)
    ) {
        let Ok(read) = decode(Bytes::from(mutated(request.bytes(&manner), &changes))) else { return Ok(()) };
        for input in read.inputs {
            let count: usize = input.shape.iter().product();
            let found = if input.datatype == Datatype::Bytes { count_texts(&input.data).unwrap() } else { input.data.len() / input.datatype.size() };
            prop_assert_eq!(found, count);
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written_in_any_manner(request in written(), manner in manner()) {
        let bytes = request.bytes(&manner);
        let read = decode(Bytes::from(bytes.clone())).unwrap();
        let texts: usize = request.samples.iter().filter(|sample| sample.datatype == Datatype::Bytes).map(|sample| sample.elements.len()).sum();
        prop_assert_eq!(read.size, bytes.len() + texts * TEXT_BYTES);
        prop_assert_eq!([&read.model[..], &read.label, &read.id], request.texts.each_ref().map(String::as_bytes));
        prop_assert_eq!(read.raw, request.raw);
        prop_assert_eq!(read.inputs.len(), request.samples.len());
        for (input, sample) in read.inputs.iter().zip(&request.samples) {
            prop_assert_eq!((&input.name[..], input.datatype, &input.shape), (sample.name.as_bytes(), sample.datatype, &sample.shape));
            prop_assert_eq!(&input.data[..], sample.raw());
        }
        prop_assert_eq!(read.outputs, (0..request.outputs).map(|place| Bytes::from(format!("out{place}"))).collect::<Vec<_>>());
        let [priority, timeout, key, timing] = request.parameters;
        let parameters = read.parameters;
        prop_assert_eq!((parameters.priority, parameters.timeout), (priority.unwrap_or(0), timeout.unwrap_or(0)));
        prop_assert_eq!(parameters.routing_key, key.map_or_else(String::new, |number| number.to_string()));
        prop_assert_eq!(parameters.timing, timing.is_some_and(|number| number != 0));
    }
}
