"""The seam to experiment tracking. Implementation: `comet_tracker`."""

from collections.abc import Mapping
from typing import Protocol


class Tracker(Protocol):
    """One experiment: the training of one candidate."""

    def params(self, values: Mapping[str, float | int | str]) -> None:
        """Record what was chosen."""
        ...

    def metrics(self, values: Mapping[str, float]) -> None:
        """Record what was measured."""
        ...

    def file(self, name: str, content: bytes) -> None:
        """Keep a small file with the experiment."""
        ...

    def end(self) -> str:
        """Close the experiment, once, and return its key."""
        ...
