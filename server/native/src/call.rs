//! One call on the wire: its message in, its answer or status out ("gRPC over HTTP2"). What a message means is not known here.

use std::future::poll_fn;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::{GzDecoder, ZlibDecoder};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::status::{self, Status};

const PREFIX: usize = 5;

/// The connection went away, or the caller reset the call: nobody is there to be answered.
pub struct Gone;

/// The other end of a connection: its address, as gRPC writes it, and the names in its certificate, if it showed one.
pub struct Peer {
    pub address: Arc<str>,
    pub names: Vec<String>,
}

/// What came before the message.
pub struct Head {
    pub path: String,
    pub headers: HeaderMap,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

impl Head {
    pub fn new(request: &Request<RecvStream>) -> Self {
        let headers = request.headers().clone();
        let timeout = headers.get("grpc-timeout").and_then(|value| timeout(value.as_bytes()));
        // A timeout of centuries is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Head { path: request.uri().path().to_owned(), headers, deadline }
    }
}

fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// How the messages of a call are packed that say they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    Deflate,
    Other,
}

impl Packing {
    fn of(headers: &HeaderMap) -> Self {
        match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
            Some(b"gzip") => Packing::Gzip,
            Some(b"deflate") => Packing::Deflate,
            _ => Packing::Other,
        }
    }

    /// The message, if it has no more than `max_bytes`; unpacking ends there.
    fn unpacked(self, data: &[u8], max_bytes: usize) -> Result<Bytes, Status> {
        let mut message = Vec::new();
        let most = max_bytes as u64 + 1;
        let read = match self {
            Packing::Gzip => GzDecoder::new(data).take(most).read_to_end(&mut message),
            Packing::Deflate => ZlibDecoder::new(data).take(most).read_to_end(&mut message),
            Packing::Other => return Err(Status::plain(status::UNIMPLEMENTED, "messages may be packed by gzip or deflate")),
        };
        match read {
            Err(_) => Err(Status::plain(status::INTERNAL, "a packed message cannot be unpacked")),
            Ok(_) if message.len() > max_bytes => Err(too_long("more", max_bytes)),
            Ok(_) => Ok(message.into()),
        }
    }
}

fn too_long(length: impl std::fmt::Display, max_bytes: usize) -> Status {
    Status::plain(status::RESOURCE_EXHAUSTED, &format!("Received message larger than max ({length} vs. {max_bytes})"))
}

/// Reads the messages of a call, none longer than `max_bytes`.
pub struct Messages {
    body: RecvStream,
    buffer: BytesMut,
    packing: Packing,
    max_bytes: usize,
}

impl Messages {
    pub fn new(body: RecvStream, headers: &HeaderMap, max_bytes: usize) -> Self {
        Messages { body, buffer: BytesMut::new(), packing: Packing::of(headers), max_bytes }
    }

    /// The next message; `None` at the end of the call.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            match self.body.data().await {
                Some(Ok(data)) => {
                    let _ = self.body.flow_control().release_capacity(data.len());
                    self.buffer.put_slice(&data);
                }
                Some(Err(_)) => return Err(Refused::Gone),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Refused::With(Status::plain(status::INTERNAL, "the call ended inside a message"))),
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Bytes>, Refused> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if length > self.max_bytes {
            return Err(Refused::With(too_long(length, self.max_bytes)));
        }
        let is_packed = prefix[0] != 0;
        if self.buffer.len() < PREFIX + length {
            self.buffer.reserve(PREFIX + length - self.buffer.len());
            return Ok(None);
        }
        let _ = self.buffer.split_to(PREFIX);
        let message = self.buffer.split_to(length).freeze();
        if is_packed { self.packing.unpacked(&message, self.max_bytes).map(Some).map_err(Refused::With) } else { Ok(Some(message)) }
    }
}

/// Why a call has no message.
pub enum Refused {
    Gone,
    With(Status),
}

/// Where the answers of a call go.
pub struct Answers {
    respond: SendResponse<Bytes>,
    stream: Option<h2::SendStream<Bytes>>,
}

impl Answers {
    pub fn new(respond: SendResponse<Bytes>) -> Self {
        Answers { respond, stream: None }
    }

    /// Return once the caller has reset the call, or its connection is gone.
    pub async fn gone(&mut self) {
        poll_fn(|context| {
            let reset = match &mut self.stream {
                Some(stream) => stream.poll_reset(context),
                None => self.respond.poll_reset(context),
            };
            reset.map(|_| ())
        })
        .await;
    }

    /// Send a message.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Gone> {
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).map_err(|_| Gone)?);
        framed.put_slice(message);
        if self.stream.is_none() {
            self.stream = Some(self.respond.send_response(head(), false).map_err(|_| Gone)?);
        }
        let Some(stream) = &mut self.stream else { return Err(Gone) };
        send_all(stream, framed.freeze()).await
    }

    /// End the call: with a message before, all went well.
    pub fn finish(mut self) -> Result<(), Gone> {
        if self.stream.is_none() {
            self.stream = Some(self.respond.send_response(head(), false).map_err(|_| Gone)?);
        }
        let Some(mut stream) = self.stream else { return Err(Gone) };
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers).map_err(|_| Gone)
    }

    /// End the call with a status.
    pub fn refuse(mut self, status: &Status) {
        let trailers = trailers(status);
        // Nobody to be told is no error.
        if let Some(mut stream) = self.stream {
            let _ = stream.send_trailers(trailers);
        } else {
            let mut response = head();
            response.headers_mut().extend(trailers);
            let _ = self.respond.send_response(response, true);
        }
    }
}

async fn send_all(stream: &mut h2::SendStream<Bytes>, mut data: Bytes) -> Result<(), Gone> {
    // Small answers fit into the window: no task has to wait for room.
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = if stream.capacity() > 0 {
            stream.capacity()
        } else {
            poll_fn(|context| stream.poll_capacity(context)).await.ok_or(Gone)?.map_err(|_| Gone)?
        };
        let part = data.split_to(room.min(data.len()));
        stream.send_data(part, false).map_err(|_| Gone)?;
    }
    Ok(())
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    trailers.insert("grpc-status", HeaderValue::from(status.code));
    if let Ok(text) = HeaderValue::from_str(&status::percent_encoded(&status.text)) {
        trailers.insert("grpc-message", text);
    }
    if !status.details.is_empty()
        && let Ok(details) = HeaderValue::from_str(&status::base64(&status.details))
    {
        trailers.insert("grpc-status-details-bin", details);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_those_of_the_specification() {
        assert_eq!(timeout(b"100m"), Some(Duration::from_millis(100)));
        assert_eq!(timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in [&b""[..], b"m", b"123456789S", b"1x", b"-1S", b"1.5S"] {
            assert_eq!(timeout(wrong), None);
        }
    }
}
