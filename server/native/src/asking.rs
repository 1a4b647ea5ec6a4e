//! Authentication, step by step: what is known is said at once, and Python is asked in turn for the rest and for the words of refusals.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::call::{Head, Peer};
use crate::grants::Known;
use crate::pipeline::metadata;
use crate::shared::Shared;
use crate::status::Status;

/// After a refusal, Python is left alone for as long as it took, and at most so long: made-up tokens get half of the interpreter, not all.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// A call on its way, before its message is read: `bytes` is how many that has.
pub struct Asking {
    pub shared: Arc<Shared>,
    pub head: Rc<Head>,
    pub peer: Arc<Peer>,
    pub bytes: usize,
}

/// Who calls, if that is known without Python.
pub fn known(shared: &Shared, head: &Head, peer: &Peer) -> Option<Arc<Known>> {
    if !shared.authenticated {
        return Some(shared.anybody.clone());
    }
    shared.auth.known(&head.headers, peer, now())
}

impl Asking {
    /// Who calls.
    pub async fn identify(&self) -> Result<Arc<Known>, Status> {
        if let Some(known) = known(&self.shared, &self.head, &self.peer) {
            return Ok(known);
        }
        let turn = self.shared.turns.next(&self.peer.address, self.bytes).await?;
        // Whoever had the turn before may have asked the same.
        if let Some(known) = known(&self.shared, &self.head, &self.peer) {
            return Ok(known);
        }
        let (shared, headers, metadata, peer) = (self.shared.clone(), self.head.headers.clone(), metadata(&self.head), self.peer.clone());
        let asked = self.shared.on_python(move |functions| {
            let (began, generation) = (Instant::now(), shared.auth.generation());
            let known = functions.authenticate(metadata, &peer).map(Arc::new);
            match &known {
                Ok(known) => shared.auth.remember(generation, &headers, known),
                Err(_) => std::thread::sleep(began.elapsed().min(LONGEST_PAUSE)),
            }
            drop(turn);
            known
        });
        asked.await.unwrap_or_else(|| Err(Status::defect()))
    }

    /// Whether he who calls may have inferences of this model.
    pub async fn permit(&self, known: &Known, model: &Bytes) -> Result<(), Status> {
        if known.may(model) {
            return Ok(());
        }
        let turn = self.shared.turns.next(&self.peer.address, self.bytes).await?;
        let (model, metadata, peer) = (String::from_utf8_lossy(model).into_owned(), metadata(&self.head), self.peer.clone());
        let asked = self.shared.on_python(move |functions| {
            let permitted = functions.permit(&model, metadata, &peer);
            drop(turn);
            permitted
        });
        asked.await.unwrap_or_else(|| Err(Status::defect()))
    }

    /// Whether a stream may begin, whatever its messages will be about: one of inferences, or another.
    pub async fn admit(&self, infers: bool) -> Result<(), Status> {
        if infers && self.identify().await?.may_infer() {
            return Ok(());
        }
        let turn = self.shared.turns.next(&self.peer.address, self.bytes).await?;
        let (path, metadata, peer) = (self.head.path().to_owned(), metadata(&self.head), self.peer.clone());
        let asked = self.shared.on_python(move |functions| {
            let admitted = functions.admit(&path, metadata, &peer);
            drop(turn);
            admitted
        });
        asked.await.unwrap_or_else(|| Err(Status::defect()))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
