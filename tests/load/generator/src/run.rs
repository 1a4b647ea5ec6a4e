//! The two ways to put load on a server: so many requests unanswered at any time, or requests at their times whatever is answered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::Fault;
use crate::arguments::Arguments;
use crate::connection::{End, Request, Sent};
use crate::outcome::Outcome;
use crate::peers::Peers;
use crate::schedule::{Random, Schedule};

const MILLISECOND: u64 = 1_000_000;
/// How soon a request for which there was no room is tried again.
const HELD: u64 = MILLISECOND;
/// How often those are looked for that are past their deadline.
const EXPIRY: u64 = 10 * MILLISECOND;
/// How long after the end an answer is still waited for.
const GRACE: u64 = 1_000 * MILLISECOND;
const CLOSED_GRACE: u64 = 10 * GRACE;
const UNAVAILABLE: u8 = 14;

pub struct Run {
    arguments: Arguments,
    requests: Vec<Request>,
    peers: Peers,
    outcome: Outcome,
    start: Instant,
    turn: usize,
    random: Random,
    /// When which request of which connection is to be cancelled
    cancellations: BinaryHeap<Reverse<(u64, usize, u32)>>,
    /// Requests that the server refused unseen, each with the time it did
    again: Vec<(Sent, u64)>,
    is_measuring: bool,
    has_input_ended: bool,
}

/// A moment, in nanoseconds of the run and of the processor.
#[derive(Clone, Copy, Default)]
struct Moment {
    time: u64,
    cpu: u64,
}

impl Run {
    pub fn new(arguments: Arguments, requests: Vec<Request>, peers: Peers) -> Self {
        let random = Random(!arguments.seed);
        Self {
            arguments,
            requests,
            peers,
            outcome: Outcome::default(),
            start: Instant::now(),
            turn: 0,
            random,
            cancellations: BinaryHeap::new(),
            again: Vec::new(),
            is_measuring: false,
            has_input_ended: false,
        }
    }

    /// Keep so many requests unanswered on each connection; returns what became of them, in JSON.
    pub fn closed(mut self, in_flight: usize, warm_up: u64) -> Result<String, Fault> {
        let end = warm_up.saturating_add(self.arguments.duration);
        let (mut began, mut ended) = (Moment::default(), None::<Moment>);
        loop {
            let now = self.now();
            if !self.is_measuring && ended.is_none() && now >= warm_up {
                (began, self.is_measuring) = (self.moment(), true);
            }
            if ended.is_none() && (now >= end || self.outcome.sent >= self.arguments.requests || self.has_input_ended) {
                (ended, self.is_measuring) = (Some(self.moment()), false);
            }
            if ended.is_none() {
                self.fill(in_flight, now);
            }
            self.cancel(now);
            self.peers.flush()?;
            let give_up = ended.map_or(u64::MAX, |ended| ended.time + CLOSED_GRACE);
            if now >= give_up || ended.is_some() && !self.peers.are_expecting() {
                break;
            }
            let next = [warm_up, end, give_up].into_iter().filter(|time| *time > now).min().unwrap_or(now + GRACE);
            self.receive(next - now)?;
            self.outcome.sent_again += self.again.len() as u64;
            self.outcome.sent -= self.again.drain(..).count() as u64;
        }
        let ended = ended.unwrap_or(began);
        Ok(self.finish(began, ended))
    }

    /// Send requests at the times of a Poisson process; returns what became of them, in JSON.
    pub fn open(mut self, rate: f64, deadline: u64) -> Result<String, Fault> {
        let duration = self.arguments.duration;
        let mut schedule = Schedule::new(rate, duration, self.arguments.seed);
        let mut due = Vec::new();
        let mut expire_at = 0;
        let began = self.moment();
        self.is_measuring = true;
        loop {
            let now = self.now();
            while let Some(intended) = schedule.peek().filter(|intended| *intended <= now) {
                due.push(intended);
                self.outcome.offered += 1;
                schedule.advance();
            }
            if now >= expire_at {
                self.expire(&mut due, now, deadline);
                expire_at = now + EXPIRY;
            }
            self.send_due(&mut due, now, deadline);
            self.peers.flush()?;
            let waits = !due.is_empty() || !self.again.is_empty();
            let is_done = schedule.peek().is_none() && !waits && !self.peers.are_expecting();
            if is_done || now > duration + deadline + GRACE {
                self.expire(&mut due, u64::MAX, deadline);
                break;
            }
            let next = schedule.peek().map_or(deadline, |intended| intended - now);
            self.receive(if waits { next.min(HELD) } else { next })?;
        }
        let ended = Moment { time: duration, cpu: self.moment().cpu };
        Ok(self.finish(Moment { time: 0, ..began }, ended))
    }

