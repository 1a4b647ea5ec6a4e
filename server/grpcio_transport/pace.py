"""How long a number of rows will take, learnt from the batches that ran. Arithmetic only."""

DECAY = 0.95
"""Weight that is left of a batch after one more: what happened 100 batches ago counts for nothing."""
FIRST_GUESS = 0.001
"""Seconds a batch takes until one has run."""
MOST_SLOWER = 4.0
"""A batch counts as at most so many times slower than expected: one that was held up does not speak for those to come, but a few do."""


class Pace:
    """Seconds of a batch as a line in its rows, `fixed + slope * rows`, fitted by least squares with forgetting."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._rows = 0.0
        self._seconds = 0.0
        self._rows_squared = 0.0
        self._rows_seconds = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """A batch of `rows` rows took `seconds`, from its beginning to that of the next, or to its last answer."""
        if self._weight:
            seconds = min(seconds, MOST_SLOWER * self._batch(rows) + FIRST_GUESS)
        self._weight = self._weight * DECAY + 1
        self._rows = self._rows * DECAY + rows
        self._seconds = self._seconds * DECAY + seconds
        self._rows_squared = self._rows_squared * DECAY + rows * rows
        self._rows_seconds = self._rows_seconds * DECAY + rows * seconds

    def expect(self, rows: int, max_rows: int) -> float:
        """Seconds that `rows` rows take in batches of at most `max_rows`."""
        full, rest = divmod(rows, max_rows)
        return full * self._batch(max_rows) + (self._batch(rest) if rest else 0.0)

    def _batch(self, rows: int) -> float:
        if not self._weight:
            return FIRST_GUESS
        mean_rows, mean_seconds = self._rows / self._weight, self._seconds / self._weight
        variance = self._rows_squared / self._weight - mean_rows**2
        if variance < (0.1 * mean_rows) ** 2:
            # Batches of one size say nothing about another. To think a larger one slower would refuse it, and so never learn.
            return mean_seconds
        slope = max(0.0, (self._rows_seconds / self._weight - mean_rows * mean_seconds) / variance)
        return max(0.0, mean_seconds + slope * (rows - mean_rows))
