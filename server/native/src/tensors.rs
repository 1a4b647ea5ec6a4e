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

/// A tensor: of a batch, as an engine takes or gives it.
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

/// A tensor of a batch that several requests have rows of, or one all.
#[derive(Debug)]
pub struct Rows {
    tensor: Tensor,
    places: Places,
}

/// Where rows are.
#[derive(Debug)]
enum Places {
    /// Nobody asks: there is one request.
    Whole,
    /// All have so many bytes.
    Every(usize),
    /// Where each begins, and the end: texts have different sizes.
    Starts(Vec<usize>),
}

impl Rows {
    /// A tensor whose first size is its rows.
    pub fn of(tensor: Tensor) -> Self {
        let in_row: usize = tensor.shape.iter().skip(1).product();
        let places = if tensor.datatype == Datatype::Bytes {
            Places::Starts(starts(tensor.data(), tensor.shape.first().copied().unwrap_or(1), in_row))
        } else {
            Places::Every(in_row * tensor.datatype.size())
        };
        Rows { tensor, places }
    }

    /// A tensor that is one request's, whatever its shape.
    pub fn whole(tensor: Tensor) -> Self {
        Rows { tensor, places: Places::Whole }
    }

    /// The bytes of the rows `start` to `stop`, which have to be there.
    pub fn bytes(&self, start: usize, stop: usize) -> &[u8] {
        let data = self.tensor.data();
        match &self.places {
            Places::Whole => data,
            Places::Every(size) => &data[start * size..stop * size],
            Places::Starts(starts) => &data[starts[start]..starts[stop]],
        }
    }

    /// The sizes of the rows `start` to `stop`.
    pub fn shape(&self, start: usize, stop: usize) -> impl Iterator<Item = usize> + Clone + '_ {
        let rows = if matches!(self.places, Places::Whole) { None } else { Some(stop - start) };
        self.tensor.shape.iter().enumerate().map(move |(place, size)| if place == 0 { rows.unwrap_or(*size) } else { *size })
    }
}

/// The bytes of the rows `start` to `stop` of a tensor, which has to have them; a row has `in_row` elements.
pub fn rows(data: &[u8], datatype: Datatype, in_row: usize, start: usize, stop: usize) -> &[u8] {
    let size = datatype.size() * in_row;
    if datatype != Datatype::Bytes {
        return &data[start * size..stop * size];
    }
    let starts = starts(data, stop, in_row);
    &data[starts[start]..starts[stop]]
}

fn starts(data: &[u8], rows: usize, in_row: usize) -> Vec<usize> {
    let mut place = 0;
    let mut starts = Vec::with_capacity(rows + 1);
    starts.push(0);
    for _ in 0..rows {
        for _ in 0..in_row {
            place += 4 + length_at(data, place).unwrap_or(0);
        }
        starts.push(place);
    }
    starts
}

#[cfg(test)]
mod properties;
