//! The status of a call: code, text, and details (`google.rpc.ErrorInfo`, `RetryInfo`). Which error has which is Python's table.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use crate::wire;

const DOMAIN: &str = "tidegate";
const MAX_TEXT_BYTES: usize = 1024;
const TYPE: &str = "type.googleapis.com/google.rpc.";

/// What a call ends with that has no answer. `name` is that of the code, as metrics have it.
#[derive(Clone, Debug)]
pub struct Status {
    pub code: u32,
    pub name: &'static str,
    pub reason: String,
    pub text: String,
    pub details: Bytes,
}

/// How many codes there are.
pub const CODES: usize = 17;
const NAMES: [&str; CODES] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
pub const OK: u32 = 0;
pub const CANCELLED: u32 = 1;
pub const INVALID_ARGUMENT: u32 = 3;
pub const DEADLINE_EXCEEDED: u32 = 4;
pub const RESOURCE_EXHAUSTED: u32 = 8;
pub const UNIMPLEMENTED: u32 = 12;
pub const INTERNAL: u32 = 13;
pub const UNAVAILABLE: u32 = 14;

/// The name of a code.
pub fn name(code: u32) -> &'static str {
    NAMES[code as usize % CODES]
}

impl Status {
    /// A refusal with a machine-readable reason, and when trying again is sensible, in seconds.
    pub fn refusal(code: u32, reason: &str, text: &str, retry: Option<f64>) -> Self {
        let text = cut(text);
        let mut status = BytesMut::new();
        wire::put_varint(&mut status, 1 << 3);
        wire::put_varint(&mut status, u64::from(code));
        wire::put_bytes(&mut status, 2, text.as_bytes());
        let mut info = BytesMut::new();
        wire::put_bytes(&mut info, 1, reason.as_bytes());
        wire::put_bytes(&mut info, 2, DOMAIN.as_bytes());
        put_any(&mut status, "ErrorInfo", &info);
        if let Some(seconds) = retry {
            put_any(&mut status, "RetryInfo", &retry_info(seconds));
        }
        Status { code, name: name(code), reason: reason.into(), text, details: status.freeze() }
    }

    /// What a caller is told of a defect of ours.
    pub fn defect() -> Self {
        Status::plain(INTERNAL, "the daemon failed on this request; its log says how")
    }

    /// A status without details, as gRPC's own are.
    pub fn plain(code: u32, text: &str) -> Self {
        Status { code, name: name(code), reason: String::new(), text: text.into(), details: Bytes::new() }
    }
}

fn put_any(status: &mut BytesMut, name: &str, value: &[u8]) {
    let mut any = BytesMut::new();
    wire::put_bytes(&mut any, 1, format!("{TYPE}{name}").as_bytes());
    wire::put_bytes(&mut any, 2, value);
    wire::put_bytes(status, 3, &any);
}

fn retry_info(seconds: f64) -> BytesMut {
    let nanoseconds = (seconds.max(0.0) * 1e9) as u64;
    let (mut duration, mut info) = (BytesMut::new(), BytesMut::new());
    for (field, number) in [(1_u64, nanoseconds / 1_000_000_000), (2, nanoseconds % 1_000_000_000)] {
        if number > 0 {
            wire::put_varint(&mut duration, field << 3);
            wire::put_varint(&mut duration, number);
        }
    }
    wire::put_bytes(&mut info, 1, &duration);
    info
}

fn cut(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.into();
    }
    let end = (0..=MAX_TEXT_BYTES - 4).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0);
    format!("{} ...", &text[..end])
}

/// A text as `grpc-message` carries it: percent-encoded ("gRPC over HTTP2", Responses).
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Base64 without padding, as values of keys that end in `-bin` are sent.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            encoded.push(char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    encoded
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, expected) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn texts_are_cut_between_characters_and_encoded() {
        let status = Status::refusal(3, "R", &"ä".repeat(1000), None);
        assert!(status.text.len() <= MAX_TEXT_BYTES && status.text.ends_with(" ..."));
        assert_eq!(percent_encoded("a%ä\n"), "a%25%C3%A4%0A");
    }
}
