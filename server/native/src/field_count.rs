//! How many fields and numbers a `ModelInferRequest` has, before it is read: what is made of each takes memory.
//!
//! The same bounds and the same count as `server/grpcio_transport/field_count.py`. Whether the bytes are a message is not judged here.

use bytes::Bytes;

use crate::wire::{self, Malformed, Value};

pub const MAX_FIELDS: usize = 1 << 18;
/// Of the numbers in typed contents and shapes.
const MAX_PACKED_BYTES: usize = 4 << 20;
/// A request of no more is read as it is: a field takes two bytes at least.
const SMALL_BYTES: usize = 2 * MAX_FIELDS;

#[derive(Default)]
struct Count {
    fields: usize,
    packed: usize,
}

/// What a field of bytes is.
enum Kind {
    /// A message that may have many fields.
    Nested,
    /// Numbers without end.
    Packed,
    Other,
}

impl Kind {
    /// By how many messages are around it, and its number.
    fn of(depth: usize, number: u32) -> Self {
        match (depth, number) {
            (0, 5 | 6) | (1, 5) => Kind::Nested,
            (1, 3) | (2, 1..=7) => Kind::Packed,
            _ => Kind::Other,
        }
    }
}

/// `Malformed` if a request has too many fields, those within its inputs and outputs counted as well, or too many numbers.
pub fn check(request: &Bytes) -> Result<(), Malformed> {
    if request.len() <= SMALL_BYTES { Ok(()) } else { Count::default().add(request.clone(), 0) }
}

impl Count {
    fn add(&mut self, mut message: Bytes, depth: usize) -> Result<(), Malformed> {
        let mut groups = 0_usize;
        while !message.is_empty() {
            let (number, kind) = wire::tag(&mut message)?;
            self.fields += 1;
            match kind {
                wire::GROUP => groups += 1,
                wire::GROUP_END => groups = groups.checked_sub(1).ok_or(Malformed)?,
                kind => {
                    if let Value::Bytes(bytes) = wire::value(&mut message, kind)?
                        && groups == 0
                    {
                        self.look_into(bytes, depth, number)?;
                    }
                }
            }
            if self.fields > MAX_FIELDS || self.packed > MAX_PACKED_BYTES {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    fn look_into(&mut self, bytes: Bytes, depth: usize, number: u32) -> Result<(), Malformed> {
        match Kind::of(depth, number) {
            Kind::Nested => return self.add(bytes, depth + 1),
            Kind::Packed => self.packed += bytes.len(),
            Kind::Other => {}
        }
        Ok(())
    }
}
