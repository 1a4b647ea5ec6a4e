"""The state of a model: the fold of its log, a pure function. No I/O, no clock; the past is the same fold stopped earlier."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from registry.commit import Commit, Kind
from registry.errors import FormatError, VersionUnknownError
from registry.names import PRODUCTION, STAGING


@dataclass(frozen=True)
class Version:
    """A registered version and the commit that made it visible."""

    number: int
    manifest: str
    """sha256 of manifest.json"""
    registered: datetime
    actor: str
    reason: str


@dataclass(frozen=True)
class Route:
    """Which version answers production traffic, and since which commit."""

    stable: int
    seq: int
    since: datetime


@dataclass(frozen=True)
class ModelState:
    """Everything the log of one model says, up to and including commit `seq` (0: nothing yet)."""

    model: str
    seq: int = 0
    head: str | None = None
    """sha256 of the last commit"""
    versions: Mapping[int, Version] = field(default_factory=lambda: MappingProxyType({}))
    staging: int | None = None
    routes: tuple[Route, ...] = ()
    """The present production route is the last; the ones before it are what a rollback returns to."""
    updated: datetime | None = None
    """time of the last commit; within a log times never go back"""

    @property
    def route(self) -> Route | None:
        """The present production route."""
        return self.routes[-1] if self.routes else None

    @property
    def previous_route(self) -> Route | None:
        """The route a rollback returns to."""
        return self.routes[-2] if len(self.routes) > 1 else None

    @property
    def production(self) -> int | None:
        """The version in the production stage."""
        return self.route.stable if self.route else None

    def stage_of(self, version: int) -> str:
        """The stage of a version: `production`, `staging` or an empty string."""
        if version == self.production:
            return PRODUCTION
        return STAGING if version == self.staging else ""

    def version(self, number: int) -> Version:
        """The version of this number.

        Raises:
            VersionUnknownError: if it is not registered.
        """
        if number not in self.versions:
            known = ", ".join(map(str, self.versions)) or "none"
            raise VersionUnknownError(f"model {self.model!r} has no version {number}; registered: {known}")
        return self.versions[number]


def fold(state: ModelState, commits: Iterable[Commit]) -> ModelState:
    """The state after `commits`, which follow `state` without a gap.

    Raises:
        FormatError: if a commit is out of place or its payload is not what its kind says.
    """
    for commit in commits:
        if commit.model != state.model or commit.seq != state.seq + 1 or commit.previous != state.head:
            raise FormatError(f"commit {commit.seq} of {state.model!r} does not follow commit {state.seq}: the log is broken, run verify")
        try:
            state = replace(_apply(state, commit), seq=commit.seq, head=commit.digest, updated=commit.time)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FormatError(f"commit {commit.seq} of {state.model!r} has a malformed payload: {error!r}") from error
    return state


def _apply(state: ModelState, commit: Commit) -> ModelState:
    match commit.kind:
        case Kind.REGISTERED:
            version = Version(
                number=_integer(commit, "version"),
                manifest=str(commit.payload["manifest"]),
                registered=commit.time,
                actor=commit.change.actor,
                reason=commit.change.reason,
            )
            return replace(state, versions=MappingProxyType({**state.versions, version.number: version}))
        case Kind.STAGED:
            return replace(state, staging=_integer(commit, "version"))
        case Kind.ROUTED:
            return _routed(state, (*state.routes, Route(_integer(commit, "stable"), commit.seq, commit.time)))
        case Kind.ROLLED_BACK:
            return _routed(state, state.routes[:-1])


def _routed(state: ModelState, routes: tuple[Route, ...]) -> ModelState:
    # A version is in one stage: what answers production traffic, by promotion or by rollback, leaves staging.
    state = replace(state, routes=routes)
    return replace(state, staging=None) if state.staging == state.production else state


def _integer(commit: Commit, key: str) -> int:
    value = commit.payload[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{key} is not an integer")
    return value
