//! How long what clients send waits to be read, and how many calls a connection may have at once for that.
//!
//! A request that is sent and not read waits unseen: its deadline runs, and nobody can refuse it. So while the thread that serves is behind,
//! connections are allowed fewer calls, and clients keep the others until there is time for them (RFC 9113, sections 5.1.2 and 6.5.2): that
//! costs nothing here, where to read a request and refuse it costs a third of answering it.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::frames::Heads;

/// How long a request may wait to be read before its connection is allowed less.
const MOST_WAIT: Duration = Duration::from_millis(4);
/// The fewest calls at once that a connection is held to.
const FEWEST: u32 = 4;
/// What is allowed changes no sooner than after this time, in which the last change has shown its effect.
const INTERVAL: Duration = Duration::from_millis(20);
const BEAT: Duration = Duration::from_millis(1);

/// When the thread that serves was last through with everything that was ready.
pub struct Rounds {
    last: Cell<Instant>,
    before: Cell<Instant>,
    has_read: Cell<bool>,
    beats: Cell<bool>,
}

impl Rounds {
    pub fn new() -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Rounds { last: Cell::new(now), before: Cell::new(now), has_read: Cell::new(false), beats: Cell::new(false) })
    }

    /// The earliest time at which what is read now, at `now`, may have come, whichever connection it is on.
    fn earliest(self: &Rc<Self>, now: Instant) -> Instant {
        self.has_read.set(true);
        if !self.beats.replace(true) {
            self.last.set(now);
            self.before.set(now);
            spawn_local(self.clone().beat());
        }
        self.before.get()
    }

    /// A task among the others has its turn once all that were ready before it had theirs.
    async fn beat(self: Rc<Self>) {
        while self.has_read.replace(false) {
            sleep(BEAT).await;
            self.before.set(self.last.replace(Instant::now()));
        }
        self.beats.set(false);
    }
}

/// What one connection is allowed.
pub struct Allowance {
    rounds: Rc<Rounds>,
    most: u32,
    allowed: Cell<u32>,
    /// Calls that are no single inference: they may last, and leave the others what is allowed.
    lasting: Cell<u32>,
    drained: Cell<Instant>,
    arrived: Cell<Instant>,
    longest: Cell<Duration>,
    due: Cell<Instant>,
    changed: Notify,
    told: Cell<u32>,
    /// A setting is to leave, which then says what is allowed.
    telling: Cell<bool>,
}

impl Allowance {
    /// At first, and at most, `most` calls at once.
    pub fn new(rounds: Rc<Rounds>, most: u32) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Allowance {
            rounds,
            most,
            allowed: Cell::new(most),
            lasting: Cell::new(0),
            drained: Cell::new(now),
            arrived: Cell::new(now),
            longest: Cell::new(Duration::ZERO),
            due: Cell::new(now),
            changed: Notify::new(),
            told: Cell::new(most),
            telling: Cell::new(false),
        })
    }

    /// The earliest time at which what was read last may have come.
    pub fn arrived(&self) -> Instant {
        self.arrived.get()
    }

    /// Return once the client is to be told what it is allowed now.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// `h2` has been told to send a setting: it will say what is allowed.
    pub fn tells(&self) {
        self.telling.set(true);
    }

    fn is_telling(&self) -> bool {
        self.telling.get()
    }

    fn tell(&self) -> u32 {
        self.telling.set(false);
        self.told.set(self.calls());
        self.told.get()
    }

    /// A call that may last; it does until what is returned is dropped.
    pub fn lasting(self: &Rc<Self>) -> Lasting {
        self.lasting.set(self.lasting.get() + 1);
        Lasting(self.clone())
    }

    /// How many calls at once the client may have.
    fn calls(&self) -> u32 {
        self.allowed.get().saturating_add(self.lasting.get()).min(self.most)
    }

    fn drains(&self) {
        self.drained.set(Instant::now());
    }

    fn reads(&self) {
        let now = Instant::now();
        let arrived = self.rounds.earliest(now).max(self.drained.get());
        self.arrived.set(arrived);
        let waited = now.saturating_duration_since(arrived);
        self.longest.set(self.longest.get().max(waited));
        if now >= self.due.get() {
            let longest = self.longest.replace(Duration::ZERO);
            self.due.set(now + INTERVAL.max(2 * longest));
            self.allowed.set(adapted(self.allowed.get(), longest).min(self.most));
            if self.calls() != self.told.get() {
                self.changed.notify_one();
            }
        }
    }
}

pub struct Lasting(Rc<Allowance>);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.lasting.set(self.0.lasting.get() - 1);
    }
}

/// What is allowed once requests have waited so long with `allowed` at once.
fn adapted(allowed: u32, waited: Duration) -> u32 {
    if waited > MOST_WAIT {
        ((f64::from(allowed) * MOST_WAIT.as_secs_f64() / waited.as_secs_f64()) as u32).max(FEWEST)
    } else if waited < MOST_WAIT / 2 {
        allowed.saturating_mul(2)
    } else {
        allowed
    }
}

/// The size of windows is all that `h2` changes on a connection, once it is told to, and it waits for the client to confirm it. So it is told
/// to set that to what it is, and on its way out the frame becomes one about the number of calls.
const OF_WINDOW: [u8; 11] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4];
const OF_CALLS: [u8; 11] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3];
const VALUE: usize = 4;
const SETTING: usize = OF_WINDOW.len() + VALUE;

