//! For tests: messages written and read byte by byte, by none of the functions that are tested; requests of any kind; how properties are tried.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::tensors::Datatype;

/// The same examples at each run, unless `PROPTEST_RNG_SEED` says others; `PROPTEST_CASES` says how many.
pub fn seeded() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let rng_seed = if asked.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { asked.rng_seed };
    ProptestConfig { rng_seed, failure_persistence: None, ..asked }
}

pub const DATATYPES: [Datatype; 13] = [
    Datatype::Bool,
    Datatype::Uint8,
    Datatype::Uint16,
    Datatype::Uint32,
    Datatype::Uint64,
    Datatype::Int8,
    Datatype::Int16,
    Datatype::Int32,
    Datatype::Int64,
    Datatype::Fp16,
    Datatype::Fp32,
    Datatype::Fp64,
    Datatype::Bytes,
];

pub fn varint(mut number: u64) -> Vec<u8> {
    let mut written = Vec::new();
    while number > 127 {
        written.push(number as u8 | 128);
        number >>= 7;
    }
    written.push(number as u8);
    written
}

pub fn tag(number: u32, kind: u64) -> Vec<u8> {
    varint(u64::from(number) << 3 | kind)
}

pub fn field(number: u32, data: &[u8]) -> Vec<u8> {
    [tag(number, 2), varint(data.len() as u64), data.to_vec()].concat()
}

/// The fields of bytes of a message that has no others.
pub fn read(mut message: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = read_varint(&mut message);
        assert_eq!(tag & 7, 2, "a field that is not of bytes");
        let length = read_varint(&mut message) as usize;
        let (data, rest) = message.split_at(length);
        fields.push(((tag >> 3) as u32, data.to_vec()));
        message = rest;
    }
    fields
}

pub fn read_varint(message: &mut &[u8]) -> u64 {
    let length = 1 + message.iter().position(|byte| byte & 128 == 0).expect("a varint that does not end");
    let (bytes, rest) = message.split_at(length);
    *message = rest;
    bytes.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 127))
}

/// A tensor of a request, its elements each by itself in their raw form, texts without their lengths.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<usize>,
    pub elements: Vec<Vec<u8>>,
}

impl Sample {
    pub fn raw(&self) -> Vec<u8> {
        let lengths = self.datatype == Datatype::Bytes;
        let head = |element: &Vec<u8>| if lengths { (element.len() as u32).to_le_bytes().to_vec() } else { Vec::new() };
        self.elements.iter().flat_map(|element| [head(element), element.clone()].concat()).collect()
    }

    /// `InferTensorContents`, its numbers in fields of their own wherever `apart` has a true at their place, else packed.
    pub fn typed(&self, apart: &[bool]) -> Vec<u8> {
        let number = self.datatype.contents_field();
        let (mut contents, mut packed) = (Vec::new(), Vec::new());
        for (place, element) in self.elements.iter().enumerate() {
            let kind = match self.datatype {
                Datatype::Bytes => 2,
                Datatype::Fp32 => 5,
                Datatype::Fp64 => 1,
                _ => 0,
            };
            let value = if kind == 0 { varint(self.number(element)) } else { element.clone() };
            if kind == 2 {
                contents.extend(field(number, element));
            } else if apart.get(place).copied().unwrap_or(false) {
                contents.extend(if packed.is_empty() { Vec::new() } else { field(number, &packed) });
                packed.clear();
                contents.extend([tag(number, kind), value].concat());
            } else {
                packed.extend(value);
            }
        }
        if !packed.is_empty() {
            contents.extend(field(number, &packed));
        }
        contents
    }

    fn number(&self, element: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        bytes[..element.len()].copy_from_slice(element);
        let (number, unused) = (u64::from_le_bytes(bytes), 64 - 8 * element.len());
        match self.datatype {
            Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64 => ((number << unused) as i64 >> unused) as u64,
            _ => number,
        }
    }

    /// The fields of `InferInputTensor` that go before its contents.
    pub fn head(&self) -> Vec<Vec<u8>> {
        let sizes: Vec<u8> = self.shape.iter().flat_map(|size| varint(*size as u64)).collect();
        vec![field(1, self.name.as_bytes()), field(2, self.datatype.name().as_bytes()), field(3, &sizes)]
    }
}

pub fn sample(name: String) -> impl Strategy<Value = Sample> {
    (proptest::sample::select(&DATATYPES[..]), vec(0..4_usize, 0..4)).prop_flat_map(move |(datatype, shape)| {
        let (name, count) = (name.clone(), shape.iter().product::<usize>());
        elements(datatype, count).prop_map(move |elements| Sample { name: name.clone(), datatype, shape: shape.clone(), elements })
    })
}

pub fn elements(datatype: Datatype, count: usize) -> BoxedStrategy<Vec<Vec<u8>>> {
    match datatype {
        Datatype::Bytes => vec(vec(any::<u8>(), 0..6), count).boxed(),
        Datatype::Bool => vec(vec(0..2_u8, 1), count).boxed(),
        _ => vec(vec(any::<u8>(), datatype.size()), count).boxed(),
    }
}
