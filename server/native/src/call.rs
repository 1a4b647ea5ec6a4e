//! One call on the wire: its message in, its answer or status out ("gRPC over HTTP2"). What a message means is not known here.

use std::future::poll_fn;
use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::{GzDecoder, ZlibDecoder};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, Uri};

use crate::activity::{Activity, OpenCall};
use crate::caught::caught;
use crate::kept::Kept;
use crate::status::{self, Status};

const PREFIX: usize = 5;
const SMALL_MESSAGE: usize = 256;
/// A message that is announced gets so much memory, and twice as much each time that is full: who only announces takes none.
const FIRST_MEMORY: usize = 16 << 10;
/// Answers of more count as kept until they are sent; smaller ones are bounded by the number of streams.
const LARGE_ANSWER: usize = 64 << 10;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The connection went away, or the caller reset the call: nobody is there to be answered.
pub struct Gone;

/// The other end of a connection: its address, as gRPC writes it, and the names in its certificate, if it showed one.
pub struct Peer {
    pub address: Arc<str>,
    pub names: Vec<String>,
}

/// What came before the message.
pub struct Head {
    uri: Uri,
    pub headers: HeaderMap,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

impl Head {
    /// Of a request that came at `arrived`.
    pub fn new(request: Parts, arrived: Instant) -> Self {
        let timeout = request.headers.get("grpc-timeout").and_then(|value| timeout(value.as_bytes()));
        // A timeout of centuries is none.
        let deadline = timeout.and_then(|timeout| arrived.checked_add(timeout));
        Head { uri: request.uri, headers: request.headers, deadline }
    }

    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Bytes of the headers as HTTP/2 counts them (RFC 9113, section 6.5.2).
    pub fn size(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
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
    activity: Rc<Activity>,
    /// What counts of `buffer` as kept, and how much that is.
    kept: Option<Kept>,
    counted: usize,
}

impl Messages {
    pub fn new(body: RecvStream, headers: &HeaderMap, max_bytes: usize, activity: Rc<Activity>) -> Self {
        Messages { body, buffer: BytesMut::new(), packing: Packing::of(headers), max_bytes, activity, kept: None, counted: 0 }
    }

    /// The next message; `None` at the end of the call. The one before counts as kept until now.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        (self.kept, self.counted) = (None, 0);
        poll_fn(|context| self.poll_next(context)).await
    }

