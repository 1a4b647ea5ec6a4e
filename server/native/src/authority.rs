//! Makes what some clients say for `:authority` on a Unix socket one that h2 takes. What it is does not matter to anybody here.
//!
//! gRPC's C core, and with it Python's grpcio, sends the path with `%` in it, grpc-java the path itself; h2 ends a call whose authority is
//! none of RFC 3986 (hyperium/h2#487). Each such byte becomes a `-` where it stands: lengths, and so the tables of HPACK, stay as they were.
//! Values in Huffman's code pass unread: those clients write none.

use crate::frames::{CONTINUATION, HEADERS, Head};

const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
const PRIORITY_BYTES: usize = 5;
/// Where HPACK's static table has `:authority`.
const AUTHORITY: u8 = 1;
const NAME: &[u8] = b":authority";
const MORE: u8 = 0x80;

/// Reads the header blocks of one client.
#[derive(Default)]
pub struct Authorities {
    head: Head,
    at: Place,
    field: Field,
}

/// Where in a frame the next byte is.
#[derive(Clone, Copy, Default)]
enum Place {
    /// The length of the padding is next.
    Padding,
    /// So many bytes to pass over, then so many of a header block.
    Block { skip: usize, block: usize },
    /// In nothing that matters.
    #[default]
    Elsewhere,
}

/// What the next byte of a header block is.
#[derive(Clone, Copy, Default)]
enum Field {
    #[default]
    Start,
    /// Of an index or a size that does not matter.
    Number(After),
    Length(Part),
    LongLength {
        part: Part,
        value: usize,
        shift: u32,
        huffman: bool,
    },
    Text {
        part: Part,
        left: usize,
        huffman: bool,
    },
}

#[derive(Clone, Copy)]
enum After {
    Start,
    Value,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// So many bytes of it are those of `:authority`; all so far, or it is another name.
    Name(Option<usize>),
    Value,
    AuthoritysValue,
}

impl Authorities {
    /// A frame begins.
    pub fn begin(&mut self, head: Head) {
        self.head = head;
        if head.kind == HEADERS {
            self.field = Field::Start;
        }
        self.at = match head.kind {
            HEADERS if head.flags & PADDED != 0 => Place::Padding,
            HEADERS => self.block(head.length, 0),
            CONTINUATION => Place::Block { skip: 0, block: head.length },
            _ => Place::Elsewhere,
        };
    }

    /// Look at, and mend, the bytes that come next of what is in the frame.
    pub fn mend(&mut self, mut data: &mut [u8]) {
        while !data.is_empty() {
            let taken = match self.at {
                Place::Elsewhere => return,
                Place::Padding => {
                    self.at = self.block(self.head.length - 1, usize::from(data[0]));
                    1
                }
                Place::Block { skip: 0, block: 0 } => {
                    self.at = Place::Elsewhere;
                    return;
                }
                Place::Block { skip: 0, block } => {
                    let taken = block.min(data.len());
                    data[..taken].iter_mut().for_each(|byte| self.field = self.field.next(byte));
                    self.at = Place::Block { skip: 0, block: block - taken };
                    taken
                }
                Place::Block { skip, block } => {
                    let taken = skip.min(data.len());
                    self.at = Place::Block { skip: skip - taken, block };
                    taken
                }
            };
            data = &mut data[taken..];
        }
    }

    /// What is left of a HEADERS frame: `left` bytes, the last `padding` of which are of no header block.
    fn block(&self, left: usize, padding: usize) -> Place {
        let skip = if self.head.flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES.min(left) };
        Place::Block { skip, block: (left - skip).saturating_sub(padding) }
    }
}

impl Field {
    fn next(self, byte: &mut u8) -> Field {
        match self {
            Field::Start => Field::of(*byte),
            Field::Number(after) if *byte & MORE != 0 => Field::Number(after),
            Field::Number(After::Start) => Field::Start,
            Field::Number(After::Value) => Field::Length(Part::Value),
            Field::Length(part) => match (*byte & !MORE, *byte & MORE != 0) {
                (0x7f, huffman) => Field::LongLength { part, value: 0x7f, shift: 0, huffman },
                (left, huffman) => Field::text(part, usize::from(left), huffman),
            },
            Field::LongLength { part, value, shift, huffman } => {
                let value = value.saturating_add(usize::from(*byte & !MORE).checked_shl(shift).unwrap_or(usize::MAX));
                if *byte & MORE == 0 {
                    Field::text(part, value, huffman)
                } else {
                    Field::LongLength { part, value, shift: shift.saturating_add(7), huffman }
                }
            }
            Field::Text { part: Part::Name(seen), left, huffman } => {
                let seen = seen.filter(|seen| !huffman && NAME.get(*seen) == Some(byte)).map(|seen| seen + 1);
                Field::text(Part::Name(seen), left - 1, huffman)
            }
            Field::Text { part, left, huffman } => {
                if part == Part::AuthoritysValue && !huffman && !matches!(*byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_') {
                    *byte = b'-';
                }
                Field::text(part, left - 1, huffman)
            }
        }
    }

