"""What the daemon says about how it follows the registry: a value for metrics. Following is `follower`'s, loading is `loader`'s."""

from collections.abc import Mapping
from dataclasses import dataclass

from server.counts import VersionKey


@dataclass(frozen=True)
class Lifecycle:
    """How well the daemon follows its registry.

    `reachable` says whether the registry could be read when last tried; `age_seconds` how long ago every log of it was read to its end.
    `load_failures` counts, for each version, the times it did not load; `fallbacks` gives, for each model whose stable version does not
    load, the version that answers in its place. `memory_budget` is in bytes, 0 if there is none.
    """

    reachable: bool
    age_seconds: float
    load_failures: Mapping[VersionKey, int]
    fallbacks: Mapping[str, int]
    memory_budget: int
