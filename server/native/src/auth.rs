//! Who calls, as far as that is known without Python: credentials that are listed, and tokens that Python has verified before.
//!
//! A token is known by its SHA-256. A table of raw headers would be as quick (a JSON Web Token is a few hundred bytes to hash either way),
//! but would keep secrets in memory and compare them byte by byte; what the time of looking up a hash tells, nobody can steer.
//! Refusals are not kept: the next call may be right, Python words and logs each, and who makes tokens up fills nothing here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};

use crate::call::Peer;
use crate::grants::Known;

const SCHEME: &[u8] = b"bearer ";
/// Verified tokens that are kept: as many as `server/jwt_tokens.py` does.
const MAX_VERIFIED: usize = 4096;

/// The SHA-256 of a token.
pub type Digest = [u8; 32];

/// Credentials by what is known of them; replaced as a whole when a file of them changes.
#[derive(Default)]
struct Credentials {
    generation: u64,
    tokens: HashMap<Digest, Arc<Known>>,
    certificates: HashMap<String, Arc<Known>>,
    verified: Verified,
}

/// See the module.
#[derive(Default)]
pub struct Auth {
    credentials: Mutex<Credentials>,
}

impl Auth {
    /// Who sends a call with these headers on this connection, `now` in seconds since 1970; `None` if Python has to say.
    pub fn known(&self, headers: &HeaderMap, peer: &Peer, now: f64) -> Option<Arc<Known>> {
        let found = match shown(headers) {
            Shown::Nothing => self.lock().of_certificate(&peer.names)?,
            Shown::Token(token) => {
                let digest = digest_of(token);
                self.lock().of_token(&digest)?
            }
            Shown::Unusual => return None,
        };
        found.is_valid(now).then_some(found)
    }

    /// Know only these from now on.
    pub fn renew(&self, tokens: HashMap<Digest, Arc<Known>>, certificates: HashMap<String, Arc<Known>>) {
        let mut credentials = self.lock();
        let generation = credentials.generation + 1;
        let before = std::mem::replace(&mut *credentials, Credentials { generation, tokens, certificates, verified: Verified::default() });
        drop(credentials);
        // Many to free, without the lock.
        drop(before);
    }

