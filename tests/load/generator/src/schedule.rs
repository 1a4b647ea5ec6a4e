//! When requests are meant to be sent: a Poisson process that a seed repeats; and the random numbers for it.

/// The generator of Sebastiano Vigna called `SplitMix64`.
pub struct Random(pub u64);

impl Random {
    /// In (0, 1].
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + f64::EPSILON / 2.0
    }
}

/// Times in nanoseconds from the start, ascending, `rate` a second on average, before `end`.
pub struct Schedule {
    random: Random,
    mean: f64,
    next: f64,
    end: f64,
}

impl Schedule {
    pub fn new(rate: f64, end: u64, seed: u64) -> Self {
        let mut schedule = Self { random: Random(seed), mean: 1e9 / rate, next: 0.0, end: end as f64 };
        schedule.advance();
        schedule
    }

    /// The time of the next one, if there is one.
    pub fn peek(&self) -> Option<u64> {
        (self.next < self.end).then_some(self.next as u64)
    }

    pub fn advance(&mut self) {
        self.next -= self.mean * self.random.share().ln();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seed: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(5_000.0, 4_000_000_000, seed);
        std::iter::from_fn(|| {
            let next = schedule.peek();
            schedule.advance();
            next
        })
        .collect()
    }

    #[test]
    fn it_is_a_poisson_process_that_a_seed_repeats() {
        let seen = times(1);
        assert_eq!(seen, times(1));
        assert_ne!(seen, times(2));
        assert!((seen.len() as f64 - 20_000.0).abs() < 6.0 * 20_000_f64.sqrt());
        let gaps: Vec<f64> = seen.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.05, "{deviation} beside {mean}");
    }
}
