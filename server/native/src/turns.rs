//! Turns to ask Python who calls: one at a time, and so many may wait.
//!
//! One at a time, as all share one interpreter, which the engine needs too; a token made up costs its sender a wait, and others nothing.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::Admission;
use crate::status::{self, Status};

/// Calls that may wait: that is a tenth of a second of verifying signatures.
pub const MAX_WAITING: usize = 1024;
const LEVEL: usize = 1;

/// Who waits for a turn: the same bounds, with a share for each caller, as for what waits to be computed.
pub struct Turns {
    turn: Arc<Semaphore>,
    waiting: Arc<Mutex<Admission>>,
}

/// A turn: the next one begins when this is dropped.
pub struct Turn {
    _turn: OwnedSemaphorePermit,
    _place: Place,
}

struct Place {
    waiting: Arc<Mutex<Admission>>,
    connection: Arc<str>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).release(&self.connection, LEVEL, 1, self.bytes);
    }
}

impl Turns {
    /// `max_bytes` bounds the messages of the calls that wait.
    pub fn new(max_bytes: usize) -> Self {
        Turns { turn: Arc::new(Semaphore::new(1)), waiting: Arc::new(Mutex::new(Admission::new(MAX_WAITING, max_bytes, Arc::default()))) }
    }

    /// The next turn, for a call with a message of `bytes`; refused where too many wait already.
    pub async fn next(&self, connection: &Arc<str>, bytes: usize) -> Result<Turn, Status> {
        let place = self.place(connection, bytes)?;
        // It is never closed.
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| Status::defect())?;
        Ok(Turn { _turn: turn, _place: place })
    }

    fn place(&self, connection: &Arc<str>, bytes: usize) -> Result<Place, Status> {
        let admitted = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).admit(connection, LEVEL, 1, bytes);
        admitted.map_err(|_| {
            let text = "as many credentials as may wait to be verified: try again later";
            Status::refusal(status::RESOURCE_EXHAUSTED, "QUEUE_FULL", text, Some(0.1))
        })?;
        Ok(Place { waiting: self.waiting.clone(), connection: connection.clone(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_wait_and_no_connection_takes_all_places() {
        let turns = Turns::new(1 << 20);
        let (greedy, modest): (Arc<str>, Arc<str>) = ("greedy".into(), "modest".into());
        let places: Vec<Place> = std::iter::from_fn(|| turns.place(&greedy, 1).ok()).collect();
        assert_eq!(places.len(), MAX_WAITING * 3 / 4);
        let others: Vec<Place> = std::iter::from_fn(|| turns.place(&modest, 1).ok()).collect();
        assert_eq!(places.len() + others.len(), MAX_WAITING);
        drop(places);
        assert!(turns.place(&modest, 1).is_ok());
    }

    #[test]
    fn so_many_bytes_wait() {
        let turns = Turns::new(1000);
        let connections: [Arc<str>; 3] = ["a", "b", "c"].map(Into::into);
        let places: Vec<Place> = connections.iter().filter_map(|connection| turns.place(connection, 400).ok()).collect();
        assert_eq!(places.len(), 2);
    }
}
