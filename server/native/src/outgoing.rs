//! What a connection sends in one turn leaves together. `h2` writes each answer of 256 bytes or more by itself, and a write costs the kernel
//! more than all else that is done for the answer here.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that wait for the end of a turn at most.
const MOST: usize = 16 << 10;
/// So many at once are not worth copying.
const WHOLE: usize = 8 << 10;

/// A socket that sends at the end of a turn, and outside of turns at once. Clones are the same socket.
pub struct Outgoing<S>(Rc<RefCell<Held<S>>>);

struct Held<S> {
    socket: S,
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
    in_turn: bool,
}

impl<S> Clone for Outgoing<S> {
    fn clone(&self) -> Self {
        Outgoing(self.0.clone())
    }
}

impl<S: AsyncWrite + Unpin> Outgoing<S> {
    pub fn new(socket: S) -> Self {
        Outgoing(Rc::new(RefCell::new(Held { socket, bytes: Vec::new(), sent: 0, in_turn: false })))
    }

    /// A turn: what is written from now on waits for its end.
    pub fn begin(&self) {
        self.0.borrow_mut().in_turn = true;
    }

    /// The end of the turn: send what waits. What the socket does not take is sent once it does, and until then wakes who asks here.
    pub fn end(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        held.in_turn = false;
        held.poll_flush(context)
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_write(&mut self, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.bytes.len() >= MOST {
            ready!(self.send(context))?;
        }
        let all: usize = parts.iter().map(|part| part.len()).sum();
        if self.bytes.is_empty() && (all >= WHOLE || !self.in_turn) {
            return Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        }
        let before = self.bytes.len();
        for part in parts {
            let room = MOST - self.bytes.len();
            self.bytes.extend_from_slice(&part[..part.len().min(room)]);
        }
        Poll::Ready(Ok(self.bytes.len() - before))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.in_turn {
            return Poll::Ready(Ok(()));
        }
        ready!(self.send(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    /// Send what is held.
    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut self.socket).poll_write(context, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.sent += bytes,
            }
        }
        // An idle connection keeps no memory for it.
        (self.bytes, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Outgoing<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Outgoing<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(context, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        ready!(held.send(context))?;
        Pin::new(&mut held.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes `room` bytes more, so many at a time, and keeps each write.
    struct Sink {
        writes: Vec<Vec<u8>>,
        most: usize,
        room: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            let taken = data.len().min(self.most).min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.writes.push(data[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn outgoing(most: usize, room: usize) -> Outgoing<Sink> {
        Outgoing::new(Sink { writes: Vec::new(), most, room })
    }

    /// How much of `data` is taken, in the parts that `h2` makes of a frame.
    fn write(outgoing: &mut Outgoing<Sink>, data: &[u8]) -> usize {
        let (head, payload) = data.split_at(data.len().min(9));
        let parts = [io::IoSlice::new(head), io::IoSlice::new(payload)];
        match Pin::new(outgoing).poll_write_vectored(&mut Context::from_waker(Waker::noop()), &parts) {
            Poll::Ready(taken) => taken.unwrap(),
            Poll::Pending => 0,
        }
    }

    fn flush(outgoing: &mut Outgoing<Sink>) -> bool {
        Pin::new(outgoing).poll_flush(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn end(outgoing: &Outgoing<Sink>) -> bool {
        outgoing.end(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn writes(outgoing: &Outgoing<Sink>) -> usize {
        outgoing.0.borrow().socket.writes.len()
    }

    #[test]
    fn answers_of_a_turn_leave_together_at_its_end() {
        let mut outgoing = outgoing(usize::MAX, usize::MAX);
        outgoing.begin();
        for _ in 0..10 {
            assert!(write(&mut outgoing, &[1; 1000]) == 1000 && flush(&mut outgoing));
        }
        assert_eq!(writes(&outgoing), 0);
        assert!(end(&outgoing));
        assert_eq!(outgoing.0.borrow().socket.writes, [vec![1; 10_000]]);
        assert_eq!(outgoing.0.borrow().bytes.capacity(), 0);
    }

    #[test]
    fn outside_of_turns_everything_leaves_at_once() {
        let mut outgoing = outgoing(usize::MAX, usize::MAX);
        write(&mut outgoing, &[1; 100]);
        assert_eq!(writes(&outgoing), 1);
    }

    #[test]
    fn what_is_large_is_not_copied() {
        let mut outgoing = outgoing(usize::MAX, usize::MAX);
        outgoing.begin();
        // The sink takes one part at a time.
        assert_eq!(
            Pin::new(&mut outgoing).poll_write(&mut Context::from_waker(Waker::noop()), &[1; WHOLE]).map(Result::unwrap),
            Poll::Ready(WHOLE)
        );
        assert_eq!((writes(&outgoing), outgoing.0.borrow().bytes.len()), (1, 0));
    }

    #[test]
    fn all_bytes_leave_in_their_order_however_many_the_socket_takes() {
        for most in [1, 7, 1000, usize::MAX] {
            let mut outgoing = outgoing(most, usize::MAX);
            let all: Vec<u8> = (0..40_000_u32).map(|byte| byte as u8).collect();
            let (mut rest, mut size) = (&all[..], 1);
            while !rest.is_empty() {
                outgoing.begin();
                for _ in 0..3 {
                    size = (size * 7) % 9001;
                    let taken = write(&mut outgoing, &rest[..size.min(rest.len())]);
                    rest = &rest[taken..];
                }
                assert!(end(&outgoing));
            }
            assert_eq!(outgoing.0.borrow().socket.writes.concat(), all);
        }
    }

    #[test]
    fn for_a_client_that_reads_nothing_no_more_than_a_bound_is_held() {
        let mut outgoing = outgoing(usize::MAX, 0);
        for _ in 0..100 {
            outgoing.begin();
            write(&mut outgoing, &[1; 1000]);
            assert!(!end(&outgoing));
        }
        assert_eq!(outgoing.0.borrow().bytes.len(), MOST);
        outgoing.0.borrow_mut().socket.room = usize::MAX;
        assert!(end(&outgoing) && outgoing.0.borrow().bytes.is_empty());
    }
}
