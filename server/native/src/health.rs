//! Whether the daemon and each model serve, as `grpc.health.v1` says it. The same answers as `server/health.py`, without the interpreter.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use crate::wire::{self, Malformed, Value};

const SERVING: u64 = 1;
const NOT_SERVING: u64 = 2;
const SERVICE_UNKNOWN: u64 = 3;
/// Characters of a name that are kept as long as it is watched; no model has as long a name.
const LONGEST_NAME: usize = 256;
/// Bytes of a question that is read at all, as of every call that is no inference.
const LONGEST_REQUEST: usize = 4 << 20;

/// The status of the daemon, by an empty name, and of each model.
#[derive(Clone, Default)]
struct Statuses {
    serving: HashMap<Bytes, bool>,
    stopping: bool,
}

impl Statuses {
    fn of(&self, name: &[u8]) -> Option<u64> {
        let serving = self.serving.get(name).copied().or_else(|| name.is_empty().then_some(false))?;
        Some(if serving && !self.stopping { SERVING } else { NOT_SERVING })
    }
}

pub struct Health {
    statuses: watch::Sender<Statuses>,
}

impl Default for Health {
    fn default() -> Self {
        Health { statuses: watch::channel(Statuses::default()).0 }
    }
}

impl Health {
    /// Follow what is loaded. A model that was ever served is `NOT_SERVING` when it is gone, never unknown.
    pub fn install(&self, complete: bool, ready: impl Iterator<Item = (String, bool)>) {
        self.statuses.send_modify(|statuses| {
            statuses.serving.values_mut().for_each(|serving| *serving = false);
            statuses.serving.insert(Bytes::new(), complete);
            statuses.serving.extend(ready.map(|(name, ready)| (name.into(), ready)));
        });
    }

    /// Nothing serves from now on, whatever is installed.
    pub fn stop(&self) {
        self.statuses.send_modify(|statuses| statuses.stopping = true);
    }

    /// Answer a `HealthCheckRequest`; `None` if there is no such model.
    pub fn check(&self, request: Bytes) -> Result<Option<Bytes>, Malformed> {
        let name = service(request)?;
        Ok(self.statuses.borrow().of(&name).map(response))
    }

    /// The answers to a `HealthCheckRequest` from now on: one at once, and one at each change.
    pub fn watch(&self, request: Bytes) -> Result<Watch, Malformed> {
        let name = service(request)?;
        let text = std::str::from_utf8(&name).map_err(|_| Malformed)?;
        let end = text.char_indices().nth(LONGEST_NAME).map_or(name.len(), |(place, _)| place);
        Ok(Watch { name: name.slice(..end), told: None, statuses: self.statuses.subscribe() })
    }
}

pub struct Watch {
    name: Bytes,
    told: Option<u64>,
    statuses: watch::Receiver<Statuses>,
}

impl Watch {
    /// The next answer; `None` at the end of the daemon.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let now = self.statuses.borrow_and_update().of(&self.name).unwrap_or(SERVICE_UNKNOWN);
            if self.told != Some(now) {
                self.told = Some(now);
                return Some(response(now));
            }
            self.statuses.changed().await.ok()?;
        }
    }
}

fn service(mut request: Bytes) -> Result<Bytes, Malformed> {
    if request.len() > LONGEST_REQUEST {
        return Err(Malformed);
    }
    let mut name = Bytes::new();
    while let Some(field) = wire::field(&mut request, 0)? {
        if let (1, Value::Bytes(text)) = field {
            name = wire::text(text)?;
        }
    }
    Ok(name)
}

fn response(status: u64) -> Bytes {
    let mut response = BytesMut::new();
    wire::put_varint(&mut response, 1 << 3);
    wire::put_varint(&mut response, status);
    response.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_gone_is_not_serving_and_one_that_never_was_is_unknown() {
        let health = Health::default();
        health.install(true, [("m".to_owned(), true)].into_iter());
        assert_eq!(health.check(Bytes::from_static(b"\x0a\x01m")), Ok(Some(response(SERVING))));
        health.install(true, std::iter::empty());
        assert_eq!(health.check(Bytes::from_static(b"\x0a\x01m")), Ok(Some(response(NOT_SERVING))));
        assert_eq!(health.check(Bytes::from_static(b"\x0a\x01n")), Ok(None));
        assert_eq!(health.check(Bytes::new()), Ok(Some(response(SERVING))));
        health.stop();
        assert_eq!(health.check(Bytes::new()), Ok(Some(response(NOT_SERVING))));
    }
}
