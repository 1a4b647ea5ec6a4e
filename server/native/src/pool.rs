//! Memory for batches, used again and again: a batch is large enough that the system would be asked for it, and would clear it, each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Most that is kept for later.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// Buffers nobody uses now.
#[derive(Default)]
pub struct Pool {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    /// The parts, one behind the other, in memory that comes back to the pool once nobody has it any more.
    pub fn joined<'a>(self: &Arc<Self>, parts: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
        let size = parts.clone().map(<[u8]>::len).sum();
        let mut data = self.lock().take(size);
        parts.for_each(|part| data.extend_from_slice(part));
        Bytes::from_owner(Pooled { data, pool: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// An empty buffer with room for `size` bytes: the last that came back is the likeliest to be in a cache.
    fn take(&mut self, size: usize) -> Vec<u8> {
        let Some(place) = self.buffers.iter().rposition(|buffer| (size..=8 * size.max(1)).contains(&buffer.capacity())) else {
            return Vec::with_capacity(size);
        };
        let buffer = self.buffers.remove(place);
        self.bytes -= buffer.capacity();
        buffer
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.bytes += buffer.capacity();
        self.buffers.push(buffer);
        while self.bytes > MAX_KEPT_BYTES {
            self.bytes -= self.buffers.remove(0).capacity();
        }
    }
}

struct Pooled {
    data: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        self.pool.lock().give(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pool: &Arc<Pool>, size: usize) -> Bytes {
        pool.joined([&vec![7; size][..], b"end"].into_iter())
    }

    #[test]
    fn memory_that_nobody_has_any_more_is_used_again() {
        let pool = Arc::new(Pool::default());
        let first = joined(&pool, 1000);
        let place = first.as_ptr();
        let second = joined(&pool, 1000);
        assert_ne!(second.as_ptr(), place);
        drop(first);
        let third = joined(&pool, 900);
        assert_eq!((third.as_ptr(), third.len(), &third[900..]), (place, 903, &b"end"[..]));
    }

    #[test]
    fn what_is_kept_is_bounded_and_small_batches_do_not_hold_large_memory() {
        let pool = Arc::new(Pool::default());
        let all: Vec<Bytes> = (0..10).map(|_| joined(&pool, MAX_KEPT_BYTES / 4)).collect();
        drop(all);
        let kept = pool.lock();
        let capacities: usize = kept.buffers.iter().map(Vec::capacity).sum();
        assert!(kept.bytes == capacities && capacities <= MAX_KEPT_BYTES);
        drop(kept);
        let small = joined(&pool, 10);
        assert_eq!(pool.lock().buffers.len(), 3);
        drop(small);
    }
}
