//! What the requests and answers of one version look like: a request is held to the signature, an answer is written by it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::parameters::TIMING;
use crate::requests::{Input, Request};
use crate::tensors::{Datatype, Tensor, texts};
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
}

/// A request that fits: its inputs in the order of the signature, its rows, and the places of the outputs it wants and of those to compute.
#[derive(Debug)]
pub struct Fitted {
    pub inputs: Vec<Input>,
    pub rows: usize,
    pub wanted: Vec<usize>,
    pub computed: Vec<usize>,
}

impl Form {
    pub fn new(model: &str, version: &str, inputs: Vec<Spec>, outputs: Vec<Spec>, batchable: bool, always: Vec<String>) -> Self {
        let mut start = BytesMut::new();
        wire::put_bytes(&mut start, 1, model.as_bytes());
        wire::put_bytes(&mut start, 2, version.as_bytes());
        Form { inputs, outputs, batchable, always, start: start.freeze() }
    }

    pub fn outputs(&self) -> &[Spec] {
        &self.outputs
    }

    /// The request as this version takes it, `Malformed` if it does not fit.
    pub fn fit(&self, request: &mut Request) -> Result<Fitted, Malformed> {
        if request.inputs.len() != self.inputs.len() {
            return Err(Malformed);
        }
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for spec in &self.inputs {
            let place = request.inputs.iter().position(|input| input.name == spec.name.as_bytes()).ok_or(Malformed)?;
            let input = request.inputs.swap_remove(place);
            if !spec.accepts(&input) {
                return Err(Malformed);
            }
            inputs.push(input);
        }
        let rows = if self.batchable { common_rows(&inputs)? } else { 1 };
        let wanted = self.wanted(&request.outputs)?;
        let mut computed = wanted.clone();
        for (place, spec) in self.outputs.iter().enumerate() {
            if !wanted.contains(&place) && self.always.contains(&spec.name) {
                computed.push(place);
            }
        }
        Ok(Fitted { inputs, rows, wanted, computed })
    }

    fn wanted(&self, names: &[Bytes]) -> Result<Vec<usize>, Malformed> {
        if names.is_empty() {
            return Ok((0..self.outputs.len()).collect());
        }
        names.iter().map(|name| self.outputs.iter().position(|spec| spec.name.as_bytes() == name).ok_or(Malformed)).collect()
    }

    /// The `ModelInferResponse`: raw if the request was (or an output is FP16, which has no typed form), else typed.
    ///
    /// `parts` are the tensors of each run the request was in, in the order of `computed`; `timing` is a parameter, if it was asked for.
    pub fn encode(&self, id: &[u8], raw: bool, wanted: &[usize], parts: &[Vec<Tensor>], timing: Option<&str>) -> Bytes {
        let raw = raw || wanted.iter().any(|place| self.outputs[*place].datatype == Datatype::Fp16);
        let size: usize = parts.iter().flatten().map(|tensor| tensor.data().len()).sum();
        let mut answer = BytesMut::with_capacity(self.start.len() + id.len() + size + 64 * (1 + wanted.len()));
        answer.put_slice(&self.start);
        wire::put_bytes(&mut answer, ID, id);
        if let Some(timing) = timing {
            put_timing(&mut answer, timing);
        }
        for (order, place) in wanted.iter().enumerate() {
            let output = self.output(*place, parts.iter().map(|part| &part[order]), raw);
            wire::put_bytes(&mut answer, OUTPUTS, &output);
        }
        if raw {
            for order in 0..wanted.len() {
                wire::put_head(&mut answer, RAW, parts.iter().map(|part| part[order].data().len()).sum());
                for part in parts {
                    answer.put_slice(part[order].data());
                }
            }
        }
        answer.freeze()
    }

    fn output<'a>(&self, place: usize, parts: impl Iterator<Item = &'a Tensor> + Clone, raw: bool) -> BytesMut {
        let spec = &self.outputs[place];
        let mut output = BytesMut::new();
        wire::put_bytes(&mut output, 1, spec.name.as_bytes());
        wire::put_bytes(&mut output, 2, spec.datatype.name().as_bytes());
        let mut sizes = BytesMut::new();
        let mut shape = parts.clone().next().map(|tensor| tensor.shape.clone()).unwrap_or_default();
        if let Some(first) = shape.first_mut() {
            *first = parts.clone().map(|tensor| tensor.shape[0]).sum();
        }
        for size in shape {
            wire::put_varint(&mut sizes, size as u64);
        }
        if !sizes.is_empty() {
            wire::put_bytes(&mut output, 3, &sizes);
        }
        if !raw {
            let mut contents = BytesMut::new();
            put_typed(&mut contents, spec.datatype, parts);
            wire::put_bytes(&mut output, 5, &contents);
        }
        output
    }
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

fn put_typed<'a>(contents: &mut BytesMut, datatype: Datatype, parts: impl Iterator<Item = &'a Tensor>) {
    let field = datatype.contents_field();
    let mut packed = BytesMut::new();
    for part in parts {
        let data = part.data();
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
