//! What is seen of a connection beside its calls: when something came last, how many calls are open, and pings without end.
//!
//! `h2` answers pings by itself and says nothing of them, so the frames are looked at on their way in ("HTTP/2", RFC 9113, section 4.1).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use crate::frames::Heads;
use crate::kept::{Account, Kept};

const PREFACE: usize = 24;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACKNOWLEDGEMENT: u8 = 1;
/// Pings that may come too soon, without anything else between them. The same as gRPC's C core.
const MOST_STRIKES: u32 = 2;
/// An answer to a ping has 17 bytes; whoever gets more may well ask how long it took.
const SMALL_WRITE: usize = 64;

/// Shared by the connection and its calls, on one thread.
pub struct Activity {
    min_ping_interval: Duration,
    last_read: Cell<Instant>,
    last_ping: Cell<Option<Instant>>,
    strikes: Cell<u32>,
    too_many: Notify,
    calls: Cell<usize>,
    idle_since: Cell<Instant>,
    account: Arc<Account>,
}

impl Activity {
    pub fn new(min_ping_interval: Duration, account: Arc<Account>) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Activity {
            min_ping_interval,
            last_read: Cell::new(now),
            last_ping: Cell::new(None),
            strikes: Cell::new(0),
            too_many: Notify::new(),
            calls: Cell::new(0),
            idle_since: Cell::new(now),
            account,
        })
    }

    /// See `Account::keep`.
    pub fn keep(&self, bytes: usize) -> Option<Kept> {
        self.account.keep(bytes)
    }

    /// Return once the client pings more often than it may.
    pub async fn too_many_pings(&self) {
        self.too_many.notified().await;
    }

    /// Return once there was no call for so long.
    pub async fn idle(&self, most: Option<Duration>) {
        let Some(most) = most else { return std::future::pending().await };
        loop {
            let due = if self.calls.get() == 0 { self.idle_since.get() + most } else { Instant::now() + most };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due.into()).await;
        }
    }

    /// Return once nothing has come for so long.
    pub async fn silent(&self, most: Duration) {
        loop {
            let due = self.last_read.get() + most;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due.into()).await;
        }
    }

    /// A call is open until what is returned is dropped.
    pub fn call(self: &Rc<Self>) -> OpenCall {
        self.calls.set(self.calls.get() + 1);
        OpenCall(self.clone())
    }

    fn writes(&self, bytes: usize) {
        if bytes > SMALL_WRITE {
            self.strikes.set(0);
        }
    }

    fn ping(&self, now: Instant) {
        let too_soon = self.last_ping.replace(Some(now)).is_some_and(|last| now.duration_since(last) < self.min_ping_interval);
        if too_soon {
            self.strikes.set(self.strikes.get() + 1);
            if self.strikes.get() > MOST_STRIKES {
                self.too_many.notify_one();
            }
        }
    }
}

pub struct OpenCall(Rc<Activity>);

impl OpenCall {
    /// See `Account::keep`.
    pub fn keep(&self, bytes: usize) -> Option<Kept> {
        self.0.keep(bytes)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
        if self.0.calls.get() == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}

/// A socket whose frames are looked at.
pub struct Watched<S> {
    socket: S,
    activity: Rc<Activity>,
    heads: Heads,
    agreed: bool,
}

impl<S> Watched<S> {
    pub fn new(socket: S, activity: Rc<Activity>) -> Self {
        Watched { socket, activity, heads: Heads::after(PREFACE), agreed: false }
    }

    /// False if the first frame is not the client's settings (section 3.4), which `h2` does not ask for.
    fn look(&mut self, mut data: &[u8]) -> bool {
        let now = Instant::now();
        self.activity.last_read.set(now);
        while !data.is_empty() {
            let (taken, head) = self.heads.step(data);
            data = &data[taken..];
            let Some(head) = head else { continue };
            let kind = (head.kind, head.flags & ACKNOWLEDGEMENT);
            if !self.agreed && kind != (SETTINGS, 0) {
                return false;
            }
            self.agreed = true;
            match kind {
                (PING, 0) => self.activity.ping(now),
                (PING, _) => {}
                // Whoever says something else as well may ping.
                _ => self.activity.strikes.set(0),
            }
        }
        true
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read
            && !self.look(&buffer.filled()[before..])
        {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.writes(data.len());
        Pin::new(&mut self.socket).poll_write(context, data)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.activity.writes(parts.iter().map(|part| part.len()).sum());
        Pin::new(&mut self.socket).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Store;

    fn activity() -> Rc<Activity> {
        Activity::new(Duration::from_secs(10), Account::new(Store::new(0)))
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
    }

    fn greeting() -> Vec<u8> {
        [vec![b'x'; PREFACE], frame(SETTINGS, 0, b"")].concat()
    }

    #[test]
    fn a_connection_begins_with_settings() {
        for (kind, flags, fine) in [(SETTINGS, 0, true), (SETTINGS, ACKNOWLEDGEMENT, false), (PING, 0, false), (1, 4, false)] {
            let mut watched = Watched::new((), activity());
            assert!(watched.look(&[b'x'; PREFACE]));
            assert_eq!(watched.look(&frame(kind, flags, b"")), fine, "{kind}");
        }
    }

    #[test]
    fn pings_are_found_however_the_bytes_are_cut() {
        let mut data = greeting();
        for _ in 0..4 {
            data.extend(frame(PING, 0, b"12345678"));
            data.extend(frame(PING, ACKNOWLEDGEMENT, b"12345678"));
        }
        for size in 1..data.len() {
            let activity = activity();
            let mut watched = Watched::new((), activity.clone());
            assert!(data.chunks(size).all(|part| watched.look(part)));
            assert_eq!(activity.strikes.get(), 3, "in parts of {size}");
        }
    }

    #[test]
    fn pings_between_other_frames_are_no_strikes() {
        let activity = activity();
        let mut watched = Watched::new((), activity.clone());
        watched.look(&greeting());
        for _ in 0..10 {
            watched.look(&frame(PING, 0, b"12345678"));
            watched.look(&frame(0, 0, b"data"));
        }
        assert_eq!(activity.strikes.get(), 0);
    }
}
