"""When a failed call may be tried again, and after how long. Pure: time and chance are handed in.

Tried again is only what the server says it has not looked at: UNAVAILABLE, and RESOURCE_EXHAUSTED that says when to come back. An inference
that broke off in the middle may come back as UNAVAILABLE too; it changes nothing but the logs, where both have one prediction id.
"""

import math
from dataclasses import dataclass

from tidegate_client.errors import InputError, OverloadedError, TidegateError, UnavailableError

_FIRST = 0.1
_LONGEST = 2.0
_DOUBLINGS = 10  # beyond the longest pause anyway; a power without a limit overflows


@dataclass(frozen=True)
class Deadline:
    """A moment by which a call and all its retries have to be over."""

    at: float
    """Seconds on the clock of the caller."""
    timeout: float
    """Seconds it was away when it was set."""

    def remaining(self, now: float) -> float:
        """Seconds left; negative if it has passed."""
        return self.at - now


def deadline(timeout: float, now: float) -> Deadline:
    """The deadline `timeout` seconds from `now`.

    Raises:
        InputError: unless the timeout is a positive, finite number.
    """
    if not 0 < timeout < math.inf:
        raise InputError(f"timeout must be a positive number of seconds, not {timeout!r}")
    return Deadline(now + timeout, timeout)


def pause(error: TidegateError, attempt: int, chance: float) -> float | None:
    """Seconds to wait before trying again after failed attempt number `attempt` (0, 1, ...); None if it must not be tried again.

    `chance` is uniform in [0, 1): it spreads clients that failed together.
    """
    backoff = min(_LONGEST, _FIRST * 2.0 ** min(attempt, _DOUBLINGS)) * (0.5 + 0.5 * chance)
    if isinstance(error, OverloadedError) and error.retry_after is not None:
        return error.retry_after + backoff
    if isinstance(error, UnavailableError):
        return (error.retry_after or 0.0) + backoff
    return None
