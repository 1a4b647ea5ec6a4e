"""Which versions answer production traffic: the route, its JSON, and what makes one legal in itself. No I/O here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from registry.canonical import Json, JsonObject
from registry.errors import RuleError
from registry.fields import integer, items, mapping, reading
from registry.times import format_time, parse_time

STABLE, CANARY, SHADOW = "stable", "canary", "shadow"
"""The arms of a route."""
WHOLE = 100
"""The weights of a split are percent and add up to this."""
MAX_VERSIONS = 16
"""At most so many versions answer at once, and as many may shadow them: each of them is loaded."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where production traffic goes.

    `stable` is the arm of that name; every other version of `split` is a `canary`. `split` gives the percent of each version that answers
    and always has `stable` in it; `shadows` get a copy of what is asked, and nobody sees what they answer.
    """

    stable: int
    split: Mapping[int, int] = field(default_factory=dict)
    shadows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.split:
            object.__setattr__(self, "split", {self.stable: WHOLE})

    @property
    def versions(self) -> tuple[int, ...]:
        """All versions that have to be loaded: the stable one, the canaries, the shadows."""
        return tuple(dict.fromkeys((self.stable, *sorted(self.split), *self.shadows)))

    def to_json(self) -> JsonObject:
        """As it stands in a commit; `parse_target(target.to_json()) == target`."""
        value: dict[str, Json] = {"stable": self.stable}
        if self.split != {self.stable: WHOLE}:
            value["split"] = {str(version): weight for version, weight in self.split.items()}
        if self.shadows:
            value["shadows"] = list(self.shadows)
        return value

    def check(self) -> None:
        """Refuse what no route can be.

        Raises:
            RuleError: if the weights are no percentages or a version has two parts to play.
        """
        if self.stable not in self.split:
            raise RuleError(f"the split has no weight for version {self.stable}, which is the stable one")
        if min(self.split.values()) < 1 or sum(self.split.values()) != WHOLE:
            raise RuleError(
                f"the weights of a split are percent, each at least 1, {WHOLE} in all; these add up to {sum(self.split.values())}"
            )
        if len(set(self.shadows)) != len(self.shadows) or set(self.shadows) & set(self.split):
            raise RuleError("a version that answers cannot shadow as well, nor one shadow twice")
        if max(len(self.split), len(self.shadows)) > MAX_VERSIONS:
            raise RuleError(f"at most {MAX_VERSIONS} versions answer, and as many shadow: every one of them is kept loaded")


@dataclass(frozen=True, slots=True)
class Route:
    """A target, and the commit that made it the present one."""

    target: Target
    seq: int
    since: datetime

    @property
    def stable(self) -> int:
        """The version of the stable arm."""
        return self.target.stable

    def to_json(self) -> JsonObject:
        """As it stands in a checkpoint; `parse_route(route.to_json()) == route`."""
        return {**self.target.to_json(), "seq": self.seq, "since": format_time(self.since)}


def parse_target(value: JsonObject) -> Target:
    """A target from the payload of a commit.

    Raises:
        FormatError: if a field is missing or of another kind.
    """
    with reading("a route"):
        split = {_version(number): weight for number, weight in mapping({"split": {}, **value}, "split", int).items()}
        return Target(integer(value, "stable", 1), split, items({"shadows": [], **value}, "shadows", int))


def parse_route(value: JsonObject) -> Route:
    """A route from a checkpoint.

    Raises:
        FormatError: if a field is missing or of another kind.
    """
    target = parse_target(value)
    with reading("a route"):
        since = value["since"]
        return Route(target, integer(value, "seq", 1), parse_time(str(since)))


def _version(written: str) -> int:
    if not written.isdecimal() or str(int(written)) != written:
        raise ValueError(f"{written[:20]!r} is no version number")
    return int(written)
