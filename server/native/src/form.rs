//! What the requests and answers of one version look like: a request is held to the signature, an answer is written by it.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::jobs::Part;
use crate::parameters::TIMING;
use crate::requests::{Input, Request};
use crate::tensors::{Datatype, texts};
use crate::wire::{self, Malformed};

/// Fields of an answer.
const ID: u32 = 3;
const PARAMETERS: u32 = 4;
const OUTPUTS: u32 = 5;
const RAW: u32 = 6;

/// What a signature says of a tensor; -1 accepts any size.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<i64>,
}

impl Spec {
    fn accepts(&self, input: &Input) -> bool {
        self.datatype == input.datatype
            && self.shape.len() == input.shape.len()
            && self.shape.iter().zip(&input.shape).all(|(want, got)| *want == -1 || usize::try_from(*want) == Ok(*got))
    }
}

/// What the requests and answers of one version look like. `always` are outputs to compute even for a caller that asks for others.
pub struct Form {
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    batchable: bool,
    always: Vec<String>,
    start: Bytes,
    /// Name and datatype of each output, as an answer has them.
    heads: Vec<Bytes>,
    /// The places of all outputs.
    all: Rc<[usize]>,
}

/// A request that fits: its inputs in the order of the signature, its rows, and the places of the outputs it wants and of those to compute.
#[derive(Debug)]
pub struct Fitted {
    pub inputs: Vec<Input>,
    pub rows: usize,
    pub wanted: Rc<[usize]>,
    pub computed: Rc<[usize]>,
}

impl Form {
    pub fn new(model: &str, version: &str, inputs: Vec<Spec>, outputs: Vec<Spec>, batchable: bool, always: Vec<String>) -> Self {
        let mut start = BytesMut::new();
        wire::put_bytes(&mut start, 1, model.as_bytes());
        wire::put_bytes(&mut start, 2, version.as_bytes());
        let (heads, all) = (outputs.iter().map(head).collect(), (0..outputs.len()).collect());
        Form { inputs, outputs, batchable, always, start: start.freeze(), heads, all }
    }

    pub fn inputs(&self) -> &[Spec] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Spec] {
        &self.outputs
    }

    /// The request as this version takes it, `Malformed` if it does not fit.
    pub fn fit(&self, request: &mut Request) -> Result<Fitted, Malformed> {
        if request.inputs.len() != self.inputs.len() {
            return Err(Malformed);
        }
        let mut inputs = std::mem::take(&mut request.inputs);
        for (place, spec) in self.inputs.iter().enumerate() {
            let found = inputs[place..].iter().position(|input| input.name == spec.name.as_bytes()).ok_or(Malformed)?;
            inputs.swap(place, place + found);
            if !spec.accepts(&inputs[place]) {
                return Err(Malformed);
            }
        }
        let rows = if self.batchable { common_rows(&inputs)? } else { 1 };
        let wanted = self.wanted(&request.outputs)?;
        let computed = self.computed(&wanted);
        Ok(Fitted { inputs, rows, wanted, computed })
    }

    fn wanted(&self, names: &[Bytes]) -> Result<Rc<[usize]>, Malformed> {
        if names.is_empty() {
            return Ok(self.all.clone());
        }
        names.iter().map(|name| self.outputs.iter().position(|spec| spec.name.as_bytes() == name).ok_or(Malformed)).collect()
    }

    fn computed(&self, wanted: &Rc<[usize]>) -> Rc<[usize]> {
        if wanted.len() == self.outputs.len() {
            return wanted.clone();
        }
        let always = self.outputs.iter().enumerate().filter(|(place, spec)| !wanted.contains(place) && self.always.contains(&spec.name));
        wanted.iter().copied().chain(always.map(|(place, _)| place)).collect()
    }

    /// What has to be alike for requests to share a batch: the sizes the signature leaves open, and the outputs, if they are not all.
    pub fn shape(&self, fitted: &Fitted) -> Vec<usize> {
        let tensors = self.inputs.iter().zip(&fitted.inputs);
        let open = tensors.flat_map(|(spec, input)| spec.shape.iter().zip(&input.shape).skip(1).filter(|(want, _)| **want == -1));
        let mut shape: Vec<usize> = open.map(|(_, size)| *size).collect();
        if fitted.wanted != self.all {
            shape.push(usize::MAX);
            shape.extend(fitted.wanted.iter());
        }
        shape
    }

    /// Append the `ModelInferResponse`: raw if the request was (or an output is FP16, which has no typed form), else typed.
    ///
    /// `parts` are its rows of each run the request was in, whose outputs are in the order of `computed`; `timing` is a parameter, if it was
    /// asked for.
    pub fn encode(&self, answer: &mut BytesMut, id: &[u8], raw: bool, wanted: &[usize], parts: &[Part], timing: Option<&str>) {
        let raw = raw || wanted.iter().any(|place| self.outputs[*place].datatype == Datatype::Fp16);
        let size: usize = (0..wanted.len()).map(|order| size_of(parts, order)).sum();
        answer.reserve(self.start.len() + id.len() + size + 64 * (1 + wanted.len()));
        answer.put_slice(&self.start);
        wire::put_bytes(answer, ID, id);
        if let Some(timing) = timing {
            put_timing(answer, timing);
        }
        for (order, place) in wanted.iter().enumerate() {
            self.put_output(answer, *place, parts, order, raw);
        }
        if raw {
            for order in 0..wanted.len() {
                wire::put_head(answer, RAW, size_of(parts, order));
                for part in parts {
                    answer.put_slice(part.bytes(order));
                }
            }
        }
    }

    fn put_output(&self, answer: &mut BytesMut, place: usize, parts: &[Part], order: usize, raw: bool) {
        let mut contents = BytesMut::new();
        if !raw {
            put_typed(&mut contents, self.outputs[place].datatype, parts.iter().map(|part| part.bytes(order)));
        }
        let head = &self.heads[place];
        let shape = shape(parts, order);
        let shape_size: usize = shape.clone().map(wire::varint_size).sum();
        let mut size = head.len();
        if shape_size > 0 {
            size += 1 + wire::varint_size(shape_size) + shape_size;
        }
        if !raw {
            size += 1 + wire::varint_size(contents.len()) + contents.len();
        }
        wire::put_head(answer, OUTPUTS, size);
        answer.put_slice(head);
        if shape_size > 0 {
            wire::put_head(answer, 3, shape_size);
            shape.for_each(|size| wire::put_varint(answer, size as u64));
        }
        if !raw {
            wire::put_bytes(answer, 5, &contents);
        }
    }
}

