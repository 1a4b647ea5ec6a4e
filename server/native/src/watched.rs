//! The bytes of a connection as they come and go: `h2` answers pings by itself and says nothing of them, and takes no `:authority` that is
//! none, so its frames are looked at on their way. One of them becomes another: see `allowance`.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::activity::Activity;
use crate::allowance::{Allowance, Setting};
use crate::authority::Authorities;
use crate::frames::{DATA, Frames, HEADERS, Head, PING, PREFACE, Part, SETTINGS};

const ACKNOWLEDGEMENT: u8 = 1;

/// A socket whose frames are looked at.
pub struct Watched<S> {
    socket: S,
    activity: Rc<Activity>,
    allowance: Rc<Allowance>,
    /// What leaves in the place of a frame of `h2`.
    leaving: Option<Setting>,
    received: Frames,
    sent: Frames,
    agreed: bool,
    authorities: Option<Authorities>,
}

impl<S> Watched<S> {
    /// `is_local` if it is a Unix socket, whose clients may say what is no authority.
    pub fn new(socket: S, activity: Rc<Activity>, allowance: Rc<Allowance>, is_local: bool) -> Self {
        let authorities = is_local.then(Authorities::default);
        Watched {
            socket,
            activity,
            allowance,
            leaving: None,
            received: Frames::after(PREFACE),
            sent: Frames::default(),
            agreed: false,
            authorities,
        }
    }

    /// Look at what came; false if that is nothing to go on with.
    fn receive(&mut self, mut data: &mut [u8]) -> bool {
        let now = Instant::now();
        self.activity.hears(now);
        while !data.is_empty() {
            let (taken, part) = self.received.next(data);
            let (these, rest) = data.split_at_mut(taken);
            match part {
                Part::Head(head) if !self.begin(head, now) => return false,
                Part::Payload => {
                    if let Some(authorities) = &mut self.authorities {
                        authorities.mend(these);
                    }
                }
                Part::Head(_) | Part::Begun => {}
            }
            data = rest;
        }
        true
    }

    /// False if the first frame is not the client's settings (section 3.4), which `h2` does not ask for.
    fn begin(&mut self, head: Head, now: Instant) -> bool {
        let kind = (head.kind, head.flags & ACKNOWLEDGEMENT);
        if !self.agreed && kind != (SETTINGS, 0) {
            return false;
        }
        self.agreed = true;
        match kind {
            (PING, 0) => self.activity.pinged(now),
            (HEADERS, _) => self.allowance.called(),
            _ => {}
        }
        if let Some(authorities) = &mut self.authorities {
            authorities.begin(head);
        }
        true
    }

