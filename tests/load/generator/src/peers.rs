//! The connections of a run and when they can be read or written.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use crate::Fault;
use crate::connection::{Connection, End, Sent};
use crate::socket::Socket;

const READ: usize = 1 << 18;
const STANDARD_INPUT: u64 = u64::MAX;

pub struct Peer {
    pub connection: Connection,
    socket: Socket,
    /// Bytes wait because the server does not read
    is_blocked: bool,
    /// Nothing more comes
    has_ended: bool,
}

pub struct Peers {
    pub all: Vec<Peer>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

/// What there is to do after a wait.
pub struct Ready {
    pub readable: Vec<usize>,
    pub has_input_ended: bool,
}

impl Peer {
    /// Connect and agree on settings.
    pub fn new(mut socket: Socket, keeps_bodies: bool) -> Result<Self, Fault> {
        let mut connection = Connection::new(keeps_bodies);
        let mut buffer = vec![0; READ];
        while !connection.has_agreed() {
            socket.flush(&mut connection.out)?;
            let size = socket.read(&mut buffer)?;
            if size == 0 {
                return Err("the server did not agree on settings".into());
            }
            connection.receive(&buffer[..size], &mut |_, _| {})?;
        }
        socket.flush(&mut connection.out)?;
        socket.stop_waiting()?;
        Ok(Self { connection, socket, is_blocked: false, has_ended: false })
    }

    /// Whether more may be sent before something has been written or come.
    pub fn may_send(&self) -> bool {
        !self.is_blocked && !self.connection.is_closed
    }

    fn flush(&mut self) {
        let result = self.socket.flush(&mut self.connection.out);
        self.connection.is_closed |= result.is_err();
        self.is_blocked = result.is_ok_and(|is_done| !is_done);
    }

    fn receive(&mut self, buffer: &mut [u8], answered: &mut impl FnMut(Sent, End)) -> Result<(), &'static str> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => break self.has_ended = true,
                Ok(size) => self.connection.receive(&buffer[..size], answered)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break self.has_ended = true,
            }
        }
        self.connection.is_closed |= self.has_ended;
        Ok(())
    }
}

impl Peers {
    pub fn new(all: Vec<Peer>, is_attended: bool) -> Result<Self, Fault> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (place, peer) in all.iter().enumerate() {
            epoll::add(&epoll, &peer.socket, EventData::new_u64(place as u64), EventFlags::IN)?;
        }
        if is_attended {
            epoll::add(&epoll, io::stdin(), EventData::new_u64(STANDARD_INPUT), EventFlags::IN)?;
        }
        let events = Vec::with_capacity(all.len() + 1);
        Ok(Self { all, epoll, events, buffer: vec![0; READ] })
    }

    /// Hand to the kernel what it takes.
    pub fn flush(&mut self) -> Result<(), Fault> {
        for (place, peer) in self.all.iter_mut().enumerate().filter(|(_, peer)| !peer.connection.out.is_empty()) {
            let was_blocked = peer.is_blocked;
            peer.flush();
            if was_blocked != peer.is_blocked {
                let wanted = if peer.is_blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
                epoll::modify(&self.epoll, &peer.socket, EventData::new_u64(place as u64), wanted)?;
            }
        }
        Ok(())
    }

    /// Until something has come or can be written, at most so long.
    pub fn wait(&mut self, nanoseconds: u64) -> Result<Ready, Fault> {
        let timeout = Timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 };
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = Ready { readable: Vec::new(), has_input_ended: false };
        for event in &self.events {
            let (data, flags) = (event.data, event.flags);
            match data.u64() {
                STANDARD_INPUT => ready.has_input_ended = true,
                place if flags.intersects(!EventFlags::OUT) => ready.readable.push(place as usize),
                _ => {}
            }
        }
        Ok(ready)
    }

    /// Take what has come on one of them. One that the server has closed is not asked again.
    pub fn receive(&mut self, place: usize, answered: &mut impl FnMut(Sent, End)) -> Result<(), Fault> {
        let peer = &mut self.all[place];
        peer.receive(&mut self.buffer, answered)?;
        if peer.has_ended {
            epoll::delete(&self.epoll, &peer.socket)?;
        }
        Ok(())
    }

    /// Requests that are not answered.
    pub fn open(&self) -> usize {
        self.all.iter().map(|peer| peer.connection.open()).sum()
    }

    /// Whether an answer may still come.
    pub fn are_expecting(&self) -> bool {
        self.all.iter().any(|peer| !peer.has_ended && peer.connection.open() > 0)
    }
}
