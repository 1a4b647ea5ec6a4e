//! Reads a `ModelInferRequest`. What is refused here is not explained here: the reference decoder says why.

use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};

use crate::field_count;
use crate::parameters::{Given, Parameters, read_entry};
use crate::tensors::{Datatype, count_texts};
use crate::wire::{self, Malformed, Value};

const MAX_DIMENSIONS: usize = 32;
/// Most that the other sizes of a tensor may be, multiplied, where one is zero: its rows are work, and take no bytes to ask for.
const MAX_EMPTY: usize = 1 << 16;
/// So many names are compared each with each; more are put into a set, which takes longer for few.
const FEW: usize = 16;
/// Bytes that a text takes in memory beside its own: see `server/engine.py`.
const TEXT_BYTES: usize = 56;

/// A named tensor of a request.
#[derive(Debug)]
pub struct Input {
    pub name: Bytes,
    pub datatype: Datatype,
    pub shape: Vec<usize>,
    pub data: Bytes,
}

/// A decoded `ModelInferRequest`; `outputs` are the names asked for, none for all; `raw` says how the caller sent its tensors, `size`
/// about what it takes in memory.
#[derive(Debug, Default)]
pub struct Request {
    pub model: Bytes,
    pub label: Bytes,
    pub id: Bytes,
    pub parameters: Parameters,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Bytes>,
    pub raw: bool,
    pub size: usize,
}

/// Read a `ModelInferRequest`; `Malformed` if the reference would refuse it.
pub fn decode(mut message: Bytes) -> Result<Request, Malformed> {
    field_count::check(&message)?;
    let mut request = Request { size: message.len(), ..Request::default() };
    let mut given = Given::default();
    let mut tensors = Vec::new();
    let mut contents = Vec::new();
    while let Some(field) = wire::field(&mut message, 0)? {
        match field {
            (1, Value::Bytes(text)) => request.model = wire::text(text)?,
            (2, Value::Bytes(text)) => request.label = wire::text(text)?,
            (3, Value::Bytes(text)) => request.id = wire::text(text)?,
            (4, Value::Bytes(entry)) => given.add(read_entry(entry, 1)?)?,
            (5, Value::Bytes(tensor)) => tensors.push(read_tensor(tensor)?),
            (6, Value::Bytes(output)) => request.outputs.push(read_output(output)?),
            (7, Value::Bytes(data)) => contents.push(data),
            _ => {}
        }
    }
    request.parameters = given.parameters()?;
    request.raw = !contents.is_empty();
    if request.raw && contents.len() != tensors.len() {
        return Err(Malformed);
    }
    let mut contents = contents.into_iter();
    for tensor in tensors {
        let input = tensor.input(contents.next())?;
        if input.datatype == Datatype::Bytes {
            request.size += input.shape.iter().product::<usize>() * TEXT_BYTES;
        }
        request.inputs.push(input);
    }
    let names = request.inputs.iter().map(|input| &input.name);
    if has_twice(names) || has_twice(request.outputs.iter()) { Err(Malformed) } else { Ok(request) }
}

fn has_twice<'a>(names: impl ExactSizeIterator<Item = &'a Bytes> + Clone) -> bool {
    if names.len() > FEW {
        let mut seen = HashSet::with_capacity(names.len());
        return !names.into_iter().all(|name| seen.insert(name));
    }
    names.clone().enumerate().any(|(place, name)| names.clone().take(place).any(|other| other == name))
}

/// A tensor of a request before its elements are read. Its contents may come in parts.
#[derive(Default)]
struct Head {
    name: Bytes,
    datatype: Bytes,
    shape: Vec<usize>,
    contents: Option<Bytes>,
    more: Vec<Bytes>,
}

impl Head {
    fn input(self, raw: Option<Bytes>) -> Result<Input, Malformed> {
        let datatype = Datatype::named(&self.datatype).ok_or(Malformed)?;
        let count = elements(&self.shape)?;
        let data = match (raw, self.contents) {
            (Some(_), Some(_)) => return Err(Malformed),
            (Some(data), None) => data,
            (None, contents) => Typed::new(datatype)?.read(contents.into_iter().chain(self.more))?,
        };
        let fits =
            if datatype == Datatype::Bytes { count_texts(&data)? == count } else { count.checked_mul(datatype.size()) == Some(data.len()) };
        if !fits {
            return Err(Malformed);
        }
        Ok(Input { name: self.name, datatype, shape: self.shape, data })
    }
}

fn elements(shape: &[usize]) -> Result<usize, Malformed> {
    let sizes = shape.iter().filter(|size| **size > 0);
    let count = sizes.copied().try_fold(1, usize::checked_mul).ok_or(Malformed)?;
    match shape.contains(&0) {
        false => Ok(count),
        true if count <= MAX_EMPTY => Ok(0),
        true => Err(Malformed),
    }
}

