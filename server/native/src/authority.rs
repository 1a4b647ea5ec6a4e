//! Makes what some clients say for `:authority` on a Unix socket one that h2 takes. What it is does not matter to anybody here.
//!
//! gRPC's C core, and with it Python's grpcio, sends the path with `%` in it, grpc-java the path itself; h2 ends a call whose authority is
//! none of RFC 3986 (hyperium/h2#487). Each such byte becomes a `-` where it stands: lengths, and so the tables of HPACK, stay as they were.
//! Values in Huffman's code pass unread: those clients write none.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
const PRIORITY_BYTES: usize = 5;
/// Where HPACK's static table has `:authority`.
const AUTHORITY: u8 = 1;
const NAME: &[u8] = b":authority";
const MORE: u8 = 0x80;

/// Reads what one client sends, however it is cut.
#[derive(Default)]
pub struct Authorities {
    at: Place,
    head: [u8; FRAME_HEAD],
    field: Field,
}

enum Place {
    Preface(usize),
    Head(usize),
    /// The length of the padding is next; then so many bytes of the frame.
    Padding(usize),
    /// So many bytes to pass over, then so many of a header block, then padding.
    Block {
        skip: usize,
        block: usize,
        padding: usize,
    },
    /// No HTTP/2 in the clear: not ours to read.
    Foreign,
}

impl Default for Place {
    fn default() -> Self {
        Place::Preface(0)
    }
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
    /// Look at, and mend, the bytes that come next.
    pub fn mend(&mut self, mut data: &mut [u8]) {
        while !data.is_empty() {
            let taken = match self.at {
                Place::Foreign => return,
                Place::Preface(seen) => self.preface(seen, data),
                Place::Head(filled) => self.head(filled, data),
                Place::Padding(left) => self.padding(left, data[0]),
                Place::Block { skip, block, padding } => self.block(skip, block, padding, data),
            };
            data = &mut data[taken..];
        }
    }

    fn preface(&mut self, seen: usize, data: &[u8]) -> usize {
        let taken = data.len().min(PREFACE.len() - seen);
        self.at = match seen + taken {
            _ if data[..taken] != PREFACE[seen..seen + taken] => Place::Foreign,
            seen if seen == PREFACE.len() => Place::Head(0),
            seen => Place::Preface(seen),
        };
        taken
    }

    fn head(&mut self, filled: usize, data: &[u8]) -> usize {
        let taken = data.len().min(FRAME_HEAD - filled);
        self.head[filled..filled + taken].copy_from_slice(&data[..taken]);
        self.at = Place::Head(filled + taken);
        if filled + taken == FRAME_HEAD {
            let length = usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2]);
            match self.head[3] {
                HEADERS if self.head[4] & PADDED != 0 && length > 0 => self.at = Place::Padding(length),
                HEADERS => self.begin(self.priority(), length, 0),
                CONTINUATION => self.begin(0, length, 0),
                _ => self.begin(length, length, 0),
            }
        }
        taken
    }

    fn padding(&mut self, left: usize, padding: u8) -> usize {
        self.begin(self.priority(), left - 1, usize::from(padding));
        1
    }

    fn priority(&self) -> usize {
        if self.head[4] & PRIORITY == 0 { 0 } else { PRIORITY_BYTES }
    }

    /// The rest of a frame: `left` bytes, of which the first `skip` and the last `padding` are of no header block.
    fn begin(&mut self, skip: usize, left: usize, padding: usize) {
        let skip = skip.min(left);
        let padding = padding.min(left - skip);
        self.at = Place::Block { skip, block: left - skip - padding, padding };
        self.end_if_over();
    }

    fn block(&mut self, skip: usize, block: usize, padding: usize, data: &mut [u8]) -> usize {
        let (taken, rest) = if skip > 0 {
            let taken = skip.min(data.len());
            (taken, Place::Block { skip: skip - taken, block, padding })
        } else if block > 0 {
            let taken = block.min(data.len());
            data[..taken].iter_mut().for_each(|byte| self.field = self.field.next(byte));
            (taken, Place::Block { skip, block: block - taken, padding })
        } else {
            let taken = padding.min(data.len());
            (taken, Place::Block { skip, block, padding: padding - taken })
        };
        self.at = rest;
        self.end_if_over();
        taken
    }

    fn end_if_over(&mut self) {
        if matches!(self.at, Place::Block { skip: 0, block: 0, padding: 0 }) {
            self.at = Place::Head(0);
            if self.head[4] & END_HEADERS != 0 && matches!(self.head[3], HEADERS | CONTINUATION) {
                self.field = Field::Start;
            }
        }
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

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
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
            frame(4, 0, &[0, 3, 0, 0, 0, 100]),
            frame(HEADERS, END_HEADERS, &block),
            frame(0, 0, b"A\x0b/%A%%%data"),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded),
            frame(HEADERS, 0, &block[..20]),
            frame(CONTINUATION, 0, &block[20..block.len() - 15]),
            frame(CONTINUATION, END_HEADERS, &block[block.len() - 15..]),
            frame(HEADERS, END_HEADERS, &block),
        ];
        [PREFACE.to_vec(), frames.concat()].concat()
    }

    #[test]
    fn authorities_alone_are_mended_however_the_bytes_are_cut() {
        let (sent, wanted) = (connection(b"tmp%2Fa/b:c"), connection(b"tmp-2Fa-b-c"));
        for size in 1..sent.len() {
            let (mut authorities, mut data) = (Authorities::default(), sent.clone());
            data.chunks_mut(size).for_each(|part| authorities.mend(part));
            assert_eq!(data, wanted, "in parts of {size}");
        }
    }

    #[test]
    fn what_is_no_http_2_passes_as_it_is() {
        let sent: Vec<u8> = [&[22, 3, 1][..], &connection(b"tmp%2Fa")].concat();
        let mut data = sent.clone();
        Authorities::default().mend(&mut data);
        assert_eq!(data, sent);
    }

    #[test]
    fn no_bytes_end_it() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let noise = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            });
            let mut data = [PREFACE.to_vec(), noise.take(2000).map(|byte| if byte < 100 { byte % 10 } else { byte }).collect()].concat();
            Authorities::default().mend(&mut data);
        }
    }
}
