//! The client's end of one HTTP/2 connection: bytes in, answers out. It knows frames, streams and windows; no socket, no schedule.

use std::collections::VecDeque;

use crate::frames::{
    self, ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADERS, PADDED, PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS,
};
use crate::frames::{Template, WINDOW_UPDATE};
use crate::hpack::{StatusReader, TABLE_SIZE};

const LARGEST_WINDOW: u32 = (1 << 31) - 1;
const FIRST_WINDOW: u32 = 65_535;
/// Bytes of answers after which the server's window is filled again: so little of 2 GiB that it is never near its end.
const REFILL: u32 = 1 << 24;
const CANCEL: u32 = 0x8;
const REFUSED: u32 = 0x7;

pub const UNKNOWN: u8 = 2;
const INTERNAL: u8 = 13;

/// A request as it is sent: the first on a connection has its own block of headers.
pub struct Request {
    pub indexed: [Template; 2],
    pub literal: [Template; 2],
    pub body: i64,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Status(u8),
    /// The server has not looked at it: a client of gRPC sends it again.
    Refused,
}

/// A request that was sent, and what has come of its answer.
#[derive(Default)]
pub struct Sent {
    /// When it was meant to be sent, and when it was, in nanoseconds
    pub intended: u64,
    pub left: u64,
    /// How long its answer is so far, and if it is wanted, the answer, with gRPC's head
    pub length: u32,
    pub body: Vec<u8>,
    done: bool,
}

#[derive(Default)]
pub struct Connection {
    pub out: Vec<u8>,
    pub is_closed: bool,
    pub keeps_bodies: bool,
    input: Vec<u8>,
    statuses: StatusReader,
    peer: Peer,
    window: i64,
    taken: u32,
    /// The requests that may be unanswered, from number `base` on; a request's stream is twice its number and one.
    waiting: VecDeque<Sent>,
    base: u32,
    open: usize,
    agreed: bool,
}

struct Peer {
    table: u32,
    streams: u32,
    window: u32,
}

impl Default for Peer {
    fn default() -> Self {
        Self { table: 4096, streams: LARGEST_WINDOW, window: FIRST_WINDOW }
    }
}

