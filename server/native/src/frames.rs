//! Where the frames of a connection begin and end ("HTTP/2", RFC 9113, section 4.1), however its bytes are cut. What is in them is not known
//! here.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const CONTINUATION: u8 = 9;
/// Bytes that a client sends before its first frame.
pub const PREFACE: usize = 24;
const HEAD: usize = 9;

/// What a frame begins with; whose it is matters to nobody here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
}

impl Head {
    fn of(bytes: [u8; HEAD]) -> Self {
        let [high, middle, low, kind, flags, ..] = bytes;
        Head { length: usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low), kind, flags }
    }
}

/// What bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// The head of a frame, or the last of it.
    Head(Head),
    /// Some of a head that is not whole.
    Begun,
    /// Of what is in the frame whose head came last, or of what goes before all frames.
    Payload,
}

/// Reads what one side sends.
#[derive(Clone, Copy, Default)]
pub struct Frames {
    head: [u8; HEAD],
    filled: usize,
    /// Bytes until the next frame begins.
    left: usize,
}

impl Frames {
    /// Those of a side that sends so many bytes before them.
    pub fn after(bytes: usize) -> Self {
        Frames { left: bytes, ..Frames::default() }
    }

    /// Whether a frame begins with the next byte.
    pub fn begins(&self) -> bool {
        self.left == 0 && self.filled == 0
    }

    /// How many of the next bytes belong together, and what they are.
    pub fn next(&mut self, data: &[u8]) -> (usize, Part) {
        if self.left > 0 {
            let taken = self.left.min(data.len());
            self.left -= taken;
            return (taken, Part::Payload);
        }
        if self.filled == 0
            && let Some(head) = data.first_chunk()
        {
            return (HEAD, self.begin(*head));
        }
        let taken = (HEAD - self.filled).min(data.len());
        self.head[self.filled..self.filled + taken].copy_from_slice(&data[..taken]);
        self.filled += taken;
        (taken, if self.filled == HEAD { self.begin(self.head) } else { Part::Begun })
    }

    fn begin(&mut self, head: [u8; HEAD]) -> Part {
        let head = Head::of(head);
        (self.filled, self.left) = (0, head.length);
        Part::Head(head)
    }
}

/// For tests: a frame.
#[cfg(test)]
pub fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let sent = [vec![b'x'; PREFACE], frame(SETTINGS, 0, b""), frame(DATA, 1, &[7; 300]), frame(PING, 0, b"12345678")].concat();
        for size in 1..=sent.len() {
            let (mut frames, mut heads, mut payload) = (Frames::after(PREFACE), Vec::new(), 0);
            for mut data in sent.chunks(size) {
                while !data.is_empty() {
                    let (taken, part) = frames.next(data);
                    data = &data[taken..];
                    match part {
                        Part::Head(head) => heads.push((head.kind, head.flags, head.length)),
                        Part::Begun => {}
                        Part::Payload => payload += taken,
                    }
                }
            }
            assert_eq!(heads, [(SETTINGS, 0, 0), (DATA, 1, 300), (PING, 0, 8)], "in parts of {size}");
            assert_eq!(payload, PREFACE + 308, "in parts of {size}");
        }
    }
}
