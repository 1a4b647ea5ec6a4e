//! What holds for any bytes, and for any field.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encoding::{self, seeded};

fn any_field() -> impl Strategy<Value = (u32, u64, Vec<u8>)> {
    let value = prop_oneof![
        any::<u64>().prop_map(|number| (0, encoding::varint(number))),
        vec(any::<u8>(), 8).prop_map(|bytes| (1, bytes)),
        vec(any::<u8>(), 0..20).prop_map(|bytes| (2, [encoding::varint(bytes.len() as u64), bytes].concat())),
        vec(any::<u8>(), 4).prop_map(|bytes| (5, bytes)),
    ];
    (1_u32..1 << 29, value).prop_map(|(number, (kind, bytes))| (number, kind, bytes))
}

/// A field read again as its kind and the bytes behind its tag.
fn written(value: &Value) -> (u64, Vec<u8>) {
    match value {
        Value::Varint(number) => (0, encoding::varint(*number)),
        Value::Fixed64(number) => (1, number.to_le_bytes().to_vec()),
        Value::Bytes(bytes) => (2, [encoding::varint(bytes.len() as u64), bytes.to_vec()].concat()),
        Value::Fixed32(number) => (5, number.to_le_bytes().to_vec()),
        Value::Group => panic!("no group was written"),
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn any_bytes_are_read_to_their_end_or_refused(bytes: Vec<u8>) {
        let mut message = Bytes::from(bytes);
        let mut left = message.len();
        while let Ok(Some(_)) = field(&mut message, 0) {
            prop_assert!(message.len() < left);
            left = message.len();
        }
    }

    #[test]
    fn fields_are_read_as_they_were_written(fields in vec(any_field(), 0..8)) {
        let bytes: Vec<u8> = fields.iter().flat_map(|(number, kind, bytes)| [encoding::tag(*number, *kind), bytes.clone()].concat()).collect();
        let mut message = Bytes::from(bytes);
        for (number, kind, bytes) in fields {
            let (found, value) = field(&mut message, 0).unwrap().unwrap();
            prop_assert_eq!((found, written(&value)), (number, (kind, bytes)));
        }
        prop_assert!(field(&mut message, 0).unwrap().is_none());
    }

    #[test]
    fn a_group_is_passed_over_with_all_that_is_in_it(fields in vec(any_field(), 0..8), levels in 1..5_usize, depth in 0..98_usize) {
        let inner: Vec<u8> = fields.iter().flat_map(|(number, kind, bytes)| [encoding::tag(*number, *kind), bytes.clone()].concat()).collect();
        let bytes = [encoding::tag(9, 3).repeat(levels), inner, encoding::tag(9, 4).repeat(levels), encoding::varint(8), vec![7]].concat();
        let mut message = Bytes::from(bytes);
        let first = field(&mut message, depth);
        if depth + levels > 100 {
            prop_assert!(first.is_err());
        } else {
            prop_assert!(matches!(first, Ok(Some((9, Value::Group)))));
            prop_assert!(matches!(field(&mut message, depth), Ok(Some((1, Value::Varint(7))))));
        }
    }

    #[test]
    fn what_is_put_is_read(number in 1_u32..1 << 29, bytes: Vec<u8>) {
        let mut buffer = BytesMut::new();
        put_bytes(&mut buffer, number, &bytes);
        prop_assert_eq!(encoding::read(&buffer), [(number, bytes)]);
    }
}
