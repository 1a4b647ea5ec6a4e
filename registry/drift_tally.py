"""Counts of all features of a profile as one value, which adds up and has differences. What they say is in `drift`."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from registry.profile import Counts, Profile


@dataclass(frozen=True, eq=False)
class Tally:
    """Rows, and how many of their values fell into each bin.

    `counts` is int64 [bins of all features], the features in the order of `Profile.features`. It is never changed in place: tallies share
    it.
    """

    rows: int
    counts: Counts

    @classmethod
    def nothing(cls, profile: Profile) -> Self:
        """No rows."""
        return cls(0, np.zeros(starts(profile)[-1], np.int64))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.rows + other.rows, self.counts + other.counts)

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(self.rows - other.rows, self.counts - other.counts)

    def by_feature(self, profile: Profile) -> list[Counts]:
        """The counts [bins] of each feature, as `drift.evaluate` takes them."""
        return np.split(self.counts, starts(profile)[1:-1]) if profile.features else []


def starts(profile: Profile) -> NDArray[np.int64]:
    """Where in `Tally.counts` the bins of each feature begin, and where the last ends: int64 [features + 1]."""
    sizes = [len(feature.reference) for feature in profile.features]
    return np.cumsum([0, *sizes], dtype=np.int64)