    /// After the first byte of a field (RFC 7541, section 6).
    fn of(byte: u8) -> Field {
        let (mask, after) = match byte {
            0x80.. => (0x7f, After::Start),
            0x40..0x80 => (0x3f, After::Value),
            0x20..0x40 => (0x1f, After::Start),
            _ => (0x0f, After::Value),
        };
        match (byte & mask, after) {
            (number, after) if number == mask => Field::Number(after),
            (_, After::Start) => Field::Start,
            (0, After::Value) => Field::Length(Part::Name(Some(0))),
            (AUTHORITY, After::Value) => Field::Length(Part::AuthoritysValue),
            (_, After::Value) => Field::Length(Part::Value),
        }
    }

    fn text(part: Part, left: usize, huffman: bool) -> Field {
        match (left, part) {
            (0, Part::Name(Some(seen))) if seen == NAME.len() => Field::Length(Part::AuthoritysValue),
            (0, Part::Name(_)) => Field::Length(Part::Value),
            (0, _) => Field::Start,
            _ => Field::Text { part, left, huffman },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{DATA, Frames, PREFACE, Part, SETTINGS, frame};

    const END_HEADERS: u8 = 4;

    fn mend(frames: &mut Frames, authorities: &mut Authorities, mut data: &mut [u8]) {
        while !data.is_empty() {
            let (taken, part) = frames.next(data);
            let (these, rest) = data.split_at_mut(taken);
            match part {
                Part::Head(head) => authorities.begin(head),
                Part::Begun => {}
                Part::Payload => authorities.mend(these),
            }
            data = rest;
        }
    }

    fn text(value: &[u8]) -> Vec<u8> {
        [&[u8::try_from(value.len()).unwrap()], value].concat()
    }

    /// A connection with one call, whose header block says `authority` between other fields, in every form of frame.
    fn connection(authority: &[u8]) -> Vec<u8> {
        let path = [&[0x44][..], &text(b"/a%2F/b")].concat();
        let named = [&[0x40][..], &text(b"x-a%/"), &text(b"%/")].concat();
        let long = [&[0x0f, 0x2f, 0x7f, 0x49], &[b'%'; 0x7f + 0x49][..]].concat();
        let spelt = [&[0x40][..], &text(NAME), &text(authority), &[0], &text(b":authoritys"), &text(b"%")].concat();
        let block = [&[0x3f, 0xe1, 0x1f, 0x83][..], &path, &named, &long, &[0x41], &text(authority), &[0x86], &path, &spelt].concat();
        let padded = [&[3][..], &[0; 5], &block, &[0; 3]].concat();
        let frames = [
            frame(SETTINGS, 0, &[0, 3, 0, 0, 0, 100]),
            frame(HEADERS, END_HEADERS, &block),
            frame(DATA, 0, b"A\x0b/%A%%%data"),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded),
            frame(HEADERS, 0, &block[..20]),
            frame(CONTINUATION, 0, &block[20..block.len() - 15]),
            frame(CONTINUATION, END_HEADERS, &block[block.len() - 15..]),
            frame(HEADERS, END_HEADERS, &block),
        ];
        [vec![b'A'; PREFACE], frames.concat()].concat()
    }

    #[test]
    fn authorities_alone_are_mended_however_the_bytes_are_cut() {
        let (sent, wanted) = (connection(b"tmp%2Fa/b:c"), connection(b"tmp-2Fa-b-c"));
        for size in 1..sent.len() {
            let (mut frames, mut authorities, mut data) = (Frames::after(PREFACE), Authorities::default(), sent.clone());
            data.chunks_mut(size).for_each(|part| mend(&mut frames, &mut authorities, part));
            assert_eq!(data, wanted, "in parts of {size}");
        }
    }

    #[test]
    fn no_bytes_end_it() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let noise = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            });
            let mut data: Vec<u8> = noise.take(2000).map(|byte| if byte < 100 { byte % 10 } else { byte }).collect();
            mend(&mut Frames::default(), &mut Authorities::default(), &mut data);
        }
    }
}