    /// What `next` gives, if that is known without waiting.
    pub fn here(&mut self) -> Poll<Result<Option<Bytes>, Refused>> {
        self.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Refused>> {
        loop {
            if let Some(message) = self.whole()? {
                return Poll::Ready(Ok(Some(message)));
            }
            self.count()?;
            match ready!(self.body.poll_data(context)) {
                Some(Ok(data)) => {
                    let _ = self.body.flow_control().release_capacity(data.len());
                    self.buffer.put_slice(&data);
                }
                Some(Err(_)) => return Poll::Ready(Err(Refused::Gone)),
                None if self.buffer.is_empty() => return Poll::Ready(Ok(None)),
                None => {
                    let status = Status::plain(status::INTERNAL, "the call ended inside a message");
                    return Poll::Ready(Err(Refused::With(status)));
                }
            }
        }
    }

    /// Count what is there of a message that is not whole.
    fn count(&mut self) -> Result<(), Refused> {
        let more = self.buffer.len() - self.counted;
        if more > 0 {
            let kept = self.activity.keep(more).ok_or_else(|| Refused::With(no_room()))?;
            match &mut self.kept {
                Some(before) => before.join(kept),
                None => self.kept = Some(kept),
            }
            self.counted += more;
        }
        Ok(())
    }

    fn whole(&mut self) -> Result<Option<Bytes>, Refused> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if length > self.max_bytes {
            return Err(Refused::With(too_long(length, self.max_bytes)));
        }
        let is_packed = prefix[0] != 0;
        if self.buffer.len() < PREFIX + length {
            if self.buffer.capacity() < FIRST_MEMORY {
                self.buffer.reserve((PREFIX + length).min(FIRST_MEMORY) - self.buffer.len());
            }
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

/// The refusal of what would take more memory than callers may take together.
fn no_room() -> Status {
    Status::refusal(status::RESOURCE_EXHAUSTED, "QUEUE_FULL", "as much is on its way in or out as may be: try again later", Some(1.0))
}

/// A message behind its length, as it is sent.
pub struct Framed(Bytes);

impl Framed {
    /// The same message, counted as kept until it is sent, if there is room.
    pub fn counted(self, open: &OpenCall) -> Result<Self, Status> {
        if self.0.len() <= LARGE_ANSWER {
            return Ok(self);
        }
        Ok(Framed(open.keep(self.0.len()).ok_or_else(no_room)?.with(self.0)))
    }
}

impl From<&[u8]> for Framed {
    fn from(message: &[u8]) -> Self {
        framed(|buffer| buffer.put_slice(message))
    }
}

/// What `write` appends, as a message.
pub fn framed(write: impl FnOnce(&mut BytesMut)) -> Framed {
    let mut buffer = BytesMut::with_capacity(SMALL_MESSAGE);
    buffer.put_bytes(0, PREFIX);
    write(&mut buffer);
    let length = (buffer.len() - PREFIX) as u32;
    buffer[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Framed(buffer.freeze())
}

/// Where the answers of a call go.
pub struct Answers {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Answers {
    pub fn new(respond: SendResponse<Bytes>) -> Self {
        Answers { respond, stream: None }
    }

    /// Return once the caller has reset the call, or its connection is gone.
    pub async fn gone(&mut self) {
        poll_fn(|context| self.poll_gone(context)).await;
    }

    /// Whether that has happened.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.stream {
            Some(stream) => stream.poll_reset(context),
            None => self.respond.poll_reset(context),
        };
        reset.map(|_| ())
    }

    /// Send a message, and wait until the caller has taken enough of what was sent before.
    pub async fn send(&mut self, message: Framed) -> Result<(), Gone> {
        send_all(self.begun()?, message).await
    }

    /// End the call: with a message before, all went well.
    pub fn finish(mut self) -> Result<(), Gone> {
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        self.begun()?.send_trailers(trailers).map_err(|_| Gone)
    }

    /// Answer with the only message of the call. What the caller does not take at once is kept until it does.
    pub fn answer(mut self, message: Framed) {
        // Nobody to be told is no error.
        let _ = self.begun().and_then(|stream| stream.send_data(message.0, false).map_err(|_| Gone));
        let _ = self.finish();
    }

    fn begun(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        if self.stream.is_none() {
            self.stream = Some(self.respond.send_response(head(), false).map_err(|_| Gone)?);
        }
        self.stream.as_mut().ok_or(Gone)
    }

    /// End the call with a status.
    pub fn refuse(mut self, status: &Status) {
        self.end(status);
    }

    fn end(&mut self, status: &Status) {
        let trailers = trailers(status);
        // Nobody to be told is no error.
        if let Some(stream) = &mut self.stream {
            let _ = stream.send_trailers(trailers);
        } else {
            let mut response = head();
            if status.code == status::UNIMPLEMENTED {
                // It may be the packing that is unknown: which are known is said ("Compression in gRPC").
                response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("identity, deflate, gzip"));
            }
            response.headers_mut().extend(trailers);
            let _ = self.respond.send_response(response, true);
        }
    }
}

impl Drop for Answers {
    /// A call that a defect of ours has left without an end is INTERNAL.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The same defect may end this as well, and a panic may not leave a drop while another is under way.
            caught(|| self.end(&Status::defect()));
        }
    }
}

async fn send_all(stream: &mut SendStream<Bytes>, Framed(mut data): Framed) -> Result<(), Gone> {
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
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    trailers.insert(GRPC_STATUS, HeaderValue::from(status.code));
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
