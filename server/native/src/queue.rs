//! Who is next: the requests that wait for one version, by priority, and within a priority in turns between callers. No thread lives here.
//!
//! The same order as `server/grpcio_transport/fair_queue.py`: deficit round robin (Shreedhar and Varghese 1995) in rows.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Hashes the keys of requests: they are numbers that count up, and ours.
#[derive(Clone, Copy, Default)]
pub struct KeyHasher(u64);

pub type ByKey = BuildHasherDefault<KeyHasher>;

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is a number");
    }

    fn write_u64(&mut self, key: u64) {
        // Fibonacci hashing (Knuth, TAOCP 3, 6.4): the table looks at the low bits and at the high ones.
        self.0 = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The levels, first served first; the last is for copies nobody waits for.
pub const LEVELS: usize = 4;
pub const SHADOW: usize = 3;
const QUANTUM: usize = 64;

/// What the queue has to know of a request, beside what it is: `shape` must be alike for two to share a batch.
pub struct Ticket {
    pub rows: usize,
    pub level: usize,
    pub caller: Arc<str>,
    pub shape: Vec<usize>,
}

/// The rows `start` to `stop` of the request with this key, as part of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub key: u64,
    pub start: usize,
    pub stop: usize,
}

struct Waiting {
    ticket: Ticket,
    taken: usize,
}

/// A request of more than `max_rows` rows is served in pieces, any other whole.
pub struct FairQueue {
    max_rows: usize,
    waiting: HashMap<u64, Waiting, ByKey>,
    levels: [Level; LEVELS],
    next: u64,
    rows: usize,
    batches: u64,
}

impl FairQueue {
    pub fn new(max_rows: usize) -> Self {
        FairQueue { max_rows, waiting: HashMap::default(), levels: Default::default(), next: 0, rows: 0, batches: 0 }
    }

    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Wait behind the other requests of the same caller and level; returns the key of the request.
    pub fn push(&mut self, ticket: Ticket) -> u64 {
        let key = self.next;
        self.next += 1;
        self.rows += ticket.rows;
        self.levels[ticket.level].push(key, &ticket);
        self.waiting.insert(key, Waiting { ticket, taken: 0 });
        key
    }

    /// Wait no more: what no batch has taken yet never will be. False if all of it is taken already.
    pub fn drop(&mut self, key: u64) -> bool {
        let Some(gone) = self.waiting.remove(&key) else { return false };
        let left = gone.ticket.rows - gone.taken;
        self.rows -= left;
        self.levels[gone.ticket.level].drop(&gone.ticket, left);
        true
    }

    /// Rows that may be served before a new request of this level, caller and size, if no other comes.
    pub fn ahead(&self, level: usize, caller: &str, rows: usize) -> usize {
        self.levels[..level].iter().map(|level| level.rows).sum::<usize>() + self.levels[level].ahead(caller, rows)
    }

    /// The next batch: pieces of one shape with at most `max_rows` rows; empty if nothing waits.
    pub fn take(&mut self) -> Vec<Piece> {
        self.batches += 1;
        let mut batch = Gathering { number: self.batches, max_rows: self.max_rows, room: self.max_rows, shape: None, pieces: Vec::new() };
        for level in &mut self.levels {
            level.fill(&mut batch, &mut self.waiting);
            if batch.room == 0 {
                break;
            }
        }
        self.rows -= self.max_rows - batch.room;
        batch.pieces
    }
}

/// A batch in the making: `room` rows still fit.
struct Gathering {
    number: u64,
    max_rows: usize,
    room: usize,
    shape: Option<Vec<usize>>,
    pieces: Vec<Piece>,
}

impl Gathering {
    fn accepts(&self, ticket: &Ticket) -> bool {
        let Some(shape) = &self.shape else { return true };
        (ticket.rows <= self.room || ticket.rows > self.max_rows) && *shape == ticket.shape
    }

    fn add(&mut self, key: u64, waiting: &mut Waiting, rows: usize) {
        self.room -= rows;
        let start = waiting.taken;
        waiting.taken += rows;
        if start > 0
            && let Some(piece) = self.pieces.iter_mut().find(|piece| piece.key == key)
        {
            piece.stop += rows;
            return;
        }
        if self.shape.is_none() {
            self.shape = Some(waiting.ticket.shape.clone());
        }
        self.pieces.push(Piece { key, start, stop: start + rows });
    }
}

#[derive(Default)]
struct Caller {
    /// Keys in their order; those given up are still among them.
    waiting: VecDeque<u64>,
    live: usize,
    rows: usize,
    credit: usize,
    /// The last batch that has something of it.
    served: u64,
}

/// The callers of one priority, in the order of their turns; only those with something that waits.
#[derive(Default)]
struct Level {
    rows: usize,
    turns: VecDeque<Arc<str>>,
    callers: HashMap<Arc<str>, Caller>,
}

impl Level {
    fn push(&mut self, key: u64, ticket: &Ticket) {
        let caller = self.callers.entry(ticket.caller.clone()).or_default();
        if caller.live == 0 {
            self.turns.push_back(ticket.caller.clone());
        }
        caller.waiting.push_back(key);
        caller.live += 1;
        caller.rows += ticket.rows;
        self.rows += ticket.rows;
    }

    fn drop(&mut self, ticket: &Ticket, left: usize) {
        self.rows -= left;
        let Some(caller) = self.callers.get_mut(&ticket.caller) else { return };
        caller.rows -= left;
        caller.live -= 1;
        if caller.live == 0 {
            self.callers.remove(&ticket.caller);
            self.turns.retain(|name| *name != ticket.caller);
        }
    }

