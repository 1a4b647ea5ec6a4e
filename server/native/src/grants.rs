//! Whom a credential stands for, and which models he may have inferences of. The rules are those of `server/access.py`.

use std::sync::Arc;

use pyo3::prelude::*;

/// A name that can be a model's has no more: what is longer is for Python to refuse.
const MAX_NAME: usize = 63;

/// Who calls: a name, empty while authentication is off, and rate and burst in rows, 0 for none.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    pub name: Arc<str>,
    pub rate: f64,
    pub burst: f64,
}

/// A credential as Python gives it: see `server/native/credentials.py`.
#[derive(FromPyObject)]
pub struct Holder {
    name: String,
    rate: f64,
    burst: f64,
    models: Vec<String>,
    expires: f64,
}

/// Whom a credential stands for, what it lets him do, and until when, in seconds since 1970.
#[derive(Debug)]
pub struct Known {
    pub principal: Principal,
    models: Box<[Box<[u8]>]>,
    expires: f64,
}

impl Known {
    /// Whoever calls while authentication is off.
    pub fn anybody() -> Self {
        Holder { name: String::new(), rate: 0.0, burst: 0.0, models: vec!["*".into()], expires: f64::INFINITY }.into()
    }

    /// Whether it holds at that time, in seconds since 1970.
    pub fn is_valid(&self, now: f64) -> bool {
        now < self.expires
    }

    /// Whether he may have inferences of this model. No is not the last word: a name that no model can have is for Python to judge.
    pub fn may(&self, model: &[u8]) -> bool {
        let is_name = !model.is_empty() && model.len() <= MAX_NAME && model.is_ascii();
        self.models.iter().any(|glob| **glob == *b"*" || (is_name && matches(glob, model)))
    }

    /// Whether there is a model that he may have inferences of.
    pub fn may_infer(&self) -> bool {
        !self.models.is_empty()
    }
}

impl From<Holder> for Known {
    fn from(holder: Holder) -> Self {
        let principal = Principal { name: holder.name.into(), rate: holder.rate, burst: holder.burst };
        let models = holder.models.into_iter().map(|glob| glob.into_bytes().into()).collect();
        Known { principal, models, expires: holder.expires }
    }
}

/// Whether a name matches a glob of `*` and `?`: what follows the last `*` is tried further on until it fits.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star = None;
    while place < name.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at + 1, place));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[place] => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((after, tried)) = star else { return false };
                star = Some((after, tried + 1));
                (at, place) = (after, tried + 1);
            }
        }
    }
    glob[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A credential on models, until `expires`.
    pub fn known(name: &str, models: &[&str], expires: f64) -> Known {
        let models = models.iter().map(|glob| (*glob).to_owned()).collect();
        Holder { name: name.into(), rate: 0.0, burst: 0.0, models, expires }.into()
    }

    #[test]
    fn a_glob_is_that_of_fnmatch() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("fraud", &["fraud"], &["fraud2", "frau", "Fraud"]),
            ("fraud-*", &["fraud-", "fraud-eu", "fraud-eu-2"], &["fraud", "xfraud-eu"]),
            ("*-eu", &["a-eu", "-eu", "eu-eu-eu"], &["eu", "a-eu2"]),
            ("a?c", &["abc", "a-c"], &["ac", "abbc"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a", "b"]),
            ("a*?", &["ab", "abc"], &["a"]),
        ];
        for (glob, fitting, others) in cases {
            let known = known("a", &[glob], f64::INFINITY);
            assert!(fitting.iter().all(|model| known.may(model.as_bytes())), "{glob}");
            assert!(!others.iter().any(|model| known.may(model.as_bytes())), "{glob}");
        }
    }

    #[test]
    fn a_name_that_no_model_can_have_needs_the_right_to_all() {
        let (some, all) = (known("a", &["?*", "b"], f64::INFINITY), known("a", &["b", "*"], f64::INFINITY));
        for odd in [&b""[..], "ä".as_bytes(), &[b'x'; 64]] {
            assert!(!some.may(odd) && all.may(odd));
        }
        assert!(!known("a", &[], f64::INFINITY).may_infer() && some.may_infer());
    }
}
