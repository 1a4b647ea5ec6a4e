//! Reads a `ModelInferRequest`. What is refused here is not explained here: the reference decoder says why.

use bytes::{BufMut, Bytes, BytesMut};

use crate::tensors::{Datatype, count_texts};
use crate::wire::{self, Malformed, Value};

/// The parameter by which a caller asks for the timing of its answer, and that carries it.
pub const TIMING: &[u8] = b"tidegate_timing";
const ROUTING_KEY: &[u8] = b"tidegate_routing_key";
const MAX_DIMENSIONS: usize = 32;
/// Most that the other sizes of a tensor may be, multiplied, where one is zero: its rows are work, and take no bytes to ask for.
const MAX_EMPTY: usize = 1 << 16;
/// Bounds of a request that the reference has, since there each is an object: fields, and bytes of typed numbers.
const MAX_FIELDS: usize = 1 << 18;
const MAX_PACKED_BYTES: usize = 4 << 20;
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

/// What a caller asked for besides its answer: see `server/grpcio_transport/parameters.py`. `timeout` is in microseconds, 0 for none.
#[derive(Debug, Default)]
pub struct Parameters {
    pub priority: u64,
    pub timeout: u64,
    pub routing_key: Bytes,
    pub timing: bool,
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

/// Read a `ModelInferRequest`; `Malformed` if the reference would refuse it, or has to read it.
pub fn decode(mut message: Bytes) -> Result<Request, Malformed> {
    let mut request = Request { size: message.len(), ..Request::default() };
    let mut fields = 0;
    let mut tensors = Vec::new();
    let mut contents = Vec::new();
    while let Some((number, value)) = wire::field(&mut message)? {
        fields += 1;
        match number {
            1 => request.model = value.text()?,
            2 => request.label = value.text()?,
            3 => request.id = value.text()?,
            4 => read_parameter(value.bytes()?, &mut request.parameters)?,
            5 => tensors.push(read_tensor(value.bytes()?)?),
            6 => request.outputs.push(read_output(value.bytes()?)?),
            7 => contents.push(value.bytes()?),
            _ => {}
        }
    }
    request.raw = !contents.is_empty();
    if request.raw && contents.len() != tensors.len() {
        return Err(Malformed);
    }
    let mut contents = contents.into_iter();
    for tensor in tensors {
        let input = tensor.input(contents.next())?;
        if input.datatype == Datatype::Bytes {
            let texts: usize = input.shape.iter().product();
            fields += if request.raw { 0 } else { texts };
            request.size += texts * TEXT_BYTES;
        }
        if request.inputs.iter().any(|other| other.name == input.name) {
            return Err(Malformed);
        }
        request.inputs.push(input);
    }
    if fields > MAX_FIELDS {
        return Err(Malformed);
    }
    if (1..request.outputs.len()).any(|place| request.outputs[..place].contains(&request.outputs[place])) {
        return Err(Malformed);
    }
    Ok(request)
}

/// A tensor of a request before its elements are read.
#[derive(Default)]
struct Head {
    name: Bytes,
    datatype: Bytes,
    shape: Vec<usize>,
    contents: Option<Bytes>,
}

impl Head {
    fn input(self, raw: Option<Bytes>) -> Result<Input, Malformed> {
        let datatype = Datatype::named(&self.datatype).ok_or(Malformed)?;
        let count = elements(&self.shape)?;
        let data = match (raw, self.contents) {
            (Some(_), Some(_)) => return Err(Malformed),
            (Some(data), None) => data,
            (None, contents) => read_typed(datatype, contents.unwrap_or_default())?,
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
    while let Some((number, value)) = wire::field(&mut message)? {
        match (number, value) {
            (1, value) => head.name = value.text()?,
            (2, value) => head.datatype = value.text()?,
            (3, Value::Varint(size)) => head.shape.push(dimension(size)?),
            (3, value) => {
                let mut sizes = value.bytes()?;
                while !sizes.is_empty() {
                    head.shape.push(dimension(wire::varint(&mut sizes)?)?);
                    if head.shape.len() > MAX_DIMENSIONS {
                        return Err(Malformed);
                    }
                }
            }
            (4, value) => check_entry(value.bytes()?)?,
            (5, value) if head.contents.is_none() => head.contents = Some(value.bytes()?),
            (5, _) => return Err(Malformed),
            _ => {}
        }
    }
    if head.shape.len() > MAX_DIMENSIONS { Err(Malformed) } else { Ok(head) }
}

fn dimension(size: u64) -> Result<usize, Malformed> {
    i64::try_from(size).map_err(|_| Malformed).and_then(|size| usize::try_from(size).map_err(|_| Malformed))
}

fn read_output(mut message: Bytes) -> Result<Bytes, Malformed> {
    let mut name = Bytes::new();
    while let Some((number, value)) = wire::field(&mut message)? {
        match number {
            1 => name = value.text()?,
            2 => check_entry(value.bytes()?)?,
            _ => {}
        }
    }
    Ok(name)
}

/// An entry of a map of parameters: its key, and number and value of the choice that is set.
fn read_entry(mut message: Bytes) -> Result<(Bytes, Option<(u32, Value)>), Malformed> {
    let (mut key, mut choice) = (Bytes::new(), None);
    while let Some((number, value)) = wire::field(&mut message)? {
        match number {
            1 => key = value.text()?,
            2 => {
                let mut parameter = value.bytes()?;
                while let Some((number, value)) = wire::field(&mut parameter)? {
                    if (1..=5).contains(&number) {
                        choice = Some((number, if number == 3 { Value::Bytes(value.text()?) } else { value }));
                    }
                }
            }
            _ => {}
        }
    }
    Ok((key, choice))
}

fn check_entry(message: Bytes) -> Result<(), Malformed> {
    read_entry(message).map(|_| ())
}

fn read_parameter(message: Bytes, parameters: &mut Parameters) -> Result<(), Malformed> {
    let (key, choice) = read_entry(message)?;
    match (&key[..], choice) {
        (b"priority", choice) => parameters.priority = whole(choice)?,
        (b"timeout", choice) => parameters.timeout = whole(choice)?,
        (ROUTING_KEY, Some((3, value))) => parameters.routing_key = value.text()?,
        (TIMING, Some((1, value))) => parameters.timing = value.varint()? != 0,
        (key, _) if key.starts_with(b"tidegate_") => return Err(Malformed),
        _ => {}
    }
    Ok(())
}

fn whole(choice: Option<(u32, Value)>) -> Result<u64, Malformed> {
    match choice {
        Some((2, value)) => i64::try_from(value.varint()?).ok().and_then(|number| u64::try_from(number).ok()).ok_or(Malformed),
        Some((5, value)) => value.varint(),
        _ => Err(Malformed),
    }
}

/// The elements of `InferTensorContents` in their raw form. Elements may come one by one, or packed, in any number of fields.
fn read_typed(datatype: Datatype, mut contents: Bytes) -> Result<Bytes, Malformed> {
    if datatype != Datatype::Bytes && contents.len() > MAX_PACKED_BYTES {
        return Err(Malformed);
    }
    let mut data = BytesMut::new();
    let mut whole: Option<Bytes> = None;
    while let Some((number, value)) = wire::field(&mut contents)? {
        if number > 8 {
            continue;
        }
        if number != datatype.contents_field() {
            return Err(Malformed);
        }
        match value {
            Value::Bytes(text) if datatype == Datatype::Bytes => {
                data.put_u32_le(u32::try_from(text.len()).map_err(|_| Malformed)?);
                data.put_slice(&text);
            }
            // Packed numbers of fixed size are what raw contents are: most callers send all in one field, which is not copied.
            Value::Bytes(packed) if matches!(datatype, Datatype::Fp32 | Datatype::Fp64) => {
                if whole.is_none() && data.is_empty() {
                    whole = Some(packed);
                } else {
                    data.put_slice(&whole.take().unwrap_or_default());
                    data.put_slice(&packed);
                }
            }
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    put_number(&mut data, datatype, wire::varint(&mut packed)?)?;
                }
            }
            Value::Varint(number) => put_number(&mut data, datatype, number)?,
            Value::Fixed32(number) if datatype == Datatype::Fp32 => put_after(&mut data, &mut whole, &number.to_le_bytes()),
            Value::Fixed64(number) if datatype == Datatype::Fp64 => put_after(&mut data, &mut whole, &number.to_le_bytes()),
            _ => return Err(Malformed),
        }
    }
    Ok(whole.unwrap_or_else(|| data.freeze()))
}

fn put_after(data: &mut BytesMut, whole: &mut Option<Bytes>, bytes: &[u8]) {
    data.put_slice(&whole.take().unwrap_or_default());
    data.put_slice(bytes);
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
