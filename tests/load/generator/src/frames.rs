//! Frames of HTTP/2, and those of a unary gRPC call, made once: in each copy only the numbers of its stream and its timeout differ.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEAD: usize = 9;
/// What every peer takes, whatever it says.
const LARGEST_PAYLOAD: usize = 1 << 14;
const LARGEST_TIMEOUT: u64 = 99_999_999;
const TIMEOUT: &[u8] = b"grpc-timeout";
const DIGITS: &[u8] = b"00000001u";

pub fn append(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// What a call says of itself.
pub struct Call<'a> {
    pub scheme: &'a str,
    pub authority: &'a str,
    pub path: &'a str,
    pub has_timeout: bool,
}

/// The blocks of headers of a call: the first on a connection, and all that follow.
pub struct Blocks {
    pub first: Vec<u8>,
    pub next: Vec<u8>,
}

impl Call<'_> {
    /// With a table of the server's, as every client keeps one: the first call fills it, those that follow are numbers in it.
    pub fn indexed(&self) -> Blocks {
        let mut first = vec![0x83, self.scheme_index()];
        for (name, value) in self.headers() {
            literal(&mut first, 0x40, name, value);
        }
        let mut next = vec![0x83, self.scheme_index()];
        let kept = self.headers().len() as u8;
        let newest = 62 + u8::from(self.has_timeout);
        next.extend((0..kept).rev().map(|place| 0x80 | (newest + place)));
        if self.has_timeout {
            literal(&mut first, 0x40, TIMEOUT, DIGITS);
            next.extend_from_slice(&[0x0f, 62 - 15, DIGITS.len() as u8]);
            next.extend_from_slice(DIGITS);
        }
        Blocks { first, next }
    }

    /// For a server that keeps no table.
    pub fn literal(&self) -> Blocks {
        let mut next = vec![0x83, self.scheme_index()];
        for (name, value) in self.headers() {
            literal(&mut next, 0x00, name, value);
        }
        if self.has_timeout {
            literal(&mut next, 0x00, TIMEOUT, DIGITS);
        }
        Blocks { first: [&[0x20], &next[..]].concat(), next }
    }

    fn scheme_index(&self) -> u8 {
        if self.scheme == "https" { 0x87 } else { 0x86 }
    }

    fn headers(&self) -> [(&[u8], &[u8]); 5] {
        [
            (b":path", self.path.as_bytes()),
            (b":authority", self.authority.as_bytes()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"tidegate-load"),
        ]
    }
}

/// Texts here are shorter than 127 bytes: each length is one byte.
fn literal(block: &mut Vec<u8>, kind: u8, name: &[u8], value: &[u8]) {
    assert!(name.len() < 127 && value.len() < 127, "a header that is too long");
    block.extend_from_slice(&[kind, name.len() as u8]);
    block.extend_from_slice(name);
    block.push(value.len() as u8);
    block.extend_from_slice(value);
}

/// The frames of one call.
pub struct Template {
    bytes: Vec<u8>,
    streams: Vec<usize>,
    timeout: Option<usize>,
}

impl Template {
    /// `body` is the message with gRPC's head.
    pub fn new(block: &[u8], body: &[u8]) -> Self {
        let mut bytes = Vec::new();
        let mut streams = vec![5];
        append(&mut bytes, HEADERS, END_HEADERS, 0, block);
        let timeout = block.windows(DIGITS.len()).rposition(|seen| seen == DIGITS).map(|place| HEAD + place);
        let last = body.chunks(LARGEST_PAYLOAD).count() - 1;
        for (number, chunk) in body.chunks(LARGEST_PAYLOAD).enumerate() {
            streams.push(bytes.len() + 5);
            append(&mut bytes, DATA, if number == last { END_STREAM } else { 0 }, 0, chunk);
        }
        Self { bytes, streams, timeout }
    }

    /// A copy for a stream; the timeout is in microseconds, and in the call only if it has one.
    pub fn copy(&self, out: &mut Vec<u8>, stream: u32, timeout: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for place in &self.streams {
            out[start + place..start + place + 4].copy_from_slice(&stream.to_be_bytes());
        }
        if let Some(place) = self.timeout {
            let mut left = timeout.clamp(1, LARGEST_TIMEOUT);
            for digit in out[start + place..start + place + 8].iter_mut().rev() {
                *digit = b'0' + (left % 10) as u8;
                left /= 10;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call = Call { scheme: "http", authority: "a", path: "/p", has_timeout: true };

    #[test]
    fn a_copy_differs_in_its_streams_and_its_timeout_alone() {
        let body = vec![7; LARGEST_PAYLOAD + 1];
        let template = Template::new(&CALL.indexed().next, &body);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        template.copy(&mut one, 1, 1);
        template.copy(&mut other, 0x0102_0305, 25_000);
        let digits = b"00025000u";
        let changed: Vec<usize> = (0..one.len()).filter(|place| one[*place] != other[*place]).collect();
        assert_eq!(changed.len(), 3 * 4 + 3);
        assert_eq!(one.len(), other.len());
        assert!(other.windows(9).any(|seen| seen == digits));
        assert_eq!(other[5..9], 0x0102_0305_u32.to_be_bytes());
    }

    #[test]
    fn a_timeout_too_long_to_be_written_is_the_longest() {
        let mut out = Vec::new();
        Template::new(&CALL.literal().next, b"x").copy(&mut out, 1, u64::MAX);
        assert!(out.windows(9).any(|seen| seen == b"99999999u"));
    }
}
