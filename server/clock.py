"""The clock that windows of time are measured by."""

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Seconds since 1970; never less than before."""


def steady_clock() -> Clock:
    """A clock that is set once, now, by that of the machine: when that one is set anew, this one goes on."""
    epoch = time.time() - time.monotonic()
    return lambda: epoch + time.monotonic()