impl Connection {
    pub fn new(keeps_bodies: bool) -> Self {
        let mut connection = Self { keeps_bodies, window: i64::from(FIRST_WINDOW), ..Self::default() };
        connection.out.extend_from_slice(PREFACE);
        let mut settings = Vec::new();
        for (key, value) in [(1_u16, TABLE_SIZE as u32), (2, 0), (4, LARGEST_WINDOW)] {
            settings.extend_from_slice(&key.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frames::append(&mut connection.out, SETTINGS, 0, 0, &settings);
        frames::append(&mut connection.out, WINDOW_UPDATE, 0, 0, &(LARGEST_WINDOW - FIRST_WINDOW).to_be_bytes());
        connection
    }

    /// Whether both sides know the other's settings.
    pub fn has_agreed(&self) -> bool {
        self.agreed
    }

    /// Requests sent and not answered.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Whether a request may be sent now: by the server's limit of streams, by its window, and because nothing waits to be written.
    pub fn has_room(&self, request: &Request) -> bool {
        !self.is_closed && self.open < self.peer.streams as usize && self.window >= request.body
    }

    /// Whether a request may ever be sent.
    pub fn fits(&self, request: &Request) -> bool {
        request.body <= i64::from(self.peer.window.min(FIRST_WINDOW))
    }

    /// Send a request there is room for; returns its number.
    pub fn send(&mut self, request: &Request, intended: u64, now: u64, timeout: u64) -> u32 {
        let number = self.base + self.waiting.len() as u32;
        let templates = if self.peer.table as usize >= TABLE_SIZE { &request.indexed } else { &request.literal };
        templates[usize::from(number > 0)].copy(&mut self.out, 2 * number + 1, timeout / 1_000);
        self.window -= request.body;
        self.open += 1;
        self.waiting.push_back(Sent { intended, left: now, ..Sent::default() });
        number
    }

    /// Cancel a request; false if it was answered before.
    pub fn cancel(&mut self, number: u32) -> bool {
        let is_open = self.finish(number).is_some();
        if is_open {
            frames::append(&mut self.out, RST_STREAM, 0, 2 * number + 1, &CANCEL.to_be_bytes());
        }
        is_open
    }

    /// Take what has come. An error if the peer does what HTTP/2 forbids, or allows and no gRPC server does.
    pub fn receive(&mut self, bytes: &[u8], answered: &mut impl FnMut(Sent, End)) -> Result<(), &'static str> {
        if self.input.is_empty() {
            let used = self.frames(bytes, answered)?;
            self.input.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.input);
        joined.extend_from_slice(bytes);
        let used = self.frames(&joined, answered)?;
        joined.drain(..used);
        self.input = joined;
        Ok(())
    }

    /// Take all whole frames; returns how many bytes they have.
    fn frames(&mut self, bytes: &[u8], answered: &mut impl FnMut(Sent, End)) -> Result<usize, &'static str> {
        let mut place = 0;
        while let Some(&[high, middle, low, kind, flags, s0, s1, s2, s3]) = bytes.get(place..place + HEAD) {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let Some(payload) = bytes.get(place + HEAD..place + HEAD + length) else { break };
            self.take(kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), payload, answered)?;
            place += HEAD + length;
        }
        Ok(place)
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], answered: &mut impl FnMut(Sent, End)) -> Result<(), &'static str> {
        let mut end = None;
        match kind {
            DATA if flags & PADDED != 0 => return Err("the server sent a padded DATA frame"),
            DATA => self.data(stream >> 1, payload),
            HEADERS if flags & (PADDED | PRIORITY) != 0 || flags & END_HEADERS == 0 => {
                return Err("the server sent a padded, weighted or divided HEADERS frame");
            }
            HEADERS => end = self.statuses.read(payload)?,
            RST_STREAM => {}
            _ => return self.control(kind, flags, stream, payload),
        }
        if kind == RST_STREAM || flags & END_STREAM != 0 {
            let end = if kind == RST_STREAM { reset(number(payload)?) } else { End::Status(end.unwrap_or(UNKNOWN)) };
            if let Some(sent) = self.finish(stream >> 1) {
                answered(sent, end);
            }
        }
        Ok(())
    }

    fn data(&mut self, number: u32, payload: &[u8]) {
        self.taken += payload.len() as u32;
        if self.taken > REFILL {
            frames::append(&mut self.out, WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        let keeps = self.keeps_bodies;
        if let Some(sent) = number.checked_sub(self.base).and_then(|place| self.waiting.get_mut(place as usize)) {
            sent.length += payload.len() as u32;
            if keeps {
                sent.body.extend_from_slice(payload);
            }
        }
    }

    /// What was sent under this number, if it was not finished before: a stream that has its answer may still be reset.
    fn finish(&mut self, number: u32) -> Option<Sent> {
        let sent = self.waiting.get_mut(number.checked_sub(self.base)? as usize)?;
        if std::mem::replace(&mut sent.done, true) {
            return None;
        }
        let sent = std::mem::replace(sent, Sent { done: true, ..Sent::default() });
        self.open -= 1;
        while self.waiting.front().is_some_and(|sent| sent.done) {
            self.waiting.pop_front();
            self.base += 1;
        }
        Some(sent)
    }

    fn control(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), &'static str> {
        match (kind, flags & ACK != 0) {
            (WINDOW_UPDATE, _) if stream == 0 => self.window += i64::from(number(payload)?),
            (PING, false) => frames::append(&mut self.out, PING, ACK, 0, payload),
            (GOAWAY, _) => self.is_closed = true,
            (SETTINGS, true) => self.agreed = true,
            (SETTINGS, false) => {
                self.settings(payload);
                frames::append(&mut self.out, SETTINGS, ACK, 0, &[]);
            }
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                1 => self.peer.table = value,
                3 => self.peer.streams = value,
                4 => self.peer.window = value,
                _ => {}
            }
        }
    }
}

fn number(payload: &[u8]) -> Result<u32, &'static str> {
    Ok(u32::from_be_bytes(payload.try_into().map_err(|_| "the server sent a frame that is too short")?))
}

/// What the gRPC protocol makes of the code of a reset stream.
fn reset(code: u32) -> End {
    match code {
        REFUSED => End::Refused,
        CANCEL => End::Status(1),
        0xb => End::Status(8),
        0xc => End::Status(7),
        _ => End::Status(INTERNAL),
    }
}
