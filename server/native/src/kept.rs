//! Bytes that are kept for callers who are slow: messages that are not whole yet, and answers that are not read yet. All of them together
//! are bounded, however many connections there are. Whose bytes they are is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// What all connections keep together.
pub struct Store {
    most: usize,
    used: AtomicUsize,
}

impl Store {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Store { most, used: AtomicUsize::new(0) })
    }
}

/// What one connection keeps.
pub struct Account {
    store: Arc<Store>,
    own: AtomicUsize,
}

impl Account {
    pub fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Account { store, own: AtomicUsize::new(0) })
    }

    /// Keep so many bytes more until what is returned is dropped, if there is room.
    ///
    /// A connection may keep as much as is left for others (Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet
    /// Switches", 1998): one alone half of it, two a third each, and however many are greedy, something is left for who comes next.
    pub fn keep(self: &Arc<Self>, bytes: usize) -> Option<Kept> {
        let used = self.store.used.load(Ordering::Relaxed);
        if used + self.own.load(Ordering::Relaxed) + bytes > self.store.most {
            return None;
        }
        self.store.used.fetch_add(bytes, Ordering::Relaxed);
        self.own.fetch_add(bytes, Ordering::Relaxed);
        Some(Kept { account: self.clone(), bytes })
    }
}

/// Bytes that count until this is dropped.
pub struct Kept {
    account: Arc<Account>,
    bytes: usize,
}

impl Kept {
    /// Those of `other` count with these.
    pub fn join(&mut self, mut other: Kept) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The same data; it counts for as long as any part of it is there.
    pub fn with(self, data: Bytes) -> Bytes {
        Bytes::from_owner(Counted { data, _kept: self })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.account.own.fetch_sub(self.bytes, Ordering::Relaxed);
        self.account.store.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Counted {
    data: Bytes,
    _kept: Kept,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_keeps_half_and_the_next_half_of_the_rest() {
        let store = Store::new(1000);
        let (greedy, next) = (Account::new(store.clone()), Account::new(store.clone()));
        let held: Vec<Kept> = (0..100).map_while(|_| greedy.keep(10)).collect();
        assert_eq!(held.len(), 50);
        let second: Vec<Kept> = (0..100).map_while(|_| next.keep(10)).collect();
        assert_eq!(second.len(), 25);
        drop(held);
        assert!(next.keep(300).is_some());
        drop(second);
        assert_eq!(store.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn data_counts_until_its_last_part_is_gone() {
        let store = Store::new(1000);
        let mut data = Account::new(store.clone()).keep(400).unwrap().with(Bytes::from_static(&[7; 400]));
        let part = data.split_to(100);
        drop(data);
        assert_eq!((store.used.load(Ordering::Relaxed), part.len()), (400, 100));
        drop(part);
        assert_eq!(store.used.load(Ordering::Relaxed), 0);
    }
}