/// A socket whose client is told what it is allowed.
pub struct Limited<S> {
    socket: S,
    allowance: Rc<Allowance>,
    heads: Heads,
    /// The setting that is on its way out, and how much of it has left.
    leaving: Option<([u8; SETTING], usize)>,
}

impl<S> Limited<S> {
    pub fn new(socket: S, allowance: Rc<Allowance>) -> Self {
        Limited { socket, allowance, heads: Heads::default(), leaving: None }
    }

    /// How many bytes of `data` come before a setting that is to become another.
    fn before_setting(&self, data: &[u8]) -> Option<usize> {
        let (mut heads, mut place) = (self.heads, 0);
        while place < data.len() {
            if heads.begins() && data[place..].starts_with(&OF_WINDOW) && data.len() - place >= SETTING {
                return Some(place);
            }
            place += heads.step(&data[place..]).0;
        }
        None
    }

    fn setting(&self) -> [u8; SETTING] {
        let mut setting = [0; SETTING];
        setting[..OF_CALLS.len()].copy_from_slice(&OF_CALLS);
        setting[OF_CALLS.len()..].copy_from_slice(&self.allowance.tell().to_be_bytes());
        setting
    }

    /// Of what was to be written, so much was.
    fn passed(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            data = &data[self.heads.step(data).0..];
        }
    }
}

impl<S: AsyncWrite + Unpin> Limited<S> {
    /// The rest of the setting, of which `data` has as many bytes.
    fn write_setting(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let (setting, left) = self.leaving.unwrap_or_else(|| (self.setting(), 0));
        self.leaving = Some((setting, left));
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, &setting[left..]))?;
        self.leaving = (left + written < SETTING).then_some((setting, left + written));
        self.passed(&data[..written]);
        Poll::Ready(Ok(written))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if read.is_pending() {
            self.allowance.drains();
        } else {
            self.allowance.reads();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, mut data: &[u8]) -> Poll<io::Result<usize>> {
        if self.leaving.is_some() {
            return self.write_setting(context, data);
        }
        if self.allowance.is_telling() {
            match self.before_setting(data) {
                Some(0) => return self.write_setting(context, data),
                Some(before) => data = &data[..before],
                None => {}
            }
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, data))?;
        self.passed(&data[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.leaving.is_some() || self.allowance.is_telling() {
            // `h2` has a setting whole in one part: until it has left, there is one part at a time.
            let next = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(context, next.map_or(&[], |part| part));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, parts))?;
        let mut left = written;
        for part in parts {
            let of_part = part.len().min(left);
            self.passed(&part[..of_part]);
            left -= of_part;
        }
        Poll::Ready(Ok(written))
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
    use std::task::Waker;

    /// Takes so many bytes at a time.
    struct Sink {
        taken: Vec<u8>,
        most: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            let taken = data.len().min(self.most);
            self.taken.extend_from_slice(&data[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, 0, 0, 0, 0, 0], payload].concat()
    }

    fn window() -> Vec<u8> {
        frame(4, &[0, 4, 0, 16, 0, 0])
    }

    /// What leaves of these frames, told that the client is allowed 7 calls before the first or never, at most so many bytes at a time.
    fn sent(frames: &[Vec<u8>], telling: bool, most: usize) -> Vec<u8> {
        let allowance = Allowance::new(Rounds::new(), 100);
        allowance.allowed.set(7);
        if telling {
            allowance.tells();
        }
        let mut limited = Limited::new(Sink { taken: Vec::new(), most }, allowance);
        let mut context = Context::from_waker(Waker::noop());
        let all = frames.concat();
        let mut done = 0;
        while done < all.len() {
            // As h2 writes: what is left of its buffer, here of the first frames, and then of the last.
            let buffered = all.len() - frames.last().unwrap().len();
            let parts = [IoSlice::new(&all[done.min(buffered)..buffered]), IoSlice::new(&all[done.max(buffered)..])];
            let Poll::Ready(Ok(written)) = Pin::new(&mut limited).poll_write_vectored(&mut context, &parts) else { panic!("refused") };
            done += written;
        }
        limited.socket.taken
    }

    #[test]
    fn a_setting_says_what_is_allowed_and_nothing_else_changes() {
        // A payload may look like a frame.
        let frames = [frame(0, &window()), frame(1, b"head"), window(), frame(0, b"x"), frame(0, &window())];
        let mut wanted = frames.clone();
        wanted[2] = frame(4, &[0, 3, 0, 0, 0, 7]);
        for most in 1..200 {
            assert_eq!(sent(&frames, true, most), wanted.concat(), "{most} bytes at a time");
            assert_eq!(sent(&frames, false, most), frames.concat(), "{most} bytes at a time");
        }
    }

    #[test]
    fn fewer_calls_are_allowed_the_longer_requests_wait_and_more_once_they_do_not() {
        assert_eq!(adapted(256, MOST_WAIT * 8), 32);
        assert_eq!(adapted(32, MOST_WAIT), 32);
        assert_eq!(adapted(32, MOST_WAIT / 3), 64);
        assert_eq!(adapted(32, MOST_WAIT * 1000), FEWEST);
    }

    #[test]
    fn calls_that_last_take_nothing_of_what_is_allowed() {
        let allowance = Allowance::new(Rounds::new(), 100);
        allowance.allowed.set(FEWEST);
        let lasting: Vec<Lasting> = (0..50).map(|_| allowance.lasting()).collect();
        assert_eq!(allowance.calls(), FEWEST + 50);
        drop(lasting);
        assert_eq!(allowance.calls(), FEWEST);
    }
}
