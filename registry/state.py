"""The state of a model: the fold of its log, a pure function. No I/O, no clock; the past is the same fold stopped earlier."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from registry.commit import Commit, Kind
from registry.errors import FormatError, VersionUnknownError
from registry.fields import integer, reading, text
from registry.names import MAX_VERSION, PRODUCTION, STAGING, check_digest
from registry.route import CANARY, SHADOW, STABLE, Route, parse_target
from registry.version import Version, Versions, evidence

ROUTES_KEPT = 100
"""So many rollbacks in a row are possible; a state that kept every route for ever would grow with the log."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """Everything the log of one model says, up to and including commit `seq` (0: nothing yet)."""

    model: str
    seq: int = 0
    head: str | None = None
    """sha256 of the last commit"""
    versions: Versions = field(default_factory=Versions)
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
        """The version in the production stage: the stable one of the present route."""
        return self.route.stable if self.route else None

    @property
    def answering(self) -> tuple[int, ...]:
        """The versions that answer production traffic: the stable one and its canaries."""
        return tuple(self.route.target.split) if self.route else ()

    def stage_of(self, version: int) -> str:
        """The stage of a version: `production`, `staging` or an empty string."""
        if version == self.production:
            return PRODUCTION
        return STAGING if version == self.staging else ""

    def arm_of(self, version: int) -> tuple[str, int]:
        """The part a version plays in production (`stable`, `canary`, `shadow` or empty), and the percent of the traffic it answers."""
        target = self.route.target if self.route else None
        if target is None or version not in target.versions:
            return "", 0
        if version in target.split:
            return (STABLE if version == target.stable else CANARY), target.split[version]
        return SHADOW, 0

    def version(self, number: int) -> Version:
        """The version of this number.

        Raises:
            VersionUnknownError: if it is not registered.
        """
        if number not in self.versions:
            raise VersionUnknownError(f"model {self.model!r} has no version {number}; registered: {_known(self.versions)}")
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
            versions, staging, routes = _after(state, commit)
        except (LookupError, TypeError, ValueError, FormatError, VersionUnknownError) as error:
            raise FormatError(f"commit {commit.seq} of {state.model!r} has a malformed payload: {error}") from error
        state = ModelState(state.model, commit.seq, commit.digest, versions, staging, routes, commit.time)
    return state


def _after(state: ModelState, commit: Commit) -> tuple[Versions, int | None, tuple[Route, ...]]:
    """Versions, staging and routes after one commit."""
    versions, staging, routes = state.versions, state.staging, state.routes
    match commit.kind:
        case Kind.NOTED:
            pass
        case Kind.REGISTERED:
            versions = versions.with_version(_registered(commit))
        case Kind.STAGED:
            staging = _number(commit)
        case Kind.ROUTED:
            routes = (*routes, Route(parse_target(commit.payload), commit.seq, commit.time))[-ROUTES_KEPT:]
        case Kind.ROLLED_BACK:
            routes = routes[:-1]
        case _:
            versions = versions.with_version(_decided(state.version(_number(commit)), commit))
    if routes and staging == routes[-1].stable:
        # A version is in one stage: what answers production traffic, by promotion or by rollback, leaves staging.
        staging = None
    return versions, staging, routes


def _registered(commit: Commit) -> Version:
    with reading("a registration"):
        return Version(
            number=_number(commit),
            manifest=check_digest(text(commit.payload, "manifest")),
            seq=commit.seq,
            registered=commit.time,
            actor=commit.change.actor,
            reason=commit.change.reason,
        )


def _decided(version: Version, commit: Commit) -> Version:
    match commit.kind:
        case Kind.RETIRED:
            return replace(version, retired=commit.seq)
        case Kind.APPROVED:
            return replace(version, approvals={**version.approvals, commit.change.actor: commit.seq})
        case Kind.SIGNED_OFF:
            return replace(version, sign_offs={**version.sign_offs, text(commit.payload, "item"): commit.seq})
        case Kind.OVERRIDDEN:
            return replace(version, overrides={**version.overrides, text(commit.payload, "gate"): commit.seq})
        case _:
            with reading("evidence"):
                return replace(version, evidence={**version.evidence, text(commit.payload, "name"): evidence(commit.seq, commit.payload)})


def _number(commit: Commit) -> int:
    number = integer(commit.payload, "version", 1)
    if number > MAX_VERSION:
        raise ValueError(f"version numbers end at {MAX_VERSION}")
    return number


def _known(registered: Versions) -> str:
    if len(registered) > 20:  # noqa: PLR2004 -- a line
        return f"{len(registered)}, the newest is {registered.newest}"
    return ", ".join(map(str, registered)) or "none"
