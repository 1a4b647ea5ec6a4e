"""Whether memory grows: a line through what was resident at even steps. What the steps are is said by the figures."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

WARM_UP = 0.2
"""The share of the steps after which memory is looked at"""
MIB = 1 << 20


def slope(resident: NDArray[np.float64]) -> float:
    """MiB that memory grows at each step, of what was resident in bytes [n].

    The line of Theil and Sen, which moments with one more version in memory do not tilt.
    """
    return float(stats.theilslopes(resident[int(len(resident) * WARM_UP) :]).slope) / MIB