    fn finish(mut self, began: Moment, ended: Moment) -> String {
        self.outcome.unanswered = self.peers.open() as u64;
        self.outcome.json((ended.time - began.time) as f64 / 1e9, (ended.cpu - began.cpu) as f64 / 1e9)
    }

    fn fill(&mut self, in_flight: usize, now: u64) {
        for place in 0..self.peers.all.len() {
            while self.peers.all[place].connection.open() < in_flight && self.has_room(place) && self.outcome.sent < self.arguments.requests
            {
                self.send(place, now, now);
                self.outcome.offered += 1;
                self.outcome.sent += 1;
            }
        }
    }

    /// Those that nobody waits for any longer.
    fn expire(&mut self, due: &mut Vec<u64>, now: u64, deadline: u64) {
        self.outcome.held_back += due.extract_if(.., |intended| *intended + deadline < now).count() as u64;
        for (sent, answered) in self.again.extract_if(.., |(sent, _)| sent.intended + deadline < now) {
            self.outcome.ended(sent, UNAVAILABLE, answered, deadline, true, 0);
        }
    }

    /// Spread what is due over the connections, in turn. Where there is no room for all, chance decides, as among callers that know nothing
    /// of one another.
    fn send_due(&mut self, due: &mut Vec<u64>, now: u64, deadline: u64) {
        let number = self.peers.all.len();
        let mut without_room = 0;
        while without_room < number && (!self.again.is_empty() || !due.is_empty()) {
            let place = self.turn % number;
            if !self.has_room(place) {
                self.turn += 1;
                without_room += 1;
                continue;
            }
            without_room = 0;
            if let Some((sent, _)) = self.again.pop() {
                self.outcome.sent_again += 1;
                self.send(place, sent.intended, now);
                continue;
            }
            let chosen = ((1.0 - self.random.share()) * due.len() as f64) as usize;
            let intended = due.swap_remove(chosen);
            if intended + deadline < now {
                self.outcome.held_back += 1;
                continue;
            }
            self.outcome.sent += 1;
            self.outcome.lateness.add(now - intended);
            self.send(place, intended, now);
        }
    }

    fn has_room(&self, place: usize) -> bool {
        let peer = &self.peers.all[place];
        peer.may_send() && peer.connection.has_room(&self.requests[self.turn % self.requests.len()])
    }

    fn send(&mut self, place: usize, intended: u64, now: u64) {
        let request = &self.requests[self.turn % self.requests.len()];
        self.turn += 1;
        let timeout = intended.saturating_add(self.arguments.deadline()).saturating_sub(now);
        let number = self.peers.all[place].connection.send(request, intended, now, timeout);
        if self.arguments.cancelled > 0.0 && self.random.share() <= self.arguments.cancelled {
            let after = self.random.share() * self.arguments.cancel_within as f64;
            self.cancellations.push(Reverse((now + after as u64, place, number)));
        }
    }

    fn cancel(&mut self, now: u64) {
        while let Some(Reverse((time, place, number))) = self.cancellations.peek().copied()
            && time <= now
        {
            self.cancellations.pop();
            self.outcome.cancelled += u64::from(self.peers.all[place].connection.cancel(number));
        }
    }

    /// Wait for answers, and take them.
    fn receive(&mut self, nanoseconds: u64) -> Result<(), Fault> {
        let until_cancel = self.cancellations.peek().map_or(u64::MAX, |Reverse((time, ..))| time.saturating_sub(self.now()));
        let ready = self.peers.wait(nanoseconds.min(until_cancel))?;
        self.has_input_ended |= ready.has_input_ended;
        let now = self.now();
        let (deadline, kept) = (self.arguments.deadline(), self.arguments.bodies);
        let Self { peers, outcome, again, is_measuring, .. } = self;
        for place in ready.readable {
            peers.receive(place, &mut |sent, end| match end {
                End::Status(status) => outcome.ended(sent, status, now, deadline, *is_measuring, kept),
                End::Refused => again.push((sent, now)),
            })?;
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn moment(&self) -> Moment {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        Moment { time: self.now(), cpu: used.tv_sec as u64 * 1_000 * MILLISECOND + used.tv_nsec as u64 }
    }
}