    /// Look at what was sent.
    fn send(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (taken, part) = self.sent.next(data);
            data = &data[taken..];
            if let Part::Head(Head { kind: DATA | HEADERS, .. }) = part {
                self.activity.answers();
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let portion = self.allowance.portion();
        if portion == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut (&mut self.socket).take(portion)).poll_read(context, buffer);
        if read.is_pending() {
            self.allowance.drains();
        } else {
            self.allowance.reads((buffer.filled().len() - before) as u64);
        }
        if let Poll::Ready(Ok(())) = read
            && !self.receive(&mut buffer.filled_mut()[before..])
        {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Write `data`, up to the frame that becomes another, or that one.
    fn tell(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let place = if self.leaving.is_some() { Some(0) } else { Setting::place(self.sent, data) };
        let written = if place == Some(0) {
            let setting = self.leaving.take().unwrap_or_else(|| self.allowance.setting());
            let written = Pin::new(&mut self.socket).poll_write(context, setting.rest());
            self.leaving = setting.after(if let Poll::Ready(Ok(bytes)) = written { bytes } else { 0 });
            ready!(written)?
        } else {
            ready!(Pin::new(&mut self.socket).poll_write(context, &data[..place.unwrap_or(data.len())]))?
        };
        self.send(&data[..written]);
        Poll::Ready(Ok(written))
    }

    fn is_telling(&self) -> bool {
        self.leaving.is_some() || self.allowance.is_telling()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_telling() {
            return self.tell(context, data);
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, data))?;
        self.send(&data[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.is_telling() {
            let next = parts.iter().find(|part| !part.is_empty());
            return self.tell(context, next.map_or(&[], |part| part));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, parts))?;
        let mut left = written;
        for part in parts {
            let these = left.min(part.len());
            self.send(&part[..these]);
            left -= these;
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
    use std::future::Future;
    use std::pin::pin;
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use crate::allowance::{Rounds, Woken};
    use crate::frames::{CONTINUATION, frame};
    use crate::kept::{Account, Store};

    /// One, as many as may come too soon, and one more.
    const PINGS: usize = 4;
    const CALLS: u32 = 7;

    fn activity() -> Rc<Activity> {
        Activity::new(Duration::from_secs(10), Account::new(Store::new(0)))
    }

    fn watched<S>(socket: S, activity: Rc<Activity>) -> Watched<S> {
        Watched::new(socket, activity, Allowance::new(Rounds::new(Woken::new()), CALLS), false)
    }

    fn greeted(activity: &Rc<Activity>) -> Watched<()> {
        let mut watched = watched((), activity.clone());
        assert!(watched.receive(&mut [vec![b'x'; PREFACE], frame(SETTINGS, 0, b"")].concat()));
        watched
    }

    fn is_sent_away(activity: &Activity) -> bool {
        pin!(activity.too_many_pings()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_connection_begins_with_settings() {
        for (kind, flags, fine) in [(SETTINGS, 0, true), (SETTINGS, ACKNOWLEDGEMENT, false), (PING, 0, false), (HEADERS, 4, false)] {
            let mut watched = watched((), activity());
            assert!(watched.receive(&mut [b'x'; PREFACE]));
            assert_eq!(watched.receive(&mut frame(kind, flags, b"")), fine, "{kind}");
        }
    }

    #[test]
    fn pings_are_counted_whatever_comes_between_them() {
        for (kind, flags) in [(DATA, 0), (HEADERS, 4), (SETTINGS, 0), (PING, ACKNOWLEDGEMENT), (CONTINUATION, 4), (8, 0)] {
            let activity = activity();
            let mut watched = greeted(&activity);
            for _ in 0..PINGS {
                assert!(!is_sent_away(&activity) && watched.receive(&mut frame(PING, 0, b"12345678")));
                watched.receive(&mut frame(kind, flags, b"12345678"));
            }
            assert!(is_sent_away(&activity), "{kind}");
        }
    }

    #[test]
    fn only_parts_of_answers_allow_for_more_pings() {
        for (kind, may_ping) in [(DATA, true), (HEADERS, true), (SETTINGS, false), (PING, false), (8, false)] {
            let activity = activity();
            let mut watched = greeted(&activity);
            for _ in 0..PINGS {
                watched.receive(&mut frame(PING, 0, b"12345678"));
                frame(kind, 0, &[0; 100]).chunks(4).for_each(|part| watched.send(part));
            }
            assert_eq!(is_sent_away(&activity), !may_ping, "{kind}");
        }
    }

    /// How many bytes each turn reads of what came, until all is read.
    fn turns(frames: &[u8]) -> Vec<usize> {
        let came = [&[b'x'; PREFACE], &frame(SETTINGS, 0, b"")[..], frames].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut watched = watched(came.as_slice(), activity());
            let (mut context, mut read, mut turns) = (Context::from_waker(Waker::noop()), Vec::new(), Vec::new());
            while read.len() < came.len() {
                watched.allowance.begins();
                let before = read.len();
                let mut memory = [0; 1000];
                let mut buffer = ReadBuf::new(&mut memory);
                while Pin::new(&mut watched).poll_read(&mut context, &mut buffer).is_ready() && !buffer.filled().is_empty() {
                    read.extend_from_slice(buffer.filled());
                    buffer.clear();
                }
                turns.push(read.len() - before);
            }
            assert_eq!(read, came);
            turns
        })
    }

    #[test]
    fn what_has_come_is_read_by_portions_of_bytes_and_of_calls_and_all_of_it() {
        assert_eq!(turns(&frame(DATA, 0, &[7; 16_000]).repeat(60)), [600_000, 360_573]);
        let calls = frame(HEADERS, 4, &[7; 91]).repeat(600);
        let turns = turns(&calls);
        assert_eq!((turns.len(), turns[0]), (3, 21_000));
    }

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

    fn setting(name: u8, value: u32) -> Vec<u8> {
        [&[0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, name], &value.to_be_bytes()[..]].concat()
    }

    /// What leaves of these frames, at most so many bytes at a time, where the client is to be told what it is allowed, or not.
    fn left(frames: &[Vec<u8>], telling: bool, most: usize) -> Vec<u8> {
        let mut watched = watched(Sink { taken: Vec::new(), most }, activity());
        if telling {
            watched.allowance.tells();
        }
        let mut context = Context::from_waker(Waker::noop());
        let all = frames.concat();
        let mut done = 0;
        while done < all.len() {
            // As h2 writes: what is left of its buffer, here of all frames but the last, and of what follows that.
            let buffered = all.len() - frames.last().unwrap().len();
            let parts = [io::IoSlice::new(&all[done.min(buffered)..buffered]), io::IoSlice::new(&all[done.max(buffered)..])];
            let Poll::Ready(Ok(written)) = Pin::new(&mut watched).poll_write_vectored(&mut context, &parts) else { panic!("refused") };
            done += written;
        }
        watched.socket.taken
    }

    #[test]
    fn one_setting_of_windows_says_what_is_allowed_and_nothing_else_changes() {
        // A payload may look like a frame.
        let (window, like_it) = (setting(4, 1 << 20), frame(DATA, 0, &setting(4, 1 << 20)));
        let frames = [like_it.clone(), frame(HEADERS, 0, b"head"), window, frame(DATA, 0, b"x"), like_it];
        let mut wanted = frames.clone();
        wanted[2] = setting(3, CALLS);
        for most in 1..200 {
            assert_eq!(left(&frames, true, most), wanted.concat(), "{most} bytes at a time");
            assert_eq!(left(&frames, false, most), frames.concat(), "{most} bytes at a time");
        }
    }
}
