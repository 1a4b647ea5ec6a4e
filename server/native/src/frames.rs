//! Where the frames of a connection begin, however its bytes are cut ("HTTP/2", RFC 9113, section 4.1). What they say is not known here.

const LENGTH: usize = 9;

/// Goes over one direction of a connection.
#[derive(Clone, Copy, Default)]
pub struct Heads {
    head: [u8; LENGTH],
    filled: usize,
    /// Bytes until the next frame begins.
    skip: usize,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
}

impl Heads {
    /// To begin after so many bytes that are no frames.
    pub fn after(skip: usize) -> Self {
        Heads { skip, ..Heads::default() }
    }

    /// Whether a frame begins with the next byte.
    pub fn begins(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    /// Go on to the end of the head or of the payload that is next, or of `data`: how many bytes that is, and the head, if it is whole now.
    pub fn step(&mut self, data: &[u8]) -> (usize, Option<FrameHead>) {
        if self.skip > 0 {
            let taken = self.skip.min(data.len());
            self.skip -= taken;
            return (taken, None);
        }
        let taken = (LENGTH - self.filled).min(data.len());
        self.head[self.filled..self.filled + taken].copy_from_slice(&data[..taken]);
        self.filled += taken;
        if self.filled < LENGTH {
            return (taken, None);
        }
        let [high, middle, low, kind, flags, ..] = self.head;
        self.filled = 0;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        (taken, Some(FrameHead { length: self.skip, kind, flags }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let frames =
            [&[0, 0, 2, 4, 1, 0, 0, 0, 0, 7, 7][..], &[0, 0, 0, 6, 0, 0, 0, 0, 9], &[0, 1, 0, 0, 0, 0, 0, 0, 1], &[5; 256]].concat();
        let data = [&b"preface"[..], &frames].concat();
        let wanted = [(2, 4, 1), (0, 6, 0), (256, 0, 0)].map(|(length, kind, flags)| FrameHead { length, kind, flags });
        for size in 1..data.len() {
            let (mut heads, mut seen) = (Heads::after(7), Vec::new());
            for mut part in data.chunks(size) {
                while !part.is_empty() {
                    let (taken, head) = heads.step(part);
                    part = &part[taken..];
                    seen.extend(head);
                }
            }
            assert_eq!(seen, wanted, "in parts of {size}");
            assert!(heads.begins());
        }
    }
}
