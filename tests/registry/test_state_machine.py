"""Three writers and two readers on one folder do what one model in memory says, whatever they do in whatever order."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from registry.commit import Commit
from registry.errors import RegistryError
from registry.location import open_registry
from registry.names import PRODUCTION, STAGING
from registry.registry import Registry
from registry.route import Target
from registry.verify import examine
from tests.registry.helpers import MODEL, bundle, new_registry

NAMES = ("ana", "ben", "eve")
WRITERS = st.integers(0, 2)
NUMBERS = st.integers(1, 5)
WEIGHTS = st.integers(1, 99)


@dataclass
class Expected:
    """What the registry must say: the rules once more, in their simplest form."""

    versions: int = 0
    staging: int | None = None
    routes: list[tuple[dict[int, int], int, tuple[int, ...]]] = field(default_factory=list)
    """weights, stable, shadows"""
    approvals: set[tuple[int, str]] = field(default_factory=set)
    evidence: dict[tuple[int, str], bytes] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)

    @property
    def production(self) -> int | None:
        """The stable version of the last route."""
        return self.routes[-1][1] if self.routes else None

    def usable(self, *versions: int) -> bool:
        """Whether they are registered and not retired."""
        return all(0 < version <= self.versions and version not in self.retired for version in versions)

    def stage(self, version: int) -> bool:
        """Whether it is allowed; done if so."""
        if not self.usable(version) or version in {self.production, self.staging}:
            return False
        self.staging = version
        return True

    def route(self, weights: dict[int, int], stable: int, shadows: tuple[int, ...]) -> bool:
        """Whether it is allowed; done if so."""
        if not self.usable(*weights, *shadows) or (self.routes and self.routes[-1] == (weights, stable, shadows)):
            return False
        self.routes.append((weights, stable, shadows))
        self.staging = None if self.staging == stable else self.staging
        return True

    def roll_back(self) -> bool:
        """Whether it is allowed; done if so."""
        if len(self.routes) < 2:
            return False
        weights, _, shadows = self.routes[-2]
        if not self.usable(*weights, *shadows):
            return False
        self.routes.pop()
        self.staging = None if self.staging == self.production else self.staging
        return True

    def retire(self, version: int) -> bool:
        """Whether it is allowed; done if so."""
        routed = {number for weights, _, shadows in self.routes[-2:] for number in (*weights, *shadows)}
        if not self.usable(version) or version in routed or version == self.staging:
            return False
        self.retired.add(version)
        return True


class ThreeWriters(RuleBasedStateMachine):
    """Writers keep their own view of the log; each step is checked by readers old and new."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name) / "registry"
        new_registry(root)
        self.url = str(root)
        self.writers = [open_registry(self.url) for _ in NAMES]
        self.reader = open_registry(self.url)
        self.expected = Expected()

    def teardown(self) -> None:
        self.folder.cleanup()

    def attempt(self, act: Callable[[], Commit], *, allowed: bool) -> None:
        try:
            digest = act().digest
        except RegistryError:
            assert not allowed
        else:
            assert allowed
            self.expected.commits.append(digest)

    @rule(writer=WRITERS)
    def register(self, writer: int) -> None:
        it = self.writers[writer]
        number = it.register(MODEL, bundle(f"{len(self.expected.commits)}"), {}, actor=NAMES[writer], reason="new")
        self.expected.versions += 1
        assert number == self.expected.versions
        self.expected.commits.append(it.state(MODEL).head or "")

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS, version=NUMBERS)
    def stage(self, writer: int, version: int) -> None:
        it = self.writers[writer]
        allowed = self.expected.stage(version)
        self.attempt(lambda: it.promote(MODEL, version, to=STAGING, actor=NAMES[writer], reason="go"), allowed=allowed)

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS, version=NUMBERS)
    def promote_then_roll_back_restores_the_route_exactly(self, writer: int, version: int) -> None:
        it = self.writers[writer]
        before = it.state(MODEL).routes
        allowed = self.expected.route({version: 100}, version, ())
        self.attempt(lambda: it.promote(MODEL, version, to=PRODUCTION, actor=NAMES[writer], reason="go"), allowed=allowed)
        if allowed and before and self.expected.roll_back():
            self.attempt(lambda: it.rollback(MODEL, actor=NAMES[writer], reason="back"), allowed=True)
            assert it.state(MODEL).routes == before

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS, stable=NUMBERS, canary=NUMBERS, shadow=NUMBERS, weight=WEIGHTS)
    def route(self, writer: int, stable: int, canary: int, shadow: int, weight: int) -> None:
        it = self.writers[writer]
        weights = {stable: 100} if stable == canary else {stable: weight, canary: 100 - weight}
        shadows = () if shadow in weights else (shadow,)
        allowed = self.expected.route(weights, stable, shadows)
        target = Target(stable, weights, shadows)
        self.attempt(lambda: it.route(MODEL, target, actor=NAMES[writer], reason="canary"), allowed=allowed)

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS)
    def roll_back(self, writer: int) -> None:
        it = self.writers[writer]
        allowed = self.expected.roll_back()
        self.attempt(lambda: it.rollback(MODEL, actor=NAMES[writer], reason="back"), allowed=allowed)

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS, version=NUMBERS)
    def approve(self, writer: int, version: int) -> None:
        it = self.writers[writer]
        allowed = self.expected.usable(version) and (version, NAMES[writer]) not in self.expected.approvals
        self.attempt(lambda: it.approve(MODEL, version, actor=NAMES[writer], reason="good"), allowed=allowed)
        if allowed:
            self.expected.approvals.add((version, NAMES[writer]))

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS, version=NUMBERS, name=st.sampled_from(["load.json", "fairness"]), content=st.binary(max_size=8))
    def attach(self, writer: int, version: int, name: str, content: bytes) -> None:
        it = self.writers[writer]
        allowed = version <= self.expected.versions
        self.attempt(lambda: it.attach(MODEL, version, name, content, actor=NAMES[writer], reason="seen"), allowed=allowed)
        if allowed:
            self.expected.evidence[version, name] = content

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS, version=NUMBERS)
    def retire(self, writer: int, version: int) -> None:
        it = self.writers[writer]
        allowed = self.expected.retire(version)
        self.attempt(lambda: it.retire(MODEL, version, actor=NAMES[writer], reason="old"), allowed=allowed)

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS, version=NUMBERS)
    def sign_off_override_and_note(self, writer: int, version: int) -> None:
        it, actor = self.writers[writer], NAMES[writer]
        allowed = version <= self.expected.versions
        self.attempt(lambda: it.sign_off(MODEL, version, "privacy", actor=actor, reason="read"), allowed=allowed)
        self.attempt(lambda: it.override(MODEL, version, "fairness", actor=actor, reason="small sample"), allowed=allowed)
        self.attempt(lambda: it.note(MODEL, version, actor=actor, reason="see ticket 7"), allowed=allowed)

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS)
    def take_a_checkpoint(self, writer: int) -> None:
        self.writers[writer].checkpoint(MODEL)

    @precondition(lambda self: self.expected.versions)
    @invariant()
    def every_reader_sees_every_acknowledged_commit_and_the_same_fold(self) -> None:
        fresh = open_registry(self.url)
        self.agrees(self.reader)
        self.agrees(fresh)
        assert self.reader.state(MODEL) == fresh.state(MODEL)

    @invariant()
    def everything_verifies(self) -> None:
        report = examine(self.reader.store)
        assert report.problems == ()
        assert report.leftovers == ()

    def agrees(self, reader: Registry) -> None:
        state, expected = reader.state(MODEL), self.expected
        assert [entry.digest for entry in reader.log(MODEL)] == expected.commits
        assert [entry.seq for entry in reader.log(MODEL)] == list(range(1, len(expected.commits) + 1))
        found = [(dict(route.target.split), route.stable, route.target.shadows) for route in state.routes]
        assert found == expected.routes
        assert list(state.versions) == list(range(1, expected.versions + 1))
        assert (state.staging, state.production) == (expected.staging, expected.production)
        assert {(number, actor) for number, version in state.versions.items() for actor in version.approvals} == expected.approvals
        assert {number for number, version in state.versions.items() if version.retired} == expected.retired
        known = {(number, name) for number, version in state.versions.items() for name in version.evidence}
        assert {key: reader.evidence(MODEL, *key) for key in known} == expected.evidence


TestThreeWriters = ThreeWriters.TestCase
TestThreeWriters.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
