//! Reads `grpc-status` out of blocks of headers (RFC 7541), and nothing else: other values are skipped without being decoded.
//!
//! The table of what the server has sent before is kept as every client keeps it, so that the server may send as little as it can. Of each
//! entry only its size counts, and whether it is a status.

use std::collections::VecDeque;

pub const TABLE_SIZE: usize = 4096;
const STATUS: &[u8] = b"grpc-status";
const STATUS_HUFFMAN: &[u8] = &[0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
/// The lengths of the names in the static table.
const STATIC_NAMES: [usize; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17,
    13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];
/// How many symbols have a code of each length. The codes ascend with length and symbol, so that this is all it takes to tell them apart.
const CODES: [u32; 31] = [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

#[derive(Clone, Copy)]
struct Entry {
    name: usize,
    size: usize,
    is_status: bool,
    /// Of one that is, where it is a number
    status: Option<u8>,
}

/// One for each connection: it must see every block.
pub struct StatusReader {
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

impl Default for StatusReader {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: TABLE_SIZE }
    }
}

impl StatusReader {
    /// The status in a block, if there is one; an error if the block is not one.
    pub fn read(&mut self, mut block: &[u8]) -> Result<Option<u8>, &'static str> {
        let mut status = None;
        while let Some(&first) = block.first() {
            let found = if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                if index > STATIC_NAMES.len() { self.entry(index)?.status } else { None }
            } else if first & 0x60 == 0x20 {
                self.limit = integer(&mut block, 5)?.min(TABLE_SIZE);
                self.evict();
                None
            } else {
                self.literal(&mut block, first & 0x40 != 0)?
            };
            status = found.or(status);
        }
        Ok(status)
    }

    fn literal(&mut self, block: &mut &[u8], kept: bool) -> Result<Option<u8>, &'static str> {
        let index = integer(block, if kept { 6 } else { 4 })?;
        let (name, is_status) = match index {
            0 => {
                let text = Text::read(block)?;
                (if kept { text.len() } else { 0 }, text.bytes == if text.huffman { STATUS_HUFFMAN } else { STATUS })
            }
            known if known <= STATIC_NAMES.len() => (STATIC_NAMES[known - 1], false),
            entry => self.entry(entry).map(|entry| (entry.name, entry.is_status))?,
        };
        let value = Text::read(block)?;
        let status = if is_status { value.number() } else { None };
        if kept {
            let size = name + value.len() + 32;
            self.entries.push_front(Entry { name, size, is_status, status });
            self.size += size;
            self.evict();
        }
        Ok(status)
    }

    fn entry(&self, index: usize) -> Result<Entry, &'static str> {
        self.entries.get(index - STATIC_NAMES.len() - 1).copied().ok_or("a header that was never sent")
    }

    fn evict(&mut self) {
        while self.size > self.limit {
            self.size -= self.entries.pop_back().map_or(self.size, |entry| entry.size);
        }
    }
}

struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl<'a> Text<'a> {
    fn read(block: &mut &'a [u8]) -> Result<Self, &'static str> {
        let huffman = block.first().is_some_and(|first| first & 0x80 != 0);
        let length = integer(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length).ok_or("a text that ends too soon")?;
        *block = rest;
        Ok(Self { huffman, bytes })
    }

    /// As it is when decoded.
    fn len(&self) -> usize {
        if self.huffman { ranks(self.bytes).count() } else { self.bytes.len() }
    }

    fn number(&self) -> Option<u8> {
        if self.huffman {
            ranks(self.bytes).map(digit).try_fold(0, add_digit)
        } else {
            self.bytes.iter().map(|byte| byte.wrapping_sub(b'0')).try_fold(0, add_digit)
        }
    }
}

fn add_digit(number: u8, digit: u8) -> Option<u8> {
    (digit <= 9).then(|| number.checked_mul(10)?.checked_add(digit)).flatten()
}

/// The digit that a symbol is, by its rank among the codes; more than 9 if it is none.
fn digit(rank: u32) -> u8 {
    match rank {
        0..=2 => rank as u8,
        15..=21 => (rank - 12) as u8,
        _ => u8::MAX,
    }
}

/// The symbols of a text in Huffman's code, each by its rank in the order of the codes. What is left over is padding.
fn ranks(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| u32::from(byte >> place & 1)));
    std::iter::from_fn(move || {
        let (mut code, mut first, mut rank) = (0, 0, 0);
        for count in &CODES[1..] {
            code |= bits.next()?;
            if code - first < *count {
                return Some(rank + code - first);
            }
            rank += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    })
}

fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, &'static str> {
    let cut = "a number that ends too soon";
    let mask = (1_usize << prefix) - 1;
    let (first, mut rest) = block.split_first().ok_or(cut)?;
    let mut value = usize::from(*first) & mask;
    let mut shift = 0;
    while value >= mask {
        let (next, after) = rest.split_first().ok_or(cut)?;
        rest = after;
        value += usize::from(next & 0x7f) << shift;
        shift += 7;
        if next & 0x80 == 0 || shift > 28 {
            break;
        }
    }
    *block = rest;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_is_and_in_huffmans_code() {
        for (status, huffman) in [(0, vec![0x07]), (8, vec![0x7b]), (14, vec![0x0b, 0x5f]), (16, vec![0x0b, 0x9f])] {
            let plain = status.to_string();
            let mut as_is = vec![0x00, 11];
            as_is.extend([STATUS, &[plain.len() as u8], plain.as_bytes()].concat());
            assert_eq!(StatusReader::default().read(&as_is), Ok(Some(status)));
            let mut coded = vec![0x10, 0x88];
            coded.extend([STATUS_HUFFMAN, &[0x80 | huffman.len() as u8], &huffman].concat());
            assert_eq!(StatusReader::default().read(&coded), Ok(Some(status)));
        }
    }

    #[test]
    fn a_status_sent_once_is_known_by_its_number_until_it_leaves_the_table() {
        let mut reader = StatusReader::default();
        let kept = [&[0x40, 0x88], STATUS_HUFFMAN, &[0x01, b'9']].concat();
        assert_eq!(reader.read(&kept), Ok(Some(9)));
        assert_eq!(reader.read(&[0x88, 0xbe]), Ok(Some(9)));
        assert_eq!(reader.read(&[0x7e, 0x01, b'7']), Ok(Some(7)));
        assert_eq!(reader.read(&[0xbf]), Ok(Some(9)));
        assert_eq!(reader.read(&[0x20, 0x3f, 0xe1, 0x1f]), Ok(None));
        assert!(reader.read(&[0xbe]).is_err());
    }

    #[test]
    fn an_entry_takes_the_room_of_its_decoded_text() {
        // RFC 7541, C.4.1: ":authority: www.example.com", of 57 bytes.
        let block = [0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        let mut reader = StatusReader::default();
        assert_eq!(reader.read(&block), Ok(None));
        assert_eq!(reader.size, 57);
        for _ in 0..TABLE_SIZE {
            reader.read(&block).unwrap();
        }
        assert_eq!((reader.size, reader.entries.len()), (71 * 57, 71));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for block in [&[0x40_u8][..], &[0x00, 0x05, b'a'], &[0xff], &[0xbe]] {
            assert!(StatusReader::default().read(block).is_err());
        }
    }
}
