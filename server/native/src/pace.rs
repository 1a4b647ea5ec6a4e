//! How long a number of rows will take, learnt from the batches that ran. Arithmetic only, the same as `server/grpcio_transport/pace.py`.

const DECAY: f64 = 0.95;
const FIRST_GUESS: f64 = 0.001;
const MOST_SLOWER: f64 = 4.0;

/// Seconds of a batch as a line in its rows, fitted by least squares with forgetting.
#[derive(Default)]
pub struct Pace {
    weight: f64,
    rows: f64,
    seconds: f64,
    rows_squared: f64,
    rows_seconds: f64,
}

impl Pace {
    /// A batch of `rows` rows took `seconds`.
    pub fn add(&mut self, rows: usize, seconds: f64) {
        let rows = rows as f64;
        let seconds = if self.weight > 0.0 { seconds.min(MOST_SLOWER * self.batch(rows) + FIRST_GUESS) } else { seconds };
        self.weight = self.weight * DECAY + 1.0;
        self.rows = self.rows * DECAY + rows;
        self.seconds = self.seconds * DECAY + seconds;
        self.rows_squared = self.rows_squared * DECAY + rows * rows;
        self.rows_seconds = self.rows_seconds * DECAY + rows * seconds;
    }

    /// Seconds that `rows` rows take in batches of at most `max_rows`.
    pub fn expect(&self, rows: usize, max_rows: usize) -> f64 {
        let rest = rows % max_rows;
        let last = if rest > 0 { self.batch(rest as f64) } else { 0.0 };
        (rows / max_rows) as f64 * self.batch(max_rows as f64) + last
    }

    fn batch(&self, rows: f64) -> f64 {
        if self.weight == 0.0 {
            return FIRST_GUESS;
        }
        let (mean_rows, mean_seconds) = (self.rows / self.weight, self.seconds / self.weight);
        let variance = self.rows_squared / self.weight - mean_rows * mean_rows;
        if variance < (0.1 * mean_rows) * (0.1 * mean_rows) {
            // Batches of one size say nothing about another.
            return mean_seconds;
        }
        let slope = ((self.rows_seconds / self.weight - mean_rows * mean_seconds) / variance).max(0.0);
        (mean_seconds + slope * (rows - mean_rows)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_learnt() {
        let mut pace = Pace::default();
        for _ in 0..400 {
            pace.add(10, 0.002);
            pace.add(100, 0.011);
        }
        assert!((pace.expect(50, 1000) - 0.006).abs() < 1e-6);
        assert!((pace.expect(150, 100) - 0.017).abs() < 1e-6);
    }

    #[test]
    fn before_the_first_batch_it_is_guessed() {
        assert!((Pace::default().expect(5, 10) - FIRST_GUESS).abs() < 1e-12);
    }
}