fn read_tensor(mut message: Bytes) -> Result<Head, Malformed> {
    let mut head = Head::default();
    while let Some(field) = wire::field(&mut message, 1)? {
        match field {
            (1, Value::Bytes(text)) => head.name = wire::text(text)?,
            (2, Value::Bytes(text)) => head.datatype = wire::text(text)?,
            (3, Value::Varint(size)) => head.shape.push(dimension(size)?),
            (3, Value::Bytes(mut sizes)) => {
                while !sizes.is_empty() && head.shape.len() <= MAX_DIMENSIONS {
                    head.shape.push(dimension(wire::varint(&mut sizes)?)?);
                }
            }
            (4, Value::Bytes(entry)) => drop(read_entry(entry, 2)?),
            (5, Value::Bytes(contents)) if head.contents.is_none() => head.contents = Some(contents),
            (5, Value::Bytes(contents)) => head.more.push(contents),
            _ => {}
        }
        if head.shape.len() > MAX_DIMENSIONS {
            return Err(Malformed);
        }
    }
    Ok(head)
}

fn dimension(size: u64) -> Result<usize, Malformed> {
    i64::try_from(size).map_err(|_| Malformed).and_then(|size| usize::try_from(size).map_err(|_| Malformed))
}

fn read_output(mut message: Bytes) -> Result<Bytes, Malformed> {
    let mut name = Bytes::new();
    while let Some(field) = wire::field(&mut message, 1)? {
        match field {
            (1, Value::Bytes(text)) => name = wire::text(text)?,
            (2, Value::Bytes(entry)) => drop(read_entry(entry, 2)?),
            _ => {}
        }
    }
    Ok(name)
}

/// The elements of `InferTensorContents` in their raw form. Elements may come one by one, or packed, in any number of fields.
struct Typed {
    datatype: Datatype,
    data: BytesMut,
    /// All there is so far, where that is one field of packed numbers: most callers send all in one field, which is not copied.
    whole: Option<Bytes>,
}

impl Typed {
    fn new(datatype: Datatype) -> Result<Self, Malformed> {
        if datatype == Datatype::Fp16 { Err(Malformed) } else { Ok(Typed { datatype, data: BytesMut::new(), whole: None }) }
    }

    fn read(mut self, parts: impl Iterator<Item = Bytes>) -> Result<Bytes, Malformed> {
        for mut contents in parts {
            while let Some((number, value)) = wire::field(&mut contents, 2)? {
                if number == self.datatype.contents_field() {
                    self.put(value)?;
                } else if holds_an_element(number, &value) {
                    return Err(Malformed);
                }
            }
        }
        Ok(self.whole.unwrap_or_else(|| self.data.freeze()))
    }

    fn put(&mut self, value: Value) -> Result<(), Malformed> {
        match (self.datatype, value) {
            (Datatype::Bytes, Value::Bytes(text)) => {
                self.data.put_u32_le(u32::try_from(text.len()).map_err(|_| Malformed)?);
                self.data.put_slice(&text);
            }
            // Packed numbers of fixed size are what raw contents are.
            (Datatype::Fp32 | Datatype::Fp64, Value::Bytes(packed)) => {
                if packed.len() % self.datatype.size() != 0 {
                    return Err(Malformed);
                }
                if self.whole.is_none() && self.data.is_empty() {
                    self.whole = Some(packed);
                } else {
                    self.put_after(&packed);
                }
            }
            (Datatype::Fp32, Value::Fixed32(number)) => self.put_after(&number.to_le_bytes()),
            (Datatype::Fp64, Value::Fixed64(number)) => self.put_after(&number.to_le_bytes()),
            (Datatype::Bytes | Datatype::Fp32 | Datatype::Fp64, _) => {}
            (datatype, Value::Varint(number)) => put_number(&mut self.data, datatype, number)?,
            (datatype, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    put_number(&mut self.data, datatype, wire::varint(&mut packed)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn put_after(&mut self, bytes: &[u8]) {
        if let Some(whole) = self.whole.take() {
            self.data.put_slice(&whole);
        }
        self.data.put_slice(bytes);
    }
}

/// Whether a field of `InferTensorContents` adds an element to what it is a field of.
fn holds_an_element(number: u32, value: &Value) -> bool {
    match (number, value) {
        (1..=5, Value::Varint(_)) | (6, Value::Fixed32(_)) | (7, Value::Fixed64(_)) | (8, Value::Bytes(_)) => true,
        (1..=7, Value::Bytes(packed)) => !packed.is_empty(),
        _ => false,
    }
}

fn put_number(data: &mut BytesMut, datatype: Datatype, number: u64) -> Result<(), Malformed> {
    // What a varint of 32 bits holds is its low half, whatever stands above it.
    let (signed, unsigned) = (number as u32 as i32, number as u32);
    match datatype {
        Datatype::Bool => data.put_u8(u8::from(number != 0)),
        Datatype::Int8 => data.put_i8(i8::try_from(signed).map_err(|_| Malformed)?),
        Datatype::Int16 => data.put_i16_le(i16::try_from(signed).map_err(|_| Malformed)?),
        Datatype::Int32 => data.put_i32_le(signed),
        Datatype::Uint8 => data.put_u8(u8::try_from(unsigned).map_err(|_| Malformed)?),
        Datatype::Uint16 => data.put_u16_le(u16::try_from(unsigned).map_err(|_| Malformed)?),
        Datatype::Uint32 => data.put_u32_le(unsigned),
        Datatype::Int64 | Datatype::Uint64 => data.put_u64_le(number),
        _ => return Err(Malformed),
    }
    Ok(())
}

#[cfg(test)]
mod properties;
