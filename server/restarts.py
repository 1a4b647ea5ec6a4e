"""How long to wait before a replica that died is started again: pure. Starting and watching are `replicas`'."""

from dataclasses import dataclass

FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0
SETTLED_SECONDS = 60.0
"""A replica that lived as long is not one that cannot start."""


@dataclass(frozen=True)
class Restarts:
    """How many times in a row a replica died soon after its start."""

    quick_deaths: int = 0

    def after(self, lived: float) -> tuple[float, "Restarts"]:
        """A replica that lived so many seconds died: the seconds to wait, and what to remember of it."""
        quick_deaths = 0 if lived >= SETTLED_SECONDS else self.quick_deaths
        seconds = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(quick_deaths, 16))
        return seconds, Restarts(quick_deaths + 1)
