"""What a transport has counted since its start: immutable values. Counts only grow, so that replicas and restarts add up in Prometheus."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from registry.drift_windows import DriftWindows
from registry.profile import Profile
from registry.route import CANARY, SHADOW, STABLE

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)

COUNTED_ARMS = (STABLE, CANARY, SHADOW)
"""The arms that drift is counted of, each for itself"""
PRODUCTION_ARMS = (STABLE, CANARY)
"""Those of them whose answers callers get"""
PRODUCTION = ""
"""In the place of an arm: all of `PRODUCTION_ARMS` together"""

VersionKey: TypeAlias = tuple[str, int]
"""Model and version."""


@dataclass(frozen=True)
class Histogram:
    """How many values fell at or under each bound and over the one before; one more count for those over all; and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True)
class VersionCounts:
    """Of one version: histograms of the whole request, the wait in the queue and the run in seconds, and of the rows of a batch.

    `failed_seconds` is how much of the sum of `request_seconds` went to requests that failed. `last_answer` is when its last batch was
    done, in seconds since 1970; 0 before the first.
    """

    request_seconds: Histogram
    queue_seconds: Histogram
    compute_seconds: Histogram
    batch_rows: Histogram
    failed_seconds: float = 0.0
    last_answer: float = 0.0


@dataclass(frozen=True)
class DriftCounts:
    """What a version has counted of its traffic, in the bins of its profile.

    `arms` has the counts and windows of each of `COUNTED_ARMS`, and of production traffic under `PRODUCTION`; `uncounted` are the features
    whose counts are not, or not all, there.
    """

    profile: Profile
    arms: Mapping[str, DriftWindows]
    uncounted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Counters:
    """Everything a transport has counted. Labels are bounded: a request for an unknown model counts under empty names."""

    requests: Mapping[tuple[str, str, str, str], int]
    """By model, version, arm, gRPC status name"""
    rejected: Mapping[tuple[str, str], int]
    """By model, reason"""
    versions: Mapping[VersionKey, VersionCounts]
    queue_rows: Mapping[VersionKey, int]
    """Rows waiting now"""
    drift: Mapping[VersionKey, DriftCounts]
    """Of the loaded versions that have a profile"""
    in_flight: int = 0
    """Requests admitted and not answered yet"""
