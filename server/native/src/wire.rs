//! Reading and writing the bytes of protocol messages ("Encoding", Protocol Buffers documentation). Which message it is, is not known here.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The bytes are not a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// One field of a message. A field of another kind than its message gives it is one that nobody knows: who reads passes over it.
#[derive(Debug)]
pub enum Value {
    Varint(u64),
    Fixed64(u64),
    Bytes(Bytes),
    Fixed32(u32),
    /// No message of ours has one: what is in it was passed over.
    Group,
}

pub const GROUP: u32 = 3;
pub const GROUP_END: u32 = 4;
const MAX_TAG_BYTES: usize = 5;
/// How deep messages and groups may lie in each other, as with the reference.
const MAX_DEPTH: usize = 100;

/// The next field, its number and its value; `None` at the end. Values share the memory of the message.
///
/// `depth` is how many messages are around this one.
pub fn field(message: &mut Bytes, depth: usize) -> Result<Option<(u32, Value)>, Malformed> {
    if message.is_empty() {
        return Ok(None);
    }
    let (number, kind) = tag(message)?;
    if kind == GROUP {
        skip_group(message, number, depth)?;
        return Ok(Some((number, Value::Group)));
    }
    Ok(Some((number, value(message, kind)?)))
}

/// The bytes of a text, which must be UTF-8.
pub fn text(bytes: Bytes) -> Result<Bytes, Malformed> {
    std::str::from_utf8(&bytes).map_err(|_| Malformed)?;
    Ok(bytes)
}

/// What stands before a field: its number and its kind.
pub fn tag(message: &mut Bytes) -> Result<(u32, u32), Malformed> {
    let before = message.len();
    let tag = u32::try_from(varint(message)?).map_err(|_| Malformed)?;
    if tag >> 3 == 0 || before - message.len() > MAX_TAG_BYTES {
        return Err(Malformed);
    }
    Ok((tag >> 3, tag & 7))
}

/// What stands behind a tag of this kind, which is no group.
pub fn value(message: &mut Bytes, kind: u32) -> Result<Value, Malformed> {
    Ok(match kind {
        0 => Value::Varint(varint(message)?),
        1 => Value::Fixed64(fixed(message, 8)?.get_u64_le()),
        2 => {
            let size = usize::try_from(varint(message)?).map_err(|_| Malformed)?;
            Value::Bytes(fixed(message, size)?)
        }
        5 => Value::Fixed32(fixed(message, 4)?.get_u32_le()),
        _ => return Err(Malformed),
    })
}

/// Pass over the rest of a group, and of those in it.
fn skip_group(message: &mut Bytes, number: u32, depth: usize) -> Result<(), Malformed> {
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        if depth + open.len() > MAX_DEPTH {
            return Err(Malformed);
        }
        match tag(message)? {
            (number, GROUP) => open.push(number),
            (number, GROUP_END) if number == *innermost => drop(open.pop()),
            (_, kind) => drop(value(message, kind)?),
        }
    }
    Ok(())
}

/// The varint at the beginning of `message`, which is shortened by it.
pub fn varint(message: &mut Bytes) -> Result<u64, Malformed> {
    let mut number = 0;
    for (place, byte) in message.iter().take(10).enumerate() {
        number |= u64::from(byte & 127) << (7 * place);
        if byte & 128 == 0 {
            message.advance(place + 1);
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn fixed(message: &mut Bytes, size: usize) -> Result<Bytes, Malformed> {
    if size > message.len() {
        return Err(Malformed);
    }
    Ok(message.split_to(size))
}

/// Append a varint.
pub fn put_varint(buffer: &mut BytesMut, mut number: u64) {
    while number > 127 {
        buffer.put_u8((number as u8 & 127) | 128);
        number >>= 7;
    }
    buffer.put_u8(number as u8);
}

/// The bytes that a varint takes.
pub fn varint_size(number: usize) -> usize {
    (usize::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// Append the tag and the length of a field whose bytes follow.
pub fn put_head(buffer: &mut BytesMut, number: u32, length: usize) {
    put_varint(buffer, u64::from(number) << 3 | 2);
    put_varint(buffer, length as u64);
}

/// Append a field of bytes.
pub fn put_bytes(buffer: &mut BytesMut, number: u32, bytes: &[u8]) {
    put_head(buffer, number, bytes.len());
    buffer.put_slice(bytes);
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut buffer = BytesMut::new();
            put_varint(&mut buffer, number);
            let mut bytes = buffer.freeze();
            assert_eq!(varint(&mut bytes), Ok(number));
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn every_cut_of_a_message_is_refused_or_ends_between_fields() {
        let mut buffer = BytesMut::new();
        put_bytes(&mut buffer, 5, b"abc");
        let whole = buffer.freeze();
        for cut in 1..whole.len() {
            assert!(field(&mut whole.slice(..cut), 0).is_err());
        }
    }

    #[test]
    fn lengths_beyond_the_end_and_endless_varints_are_refused() {
        assert!(field(&mut Bytes::from_static(b"\x2a\xff\xff\xff\xff\x0f"), 0).is_err());
        assert!(varint(&mut Bytes::from_static(&[255; 11])).is_err());
        assert!(field(&mut Bytes::from_static(b"\x03"), 0).is_err());
        assert!(field(&mut Bytes::from_static(b"\x00\x00"), 0).is_err());
    }
}