    /// How often credentials were renewed: what is asked of Python is only as good as that.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Python has verified the token of these headers; `generation` is from before it was asked.
    pub fn remember(&self, generation: u64, headers: &HeaderMap, known: &Arc<Known>) {
        let Shown::Token(token) = shown(headers) else { return };
        let digest = digest_of(token);
        let mut credentials = self.lock();
        if credentials.generation == generation {
            credentials.verified.put(digest, known.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Credentials> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Credentials {
    fn of_token(&mut self, digest: &Digest) -> Option<Arc<Known>> {
        self.tokens.get(digest).or_else(|| self.verified.get(digest)).cloned()
    }

    fn of_certificate(&self, names: &[String]) -> Option<Arc<Known>> {
        names.iter().find_map(|name| self.certificates.get(name)).cloned()
    }
}

/// Tokens that were verified, in two halves: when the young one is full, what was not used since it was empty is forgotten.
#[derive(Default)]
struct Verified {
    young: HashMap<Digest, Arc<Known>>,
    old: HashMap<Digest, Arc<Known>>,
}

impl Verified {
    fn get(&mut self, digest: &Digest) -> Option<&Arc<Known>> {
        if let Some(known) = self.old.remove(digest) {
            self.put(*digest, known);
        }
        self.young.get(digest)
    }

    fn put(&mut self, digest: Digest, known: Arc<Known>) {
        if self.young.len() >= MAX_VERIFIED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, known);
    }
}

/// What the headers of a call say of who sends it.
#[derive(Debug, PartialEq)]
enum Shown<'a> {
    Nothing,
    Token(&'a [u8]),
    /// Python refuses it, or reads it in its own way.
    Unusual,
}

fn shown(headers: &HeaderMap) -> Shown<'_> {
    let mut stated = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = stated.next() else { return Shown::Nothing };
    match value.as_bytes().split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if stated.next().is_none() && scheme.eq_ignore_ascii_case(SCHEME) && token.is_ascii() => {
            Shown::Token(token.trim_ascii())
        }
        _ => Shown::Unusual,
    }
}

fn digest_of(token: &[u8]) -> Digest {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::tests::known;
    use http::HeaderValue;

    fn bearer(value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())])
    }

    fn peer(names: &[&str]) -> Peer {
        Peer { address: "ipv4:127.0.0.1:1".into(), names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn name(auth: &Auth, headers: &HeaderMap, now: f64) -> Option<String> {
        auth.known(headers, &peer(&[]), now).map(|known| known.principal.name.to_string())
    }

    fn listed(token: &str, expires: f64) -> HashMap<Digest, Arc<Known>> {
        HashMap::from([(digest_of(token.as_bytes()), Arc::new(known(token, &["*"], expires)))])
    }

    #[test]
    fn a_token_is_read_where_it_stands_once_behind_its_scheme() {
        for usual in [&b"Bearer a.b"[..], b"bEARER a.b", b"Bearer   a.b", b"Bearer a.b \t"] {
            assert_eq!(shown(&bearer(usual)), Shown::Token(b"a.b"));
        }
        for unusual in [&b""[..], b"Bearer", b"Basic a.b", b"Bearera.b", b"Bearer a\xff", b" Bearer a"] {
            assert_eq!(shown(&bearer(unusual)), Shown::Unusual);
        }
        let mut twice = bearer(b"Bearer a");
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(shown(&twice), Shown::Unusual);
        assert_eq!(shown(&HeaderMap::new()), Shown::Nothing);
    }

    #[test]
    fn a_listed_token_is_known_until_it_expires_or_is_listed_no_more() {
        let (auth, headers) = (Auth::default(), bearer(b"Bearer shop"));
        assert_eq!(name(&auth, &headers, 0.0), None);
        auth.renew(listed("shop", 10.0), HashMap::new());
        assert_eq!(name(&auth, &headers, 9.9), Some("shop".into()));
        assert_eq!(name(&auth, &headers, 10.0), None);
        auth.renew(listed("other", 10.0), HashMap::new());
        assert_eq!(name(&auth, &headers, 0.0), None);
    }

    #[test]
    fn a_verified_token_is_known_until_it_expires_or_credentials_are_renewed() {
        let (auth, headers) = (Auth::default(), bearer(b"Bearer a.b.c"));
        auth.remember(auth.generation(), &headers, &Arc::new(known("app", &["*"], 10.0)));
        assert_eq!(name(&auth, &headers, 9.9), Some("app".into()));
        assert_eq!(name(&auth, &headers, 10.0), None);
        auth.renew(HashMap::new(), HashMap::new());
        assert_eq!(name(&auth, &headers, 0.0), None);
    }

    #[test]
    fn what_was_asked_before_a_renewal_is_not_remembered_after_it() {
        let (auth, headers) = (Auth::default(), bearer(b"Bearer a.b.c"));
        let generation = auth.generation();
        auth.renew(HashMap::new(), HashMap::new());
        auth.remember(generation, &headers, &Arc::new(known("app", &["*"], 10.0)));
        assert_eq!(name(&auth, &headers, 0.0), None);
    }

    #[test]
    fn a_listed_token_that_expired_does_not_become_a_verified_one() {
        let (auth, headers) = (Auth::default(), bearer(b"Bearer a.b.c"));
        auth.renew(listed("a.b.c", 10.0), HashMap::new());
        auth.remember(auth.generation(), &headers, &Arc::new(known("app", &["*"], 20.0)));
        assert_eq!(name(&auth, &headers, 15.0), None);
    }

    #[test]
    fn the_first_name_of_a_certificate_that_is_listed_counts_where_there_is_no_token() {
        let auth = Auth::default();
        let certificates = ["a", "b"].map(|name| (name.to_owned(), Arc::new(known(name, &["*"], 10.0))));
        auth.renew(HashMap::new(), HashMap::from(certificates));
        let found =
            |headers: &HeaderMap, names: &[&str]| auth.known(headers, &peer(names), 0.0).map(|known| known.principal.name.to_string());
        assert_eq!(found(&HeaderMap::new(), &["x", "b", "a"]), Some("b".into()));
        assert_eq!(found(&HeaderMap::new(), &["x"]), None);
        assert_eq!(found(&bearer(b"Bearer x"), &["a"]), None);
        assert_eq!(found(&bearer(b"Basic x"), &["a"]), None);
    }

    #[test]
    fn many_tokens_take_bounded_memory_and_what_is_used_stays() {
        let (auth, used) = (Auth::default(), bearer(b"Bearer used"));
        let known = Arc::new(known("app", &["*"], 10.0));
        auth.remember(0, &used, &known);
        for number in 0..5 * MAX_VERIFIED {
            auth.remember(0, &bearer(format!("Bearer {number}").as_bytes()), &known);
            assert!(name(&auth, &used, 0.0).is_some());
        }
        let credentials = auth.lock();
        assert!(credentials.verified.young.len() + credentials.verified.old.len() <= MAX_VERIFIED);
    }
}
