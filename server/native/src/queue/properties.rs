//! What holds for any order of coming, going and serving: the queue beside a plain list of what waits.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encoding::seeded;

#[derive(Clone, Debug)]
enum Step {
    Push { rows: usize, level: usize, caller: usize, shape: usize },
    Drop(usize),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let push = |most| (1..=most, 0..LEVELS, 0..4_usize, 0..2_usize);
    let pushed = |(rows, level, caller, shape)| Step::Push { rows, level, caller, shape };
    prop_oneof![
        6 => push(8_usize).prop_map(pushed),
        2 => push(300_usize).prop_map(pushed),
        1 => any::<usize>().prop_map(Step::Drop),
        4 => Just(Step::Take),
    ]
}

#[derive(Clone, Copy)]
struct Left {
    rows: usize,
    taken: usize,
    level: usize,
    shape: usize,
}

/// The queue, and what waits in it by key.
struct Beside {
    queue: FairQueue,
    max_rows: usize,
    left: BTreeMap<u64, Left>,
}

impl Beside {
    fn new(max_rows: usize) -> Self {
        Beside { queue: FairQueue::new(max_rows), max_rows, left: BTreeMap::new() }
    }

    fn push(&mut self, rows: usize, level: usize, caller: usize, shape: usize) -> u64 {
        let ticket = Ticket { rows, level, caller: caller.to_string().into(), shape: vec![shape] };
        let key = self.queue.push(ticket);
        assert!(self.left.insert(key, Left { rows, taken: 0, level, shape }).is_none(), "a key that was given before");
        key
    }

    fn follow(&mut self, step: &Step) {
        match *step {
            Step::Push { rows, level, caller, shape } => drop(self.push(rows, level, caller, shape)),
            Step::Take => drop(self.take()),
            Step::Drop(any) => {
                let key = self.left.keys().nth(any % self.left.len().max(1)).copied().unwrap_or(u64::MAX);
                assert_eq!(self.queue.drop(key), self.left.remove(&key).is_some());
                assert!(!self.queue.drop(key));
            }
        }
        assert_eq!(self.queue.rows(), self.rows());
    }

    fn rows(&self) -> usize {
        self.left.values().map(|left| left.rows - left.taken).sum()
    }

    fn take(&mut self) -> Vec<Piece> {
        let first = self.left.values().map(|left| left.level).min();
        let batch = self.queue.take();
        let rows: usize = batch.iter().map(|piece| piece.stop - piece.start).sum();
        assert!(rows <= self.max_rows, "{rows} rows in a batch");
        assert_eq!(batch.first().map(|piece| self.left[&piece.key].level), first, "the most urgent is first");
        if let Some(one) = batch.first().map(|piece| self.left[&piece.key].shape) {
            assert!(batch.iter().all(|piece| self.left[&piece.key].shape == one), "shapes are mixed");
        }
        for piece in &batch {
            let left = self.left.get_mut(&piece.key).expect("a request that waits no more");
            assert!(piece.start == left.taken && piece.start < piece.stop && piece.stop <= left.rows);
            assert!(left.rows > self.max_rows || (piece.start, piece.stop) == (0, left.rows), "a request that fits is served whole");
            left.taken = piece.stop;
            if left.taken == left.rows {
                self.left.remove(&piece.key);
            }
        }
        batch
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn every_row_is_served_once_with_its_like_or_given_up(max_rows in 1..150_usize, steps in vec(step(), 0..120)) {
        let mut beside = Beside::new(max_rows);
        for step in &steps {
            beside.follow(step);
        }
        // Each batch has something, so this ends.
        while !beside.left.is_empty() {
            prop_assert!(!beside.take().is_empty());
        }
        prop_assert!(beside.queue.take().is_empty());
        prop_assert_eq!(beside.queue.rows(), 0);
        prop_assert!(beside.queue.waiting.is_empty());
        prop_assert!(beside.queue.levels.iter().all(|level| level.callers.is_empty() && level.turns.is_empty() && level.rows == 0));
    }

    #[test]
    fn a_caller_with_one_request_is_not_starved_by_those_who_never_stop(
        max_rows in 1..150_usize, others in 1..4_usize, rows in 1..100_usize, size in 1..100_usize, shape in 0..2_usize
    ) {
        let mut beside = Beside::new(max_rows);
        let more = |beside: &mut Beside| {
            for place in 0..others * (max_rows / size + 1) {
                beside.push(size, 1, place % others, 0);
            }
        };
        more(&mut beside);
        let rows = rows.min(max_rows);
        let key = beside.push(rows, 1, others, shape);
        // Whoever is first has saved enough for its request after so many batches, gets it, and is last then.
        let most = others * (size.div_ceil(QUANTUM) + 1) + rows.div_ceil(QUANTUM) + 1;
        for _ in 0..most {
            if beside.take().iter().any(|piece| piece.key == key) {
                return Ok(());
            }
            more(&mut beside);
        }
        prop_assert!(false, "still waiting after {} batches", most);
    }
}
