//! What the program is asked to do, as `--name value` pairs.

use std::collections::HashMap;

use crate::Fault;

const SECOND: f64 = 1e9;

pub enum Kind {
    /// Each connection has so many requests unanswered at any time, or as many as the server allows.
    Closed { in_flight: usize, warm_up: u64 },
    /// A Poisson process of so many requests a second; each is worth nothing so long after it was meant to be sent.
    Open { rate: f64, deadline: u64 },
}

/// Times are in nanoseconds.
pub struct Arguments {
    pub address: String,
    pub path: String,
    /// A file of messages with gRPC's heads, one after the other: they take turns
    pub messages: String,
    pub connections: usize,
    pub kind: Kind,
    pub duration: u64,
    /// Most requests of a closed loop
    pub requests: u64,
    /// End when standard input does, if that is sooner
    pub is_attended: bool,
    pub seed: u64,
    /// Different answers that are told apart and reported
    pub bodies: usize,
    /// The share of requests that are cancelled, and the longest time until they are
    pub cancelled: f64,
    pub cancel_within: u64,
    /// A file with the authorities to trust: TLS is spoken
    pub authorities: Option<String>,
}

impl Arguments {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, Fault> {
        let mut given = Given::read(words)?;
        let kind = match given.number("--rate")? {
            Some(rate) => Kind::Open { rate, deadline: given.time("--deadline", 60.0)? },
            None => Kind::Closed { in_flight: given.whole("--in-flight", 1)? as usize, warm_up: given.time("--warm-up", 0.0)? },
        };
        let parsed = Self {
            address: given.text("--address")?,
            path: given.text("--path")?,
            messages: given.text("--messages")?,
            connections: given.whole("--connections", 1)?.max(1) as usize,
            kind,
            duration: given.time("--seconds", 1.0)?,
            requests: given.whole("--requests", u64::MAX)?,
            is_attended: given.whole("--attended", 0)? != 0,
            seed: given.whole("--seed", 1)?,
            bodies: given.whole("--bodies", 0)? as usize,
            cancelled: given.number("--cancelled")?.unwrap_or(0.0),
            cancel_within: given.time("--cancel-within", 0.0)?,
            authorities: given.0.remove("--authorities"),
        };
        match given.0.keys().next() {
            Some(name) => Err(format!("unknown: {name}").into()),
            None => Ok(parsed),
        }
    }

    /// How long a request is worth anything.
    pub fn deadline(&self) -> u64 {
        match self.kind {
            Kind::Open { deadline, .. } => deadline,
            Kind::Closed { .. } => u64::MAX,
        }
    }
}

struct Given(HashMap<String, String>);

impl Given {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Fault> {
        let mut given = HashMap::new();
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} without a value"))?;
            given.insert(name, value);
        }
        Ok(Self(given))
    }

    fn text(&mut self, name: &str) -> Result<String, Fault> {
        self.0.remove(name).ok_or_else(|| format!("{name} is missing").into())
    }

    fn number(&mut self, name: &str) -> Result<Option<f64>, Fault> {
        Ok(self.0.remove(name).map(|text| text.parse()).transpose()?)
    }

    fn time(&mut self, name: &str, without: f64) -> Result<u64, Fault> {
        Ok((self.number(name)?.unwrap_or(without) * SECOND) as u64)
    }

    fn whole(&mut self, name: &str, without: u64) -> Result<u64, Fault> {
        Ok(self.0.remove(name).map(|text| text.parse()).transpose()?.unwrap_or(without))
    }
}
