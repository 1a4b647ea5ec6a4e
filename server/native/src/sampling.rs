//! Which requests are logged: the same answer as `is_in_share` of `server/prediction_table.py`, in whatever process a request is answered.

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

/// What SHA-256 starts from (FIPS 180-4, 5.3.3), and how many bytes a block of it holds beside a mark of their end and their number (5.1.1).
const START: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const MOST_IN_BLOCK: usize = 55;

/// A share of all requests, chosen by a hash of their ids.
#[derive(Clone, Copy)]
pub struct Sampling {
    /// Chosen are those with a hash below it.
    below: u128,
}

impl Sampling {
    pub fn new(share: f64) -> Self {
        // A whole number is below another one as soon as it is below the next whole number, and all of 64 bits are below 2^64.
        Sampling { below: (share * 2_f64.powi(64)).ceil() as u128 }
    }

    /// Whether the request with this id is logged: by the first 8 bytes, big-endian, of the SHA-256 of it.
    pub fn has(self, id: &[u8]) -> bool {
        self.below > u128::from(u64::MAX) || u128::from(hash(id)) < self.below
    }
}

/// The first 8 bytes of the SHA-256 of an id.
fn hash(id: &[u8]) -> u64 {
    let Some(block) = block(id) else {
        return Sha256::digest(id).iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    };
    let mut state = START;
    compress256(&mut state, &[block]);
    u64::from(state[0]) << 32 | u64::from(state[1])
}

/// The only block of what is hashed, if it fits into one, as nearly all ids do: what is made for any length takes half as long again for it.
fn block(id: &[u8]) -> Option<[u8; 64]> {
    let mut block = [0; 64];
    block[..MOST_IN_BLOCK].get_mut(..id.len())?.copy_from_slice(id);
    block[id.len()] = 0x80;
    block[MOST_IN_BLOCK + 1..].copy_from_slice(&(8 * id.len() as u64).to_be_bytes());
    Some(block)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pyo3::prelude::*;
    use pyo3::types::IntoPyDict;

    use super::*;
    use crate::encoding::seeded;

    /// What Python says, in the words of the reference.
    fn is_in_share(prediction_id: &str, share: f64) -> bool {
        let rule = c"int.from_bytes(__import__('hashlib').sha256(prediction_id.encode()).digest()[:8]) < share * 2.0**64";
        Python::initialize();
        Python::attach(|py| {
            let names = [("prediction_id", prediction_id.into_pyobject(py)?.into_any()), ("share", share.into_pyobject(py)?.into_any())];
            py.eval(rule, None, Some(&names.into_py_dict(py)?))?.extract()
        })
        .expect("a truth")
    }

    proptest! {
        #![proptest_config(seeded())]

        #[test]
        fn python_chooses_the_same(id in prop_oneof!["\\PC{0,200}", "[a-z]{50,60}"], share in prop_oneof![0.0..1.0, 0.0..1e-3, Just(1.0)]) {
            prop_assert_eq!(Sampling::new(share).has(id.as_bytes()), is_in_share(&id, share));
            // Where one of them would be the first to see it: at the hash itself, and at the nearest shares beside it.
            let edge = hash(id.as_bytes()) as f64 / 2_f64.powi(64);
            for share in [edge.next_down(), edge, edge.next_up()] {
                prop_assert_eq!(Sampling::new(share).has(id.as_bytes()), is_in_share(&id, share));
            }
        }
    }

    #[test]
    fn a_whole_share_has_all_and_none_has_nobody() {
        for id in ["", "a", "id-7"] {
            assert!(Sampling::new(1.0).has(id.as_bytes()) && Sampling::new(7.0).has(id.as_bytes()));
            assert!(!Sampling::new(0.0).has(id.as_bytes()) && !Sampling::new(f64::NAN).has(id.as_bytes()));
        }
    }

    /// `cargo test --release -- --ignored --nocapture costs_of_choosing`.
    #[test]
    #[ignore = "says how long it takes"]
    fn costs_of_choosing() {
        for length in [20, 36, 55, 56, 200] {
            let ids: Vec<Vec<u8>> = (0..1000_u32).map(|number| [vec![b'x'; length - 4], number.to_le_bytes().to_vec()].concat()).collect();
            let turn = || {
                let begun = std::time::Instant::now();
                let chosen = ids.iter().filter(|id| Sampling::new(0.01).has(id)).count();
                assert!(chosen < 50);
                begun.elapsed()
            };
            let shortest = (0..2000).map(|_| turn()).min().unwrap_or_default();
            eprintln!("ids of {length} bytes: {:.0} ns a request", shortest.as_secs_f64() * 1e9 / ids.len() as f64);
        }
    }
}
