"""Two writers and two readers on one folder do what one model in memory says, whatever they do in whatever order."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from registry.errors import RegistryError
from registry.names import PRODUCTION, STAGING
from registry.registry import Registry, open_registry
from registry.verify import examine
from tests.registry.helpers import ACTOR, MODEL, bundle, new_registry

WRITERS = st.integers(0, 1)
NUMBERS = st.integers(1, 5)


@dataclass
class Expected:
    """What the registry must say: the rules once more, in their simplest form."""

    versions: int = 0
    staging: int | None = None
    routes: list[int] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)

    @property
    def production(self) -> int | None:
        """The last route."""
        return self.routes[-1] if self.routes else None

    def promote(self, version: int, to: str) -> bool:
        """Whether it is allowed; done if so."""
        if version > self.versions or version == self.production or (to == STAGING and version == self.staging):
            return False
        if to == PRODUCTION:
            self.routes.append(version)
            self.staging = None if self.staging == version else self.staging
        else:
            self.staging = version
        return True

    def roll_back(self) -> bool:
        """Whether it is allowed; done if so."""
        if len(self.routes) < 2:
            return False
        self.routes.pop()
        if self.staging == self.production:
            self.staging = None
        return True


class TwoWriters(RuleBasedStateMachine):
    """Writers keep their own view of the log; each step is checked by readers old and new."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name) / "registry"
        new_registry(root)
        self.url = str(root)
        self.writers = [open_registry(self.url), open_registry(self.url)]
        self.reader = open_registry(self.url)
        self.expected = Expected()

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(writer=WRITERS)
    def register(self, writer: int) -> None:
        number = self.writers[writer].register(MODEL, bundle(f"{len(self.expected.commits)}"), {}, actor=ACTOR, reason="new")
        self.expected.versions += 1
        assert number == self.expected.versions
        self.expected.commits.append(self.writers[writer].state(MODEL).head or "")

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS, version=NUMBERS, to=st.sampled_from([STAGING, PRODUCTION]))
    def promote(self, writer: int, version: int, to: str) -> None:
        allowed = self.expected.promote(version, to)
        try:
            self.expected.commits.append(self.writers[writer].promote(MODEL, version, to=to, actor=ACTOR, reason="go").digest)
        except RegistryError:
            assert not allowed
        else:
            assert allowed

    @precondition(lambda self: self.expected.versions)
    @rule(writer=WRITERS)
    def roll_back(self, writer: int) -> None:
        allowed = self.expected.roll_back()
        try:
            self.expected.commits.append(self.writers[writer].rollback(MODEL, actor=ACTOR, reason="back").digest)
        except RegistryError:
            assert not allowed
        else:
            assert allowed

    @precondition(lambda self: self.expected.versions)
    @invariant()
    def every_reader_sees_every_acknowledged_commit_and_the_same_fold(self) -> None:
        for reader in (self.reader, open_registry(self.url)):
            self._agrees(reader)

    @invariant()
    def everything_verifies(self) -> None:
        report = examine(self.reader.store)
        assert report.problems == ()
        assert report.leftovers == ()

    def _agrees(self, reader: Registry) -> None:
        state = reader.state(MODEL)
        assert [entry.digest for entry in reader.log(MODEL)] == self.expected.commits
        assert [route.stable for route in state.routes] == self.expected.routes
        assert sorted(state.versions) == list(range(1, self.expected.versions + 1))
        assert state.staging == self.expected.staging
        assert state.production == self.expected.production


TestTwoWriters = TwoWriters.TestCase
TestTwoWriters.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
