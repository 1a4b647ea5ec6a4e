//! Which loaded version answers a request, and as which arm. The same slots as `server/grpcio_transport/router.py`.

use std::collections::HashMap;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::lane::Lane;

const PRODUCTION: &[u8] = b"production";
const SLOTS: u64 = 100;

/// How a version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arm {
    Stable,
    Canary,
    Shadow,
    Direct,
}

impl Arm {
    pub const NUMBER: usize = 4;
    pub const ALL: [Arm; Self::NUMBER] = [Arm::Stable, Arm::Canary, Arm::Shadow, Arm::Direct];

    pub fn name(self) -> &'static str {
        ["stable", "canary", "shadow", "direct"][self as usize]
    }
}

/// One model as it is served now: what each label means, the canaries with their percent in the order of their numbers, and the shadows.
#[derive(Default)]
pub struct Model {
    pub labels: HashMap<Vec<u8>, Rc<Lane>>,
    pub canaries: Vec<(Rc<Lane>, u64)>,
    pub shadows: Vec<Rc<Lane>>,
}

/// All models, one immutable value.
#[derive(Default)]
pub struct Table {
    pub models: HashMap<Vec<u8>, Model>,
}

/// The version that answers, the arm it answers as, and whether shadows get a copy.
#[derive(Clone)]
pub struct Choice {
    pub lane: Rc<Lane>,
    pub arm: Arm,
    pub shadows: Vec<Rc<Lane>>,
}

impl Table {
    /// The version and the arm for a label; `key` decides between the versions of a split. `None` if there is none: Python says why.
    pub fn pick(&self, model: &[u8], label: &[u8], key: &[u8]) -> Option<Choice> {
        let served = self.models.get(model)?;
        if !label.is_empty() && label != PRODUCTION {
            return Some(Choice { lane: served.labels.get(label)?.clone(), arm: Arm::Direct, shadows: Vec::new() });
        }
        let stable = served.labels.get(PRODUCTION)?;
        let shadows = served.shadows.clone();
        match assigned(model, &served.canaries, key) {
            Some(canary) => Some(Choice { lane: canary.clone(), arm: Arm::Canary, shadows }),
            None => Some(Choice { lane: stable.clone(), arm: Arm::Stable, shadows }),
        }
    }
}

/// The canary that a key belongs to, by the first 8 bytes, big-endian, of the SHA-256 of model, a zero byte and key.
fn assigned<'a, T>(model: &[u8], canaries: &'a [(T, u64)], key: &[u8]) -> Option<&'a T> {
    if canaries.is_empty() {
        return None;
    }
    let hash = Sha256::new().chain_update(model).chain_update([0]).chain_update(key).finalize();
    let first = *hash.first_chunk()?;
    let mut slot = u64::from_be_bytes(first) % SLOTS;
    for (version, percent) in canaries {
        if slot < *percent {
            return Some(version);
        }
        slot -= percent;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_reference() {
        // python -c "from hashlib import sha256; print(int.from_bytes(sha256(b'm\0key-0').digest()[:8]) % 100)", and so on
        let slots = [73_u64, 76, 14];
        for (place, slot) in slots.into_iter().enumerate() {
            let key = format!("key-{place}");
            let canaries = [("a", slot), ("b", 1)];
            assert_eq!(assigned(b"m", &canaries, key.as_bytes()), Some(&"b"), "{key}");
        }
    }

    #[test]
    fn without_canaries_there_is_nothing_to_choose() {
        assert_eq!(assigned::<&str>(b"m", &[], b"key"), None);
    }
}
