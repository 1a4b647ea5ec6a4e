//! Which requests are logged: the same answer as `is_in_share` of `server/prediction_table.py`, in whatever process a request is answered.

/// A share of all requests, chosen by a hash of their ids.
#[derive(Clone, Copy)]
pub struct Sampling {
    /// Chosen are those with a hash below it.
    below: u64,
}

impl Sampling {
    pub fn new(share: f64) -> Self {
        // A whole number is below another one as soon as it is below the next whole number, and all of 32 bits are below 2^32.
        Sampling { below: (share * 2_f64.powi(32)).ceil() as u64 }
    }

    /// Whether the request with this id is logged.
    pub fn has(self, id: &[u8]) -> bool {
        self.below > u64::from(u32::MAX) || u64::from(hash(id)) < self.below
    }
}

/// The CRC-32 of an id, through the last step of `MurmurHash3`: by itself it spreads ids that differ little too evenly, or in bursts.
fn hash(id: &[u8]) -> u32 {
    let mut hash = crc32fast::hash(id);
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
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
        let rule = c"[h := __import__('zlib').crc32(prediction_id.encode()), h := (h ^ h >> 16) * 0x85ebca6b & 0xffffffff, \
            h := (h ^ h >> 13) * 0xc2b2ae35 & 0xffffffff, (h ^ h >> 16) < share * 2.0**32][-1]";
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
        fn python_chooses_the_same(id in "\\PC{0,200}", share in prop_oneof![0.0..1.0, 0.0..1e-3, Just(1.0)]) {
            prop_assert_eq!(Sampling::new(share).has(id.as_bytes()), is_in_share(&id, share));
            // Where one of them would be the first to see it: at the hash itself, and at the nearest shares beside it.
            let edge = f64::from(hash(id.as_bytes())) / 2_f64.powi(32);
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
        for length in [20, 36, 200] {
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