fn head(spec: &Spec) -> Bytes {
    let mut head = BytesMut::new();
    wire::put_bytes(&mut head, 1, spec.name.as_bytes());
    wire::put_bytes(&mut head, 2, spec.datatype.name().as_bytes());
    head.freeze()
}

fn size_of(parts: &[Part], order: usize) -> usize {
    parts.iter().map(|part| part.bytes(order).len()).sum()
}

/// The sizes of an output: its rows in all parts, and the others.
fn shape(parts: &[Part], order: usize) -> impl Iterator<Item = usize> + Clone + '_ {
    let rows: usize = parts.iter().filter_map(|part| part.shape(order).next()).sum();
    let first = parts.iter().take(1).flat_map(move |part| part.shape(order));
    first.enumerate().map(move |(place, size)| if place == 0 { rows } else { size })
}

fn common_rows(inputs: &[Input]) -> Result<usize, Malformed> {
    let rows = *inputs.first().and_then(|input| input.shape.first()).ok_or(Malformed)?;
    if rows == 0 || inputs.iter().any(|input| input.shape.first() != Some(&rows)) { Err(Malformed) } else { Ok(rows) }
}

fn put_timing(answer: &mut BytesMut, timing: &str) {
    let (mut parameter, mut entry) = (BytesMut::new(), BytesMut::new());
    wire::put_bytes(&mut parameter, 3, timing.as_bytes());
    wire::put_bytes(&mut entry, 1, TIMING);
    wire::put_bytes(&mut entry, 2, &parameter);
    wire::put_bytes(answer, PARAMETERS, &entry);
}

fn put_typed<'a>(contents: &mut BytesMut, datatype: Datatype, parts: impl Iterator<Item = &'a [u8]>) {
    let field = datatype.contents_field();
    let mut packed = BytesMut::new();
    for data in parts {
        match datatype {
            Datatype::Bytes => texts(data).for_each(|text| wire::put_bytes(contents, field, text)),
            Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => packed.put_slice(data),
            Datatype::Bool | Datatype::Uint8 => data.iter().for_each(|byte| wire::put_varint(&mut packed, u64::from(*byte))),
            Datatype::Int8 => data.iter().for_each(|byte| wire::put_varint(&mut packed, i64::from(*byte as i8) as u64)),
            Datatype::Uint16 => chunks(data).for_each(|bytes| wire::put_varint(&mut packed, u64::from(u16::from_le_bytes(bytes)))),
            Datatype::Int16 => chunks(data).for_each(|bytes| wire::put_varint(&mut packed, i64::from(i16::from_le_bytes(bytes)) as u64)),
            Datatype::Uint32 => chunks(data).for_each(|bytes| wire::put_varint(&mut packed, u64::from(u32::from_le_bytes(bytes)))),
            Datatype::Int32 => chunks(data).for_each(|bytes| wire::put_varint(&mut packed, i64::from(i32::from_le_bytes(bytes)) as u64)),
            Datatype::Uint64 | Datatype::Int64 => chunks(data).for_each(|bytes| wire::put_varint(&mut packed, u64::from_le_bytes(bytes))),
        }
    }
    if !packed.is_empty() {
        wire::put_bytes(contents, field, &packed);
    }
}

fn chunks<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod properties;