    fn ahead(&self, name: &str, rows: usize) -> usize {
        let caller = self.callers.get(name);
        let own = caller.map_or(0, |caller| caller.rows);
        let others = self.callers.len() - usize::from(caller.is_some());
        own + (self.rows - own).min(others * (own + rows + QUANTUM))
    }

    /// Give turns until the batch is full or nobody has anything that fits. Who was passed over is first in the next batch, those before the
    /// others who got nothing of this one: else one might be first for ever, and leave no room for another each time.
    fn fill(&mut self, batch: &mut Gathering, waiting: &mut HashMap<u64, Waiting, ByKey>) {
        let (mut passed, mut served) = (Vec::new(), Vec::new());
        while batch.room > 0
            && let Some(name) = self.turns.pop_front()
        {
            let alone = self.turns.is_empty() && passed.is_empty() && served.is_empty();
            let Some(caller) = self.callers.get_mut(&name) else { continue };
            caller.credit = if alone { batch.max_rows } else { caller.credit + QUANTUM };
            let (is_passed, rows) = serve(caller, batch, waiting);
            self.rows -= rows;
            if rows > 0 {
                caller.served = batch.number;
            }
            if is_passed {
                if caller.served == batch.number { served.push(name) } else { passed.push(name) }
            } else if caller.live > 0 {
                self.turns.push_back(name);
            } else {
                self.callers.remove(&name);
            }
        }
        for name in passed.into_iter().chain(served).rev() {
            self.turns.push_front(name);
        }
    }
}

/// One turn: whether the caller's next request cannot join this batch, and the rows it was given.
fn serve(caller: &mut Caller, batch: &mut Gathering, waiting: &mut HashMap<u64, Waiting, ByKey>) -> (bool, usize) {
    let mut given = 0;
    while batch.room > 0
        && let Some(&key) = caller.waiting.front()
    {
        let Some(next) = waiting.get_mut(&key) else {
            caller.waiting.pop_front();
            continue;
        };
        if !batch.accepts(&next.ticket) {
            return (true, given);
        }
        let left = next.ticket.rows - next.taken;
        let mut rows = left.min(batch.room);
        if rows > caller.credit && next.ticket.rows <= batch.max_rows {
            return (false, given);
        }
        rows = rows.min(caller.credit);
        if rows == 0 {
            return (false, given);
        }
        batch.add(key, next, rows);
        caller.credit -= rows;
        caller.rows -= rows;
        given += rows;
        if rows == left {
            caller.waiting.pop_front();
            caller.live -= 1;
            waiting.remove(&key);
        }
    }
    (false, given)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(rows: usize, level: usize, caller: &str) -> Ticket {
        Ticket { rows, level, caller: caller.into(), shape: vec![3] }
    }

    #[test]
    fn what_waits_is_taken_once_in_order_of_levels() {
        let mut queue = FairQueue::new(4);
        let low = queue.push(ticket(2, 2, "a"));
        let high = queue.push(ticket(2, 0, "a"));
        assert_eq!(queue.take(), [Piece { key: high, start: 0, stop: 2 }, Piece { key: low, start: 0, stop: 2 }]);
        assert_eq!((queue.rows(), queue.take().len()), (0, 0));
    }

    #[test]
    fn a_caller_with_very_many_rows_does_not_starve_another() {
        let mut queue = FairQueue::new(256);
        let many: Vec<u64> = (0..100).map(|_| queue.push(ticket(64, 1, "greedy"))).collect();
        let one = queue.push(ticket(1, 1, "modest"));
        let batch = queue.take();
        assert!(batch.iter().any(|piece| piece.key == one));
        assert!(batch.iter().filter(|piece| many.contains(&piece.key)).count() < 4);
    }

    #[test]
    fn a_request_larger_than_a_batch_comes_in_pieces_that_cover_it() {
        let mut queue = FairQueue::new(10);
        let key = queue.push(ticket(25, 1, "a"));
        let pieces: Vec<Piece> = (0..3).flat_map(|_| queue.take()).collect();
        assert_eq!(
            pieces.iter().map(|piece| (piece.key, piece.start, piece.stop)).collect::<Vec<_>>(),
            [(key, 0, 10), (key, 10, 20), (key, 20, 25)]
        );
    }

    #[test]
    fn what_is_given_up_is_never_taken_and_counts_no_more() {
        let mut queue = FairQueue::new(10);
        let keys: Vec<u64> = (0..4).map(|_| queue.push(ticket(3, 1, "a"))).collect();
        assert!(queue.drop(keys[1]));
        assert!(!queue.drop(keys[1]));
        assert_eq!((queue.rows(), queue.ahead(1, "a", 1)), (9, 9));
        assert_eq!(queue.take().iter().map(|piece| piece.key).collect::<Vec<_>>(), [keys[0], keys[2], keys[3]]);
        assert_eq!((queue.rows(), queue.ahead(1, "b", 1)), (0, 0));
    }

    #[test]
    fn shapes_do_not_mix() {
        let mut queue = FairQueue::new(10);
        let first = queue.push(ticket(1, 1, "a"));
        let other = queue.push(Ticket { shape: vec![4], ..ticket(1, 1, "a") });
        assert_eq!(queue.take()[0].key, first);
        assert_eq!(queue.take()[0].key, other);
    }

    #[test]
    fn who_never_fills_a_batch_is_not_first_for_ever() {
        let mut queue = FairQueue::new(100);
        let mut keys: Vec<u64> = (0..10).map(|_| queue.push(ticket(60, 1, "greedy"))).collect();
        keys.push(queue.push(ticket(60, 1, "modest")));
        let batches: Vec<u64> = (0..3).map(|_| queue.take()[0].key).collect();
        assert_eq!(batches, [keys[0], keys[10], keys[1]]);
    }
}
