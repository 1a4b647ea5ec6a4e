//! What became of the requests: counts, times and answers, and how it is told.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use crate::connection::Sent;
use crate::histogram::Histogram;

/// `RESOURCE_EXHAUSTED` and `UNAVAILABLE`
const REFUSED: [u8; 2] = [8, 14];

#[derive(Default)]
pub struct Outcome {
    pub offered: u64,
    pub sent: u64,
    pub sent_again: u64,
    pub held_back: u64,
    pub unanswered: u64,
    pub cancelled: u64,
    statuses: BTreeMap<u8, u64>,
    /// The shortest and the longest OK answer
    lengths: Option<(u32, u32)>,
    accepted: Histogram,
    refused: Histogram,
    pub lateness: Histogram,
    /// OK answers that came while it was measured, and those of them before their deadline
    measured: u64,
    within: u64,
    bodies: HashMap<Vec<u8>, u64>,
    other_bodies: u64,
}

impl Outcome {
    /// A request ended with a status. `counts` says whether it was measured; `kept` how many different answers are told apart.
    pub fn ended(&mut self, sent: Sent, status: u8, now: u64, deadline: u64, counts: bool, kept: usize) {
        *self.statuses.entry(status).or_default() += 1;
        if REFUSED.contains(&status) {
            self.refused.add(now - sent.left);
        }
        if status != 0 {
            return;
        }
        let (shortest, longest) = self.lengths.unwrap_or((sent.length, sent.length));
        self.lengths = Some((shortest.min(sent.length), longest.max(sent.length)));
        if counts {
            let latency = now - sent.intended;
            self.measured += 1;
            self.within += u64::from(latency <= deadline);
            self.accepted.add(latency);
        }
        if kept > 0 {
            self.answer(sent.body, kept);
        }
    }

    fn answer(&mut self, body: Vec<u8>, kept: usize) {
        if let Some(count) = self.bodies.get_mut(&body) {
            *count += 1;
        } else if self.bodies.len() < kept {
            self.bodies.insert(body, 1);
        } else {
            self.other_bodies += 1;
        }
    }

    /// All of it in JSON, with how long it was measured and the processor time that this program took meanwhile.
    pub fn json(&self, seconds: f64, cpu_seconds: f64) -> String {
        let statuses = listed(self.statuses.iter().map(|(status, count)| format!("\"{status}\":{count}")));
        let bodies = listed(self.bodies.iter().map(|(body, count)| format!("[\"{}\",{count}]", hex(body))));
        let (shortest, longest) = self.lengths.unwrap_or((0, 0));
        let counts = [
            ("offered", self.offered),
            ("sent", self.sent),
            ("sent_again", self.sent_again),
            ("held_back", self.held_back),
            ("unanswered", self.unanswered),
            ("cancelled", self.cancelled),
            ("measured", self.measured),
            ("within", self.within),
            ("shortest", u64::from(shortest)),
            ("longest", u64::from(longest)),
            ("other_bodies", self.other_bodies),
        ];
        let counts = listed(counts.iter().map(|(name, count)| format!("\"{name}\":{count}")));
        let times = [("accepted", &self.accepted), ("refused", &self.refused), ("lateness", &self.lateness)];
        let times = listed(times.iter().map(|(name, times)| format!("\"{name}\":{}", times.json())));
        format!(
            "{{{counts},{times},\"statuses\":{{{statuses}}},\"bodies\":[{bodies}],\"seconds\":{seconds},\"cpu_seconds\":{cpu_seconds}}}"
        )
    }
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
