//! Tensors as bytes: row-major, little-endian, texts behind their lengths, as `raw_input_contents` has them.

use bytes::Bytes;

use crate::wire::Malformed;

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bytes,
}

const NAMES: [(&str, Datatype, usize, u32); 13] = [
    ("BOOL", Datatype::Bool, 1, 1),
    ("UINT8", Datatype::Uint8, 1, 4),
    ("UINT16", Datatype::Uint16, 2, 4),
    ("UINT32", Datatype::Uint32, 4, 4),
    ("UINT64", Datatype::Uint64, 8, 5),
    ("INT8", Datatype::Int8, 1, 2),
    ("INT16", Datatype::Int16, 2, 2),
    ("INT32", Datatype::Int32, 4, 2),
    ("INT64", Datatype::Int64, 8, 3),
    ("FP16", Datatype::Fp16, 2, 0),
    ("FP32", Datatype::Fp32, 4, 6),
    ("FP64", Datatype::Fp64, 8, 7),
    ("BYTES", Datatype::Bytes, 0, 8),
];

impl Datatype {
    /// The datatype of this name.
    pub fn named(name: &[u8]) -> Option<Self> {
        NAMES.iter().find(|entry| entry.0.as_bytes() == name).map(|entry| entry.1)
    }

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].0
    }

    /// Bytes of an element; 0 for texts, whose sizes differ.
    pub fn size(self) -> usize {
        NAMES[self as usize].2
    }

    /// The field of `InferTensorContents` that carries it; 0 for FP16, which travels raw.
    pub fn contents_field(self) -> u32 {
        NAMES[self as usize].3
    }
}

/// How many texts there are, if their lengths add up.
pub fn count_texts(data: &Bytes) -> Result<usize, Malformed> {
    let (mut count, mut place) = (0, 0);
    while place < data.len() {
        place += 4 + length_at(data, place).ok_or(Malformed)?;
        count += 1;
    }
    if place == data.len() { Ok(count) } else { Err(Malformed) }
}

/// The length that stands at `place`.
pub fn length_at(data: &[u8], place: usize) -> Option<usize> {
    let bytes = data.get(place..place + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
}

/// The texts of a BYTES tensor whose lengths were checked.
pub fn texts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut place = 0;
    std::iter::from_fn(move || {
        let length = length_at(data, place)?;
        let start = place + 4;
        place = start + length;
        data.get(start..place)
    })
}

/// A tensor that an engine gave, or rows of it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub datatype: Datatype,
    pub shape: Vec<usize>,
    bytes: Bytes,
}

impl Tensor {
    pub fn new(datatype: Datatype, shape: Vec<usize>, bytes: Bytes) -> Self {
        Tensor { datatype, shape, bytes }
    }

    pub fn data(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes.
    pub fn into_data(self) -> Bytes {
        self.bytes
    }
}

/// Parts a tensor into the rows of several requests, one after the other, without a copy.
pub struct Rows {
    tensor: Tensor,
    place: usize,
}

impl Rows {
    pub fn new(tensor: Tensor) -> Self {
        Rows { tensor, place: 0 }
    }

    /// The next `rows` rows, which have to be there.
    pub fn next(&mut self, rows: usize) -> Tensor {
        let width: usize = self.tensor.shape[1..].iter().product();
        let start = self.place;
        if self.tensor.datatype == Datatype::Bytes {
            for _ in 0..rows * width {
                self.place += 4 + length_at(self.tensor.data(), self.place).unwrap_or(0);
            }
        } else {
            self.place += rows * width * self.tensor.datatype.size();
        }
        let mut shape = self.tensor.shape.clone();
        shape[0] = rows;
        Tensor::new(self.tensor.datatype, shape, self.tensor.bytes.slice(start..self.place))
    }
}

#[cfg(test)]
mod properties;
