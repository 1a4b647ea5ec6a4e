//! What one thread hands to another, one at a time. A channel of the standard library wakes the other thread while it holds a lock that this
//! one needs next: where both have but one core, every third batch waited for it and back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

struct Shared<T> {
    place: Mutex<Place<T>>,
    changed: Condvar,
}

struct Place<T> {
    item: Option<T>,
    is_over: bool,
}

/// Where it is put.
pub struct Giver<T>(Arc<Shared<T>>);

/// Where it is taken.
pub struct Taker<T>(Arc<Shared<T>>);

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    Item(T),
    /// It is time to do something else.
    Due,
    /// Nobody gives anything any more.
    Over,
}

pub fn handed<T>() -> (Giver<T>, Taker<T>) {
    let place = Mutex::new(Place { item: None, is_over: false });
    let shared = Arc::new(Shared { place, changed: Condvar::new() });
    (Giver(shared.clone()), Taker(shared))
}

impl<T> Shared<T> {
    fn place(&self) -> MutexGuard<'_, Place<T>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Giver<T> {
    /// Hand over `item`; it comes back if nobody takes anything any more. What was handed over before and not taken is dropped.
    pub fn give(&self, item: T) -> Result<(), T> {
        if Arc::strong_count(&self.0) == 1 {
            return Err(item);
        }
        // The lock is free again before the other thread wakes and takes it.
        self.0.place().item = Some(item);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.place().is_over = true;
        self.0.changed.notify_one();
    }
}

impl<T> Taker<T> {
    /// Wait for the next item, not longer than until it is `due`.
    pub fn take(&self, due: Option<Instant>) -> Taken<T> {
        let mut place = self.0.place();
        loop {
            if let Some(item) = place.item.take() {
                return Taken::Item(item);
            }
            if place.is_over {
                return Taken::Over;
            }
            place = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                None => self.0.changed.wait(place).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Taken::Due,
                Some(left) => self.0.changed.wait_timeout(place, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_item_is_taken_by_the_other_thread_and_then_the_end_is() {
        let (giver, taker) = handed();
        let (back, end) = handed();
        let other = thread::spawn(move || {
            while let Taken::Item(item) = taker.take(None) {
                assert!(back.give(item + 1).is_ok());
            }
        });
        for item in 0..10_000 {
            giver.give(item).unwrap();
            assert_eq!(end.take(None), Taken::Item(item + 1));
        }
        drop(giver);
        other.join().unwrap();
        assert_eq!(end.take(None), Taken::Over);
    }

    #[test]
    fn what_was_handed_over_is_taken_before_the_end() {
        let (giver, taker) = handed();
        giver.give(1).unwrap();
        drop(giver);
        assert_eq!((taker.take(None), taker.take(None)), (Taken::Item(1), Taken::Over));
    }

    #[test]
    fn it_waits_no_longer_than_it_may() {
        let (giver, taker) = handed::<u8>();
        let begun = Instant::now();
        assert_eq!(taker.take(Some(begun + Duration::from_millis(20))), Taken::Due);
        assert!(begun.elapsed() >= Duration::from_millis(20));
        giver.give(1).unwrap();
        assert_eq!(taker.take(Some(begun)), Taken::Item(1));
    }

    #[test]
    fn what_nobody_takes_comes_back() {
        let (giver, taker) = handed();
        drop(taker);
        assert_eq!(giver.give(1), Err(1));
    }
}
