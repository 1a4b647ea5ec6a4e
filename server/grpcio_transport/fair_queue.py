"""Who is next: the requests that wait for one version, by priority, and within a priority in turns between callers. No thread lives here.

Within a level callers take turns by deficit round robin (Shreedhar and Varghese 1995): each turn adds `QUANTUM` rows to what a caller may
take, so that a caller with a thousand rows and one with a single row get the same share of the engine.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from registry.route import STABLE
from server.engine import Columns, rows_of
from server.errors import RequestError

HIGH, NORMAL, LOW, SHADOW = range(4)
"""The levels, first served first. `SHADOW` is for copies nobody waits for."""
QUANTUM = 64

Done: TypeAlias = Callable[["Waiting", Columns | RequestError], None]
"""Told the outputs of a request, or why there are none; called once, on the thread of the batcher."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One request in the queue; changed only by who holds the lock of its batcher.

    `shape` is what must be alike for two requests to share a batch: the sizes of a row of every input, and the outputs asked for.
    `deadline` and `queued` are seconds of `time.perf_counter`, `size` the bytes of its message. `taken` rows were given to batches, `parts`
    holds what came back of them, and `over` says that it is answered or given up.
    """

    inputs: Columns
    rows: int
    shape: tuple[object, ...]
    outputs: tuple[str, ...]
    caller: str
    level: int
    deadline: float
    queued: float
    done: Done
    id: str = ""
    arm: str = STABLE
    size: int = 0
    taken: int = 0
    over: bool = False
    parts: list[Columns] = field(default_factory=list)
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    batch_rows: int = 0


@dataclass(slots=True, eq=False)
class Piece:
    """The rows `start` to `stop` of a request, as part of one batch."""

    waiting: Waiting
    columns: Columns
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.stop - self.start

    @property
    def inputs(self) -> Columns:
        """Their inputs."""
        if self.rows == self.waiting.rows:
            return self.columns
        return rows_of(self.columns, self.start, self.stop)


class FairQueue:
    """Not thread-safe. A request of more than `max_rows` rows is served in pieces, any other whole."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._levels = [_Level() for _ in range(SHADOW + 1)]
        self._batches = 0
        self.rows = 0
        """rows that wait"""

    def push(self, waiting: Waiting) -> None:
        """Wait behind the other requests of the same caller and level."""
        self._levels[waiting.level].push(waiting)
        self.rows += waiting.rows

    def drop(self, waiting: Waiting) -> None:
        """Wait no more; what no batch has taken yet never will be, and nothing of it is kept."""
        waiting.over = True
        self._levels[waiting.level].drop(waiting)
        self.rows -= waiting.rows - waiting.taken

    def ahead(self, level: int, caller: str, rows: int) -> int:
        """Rows that may be served before a new request of this level, caller and size, if no other comes.

        Of its own level that is what the caller has waiting itself, and what the others get in the turns that all this takes.
        """
        return sum(self._levels[place].rows for place in range(level)) + self._levels[level].ahead(caller, rows)

    def take(self) -> list[Piece]:
        """The next batch: pieces of one shape with at most `max_rows` rows; empty if nothing waits."""
        self._batches += 1
        batch = _Gathering(self._batches, self._max_rows)
        for level in self._levels:
            level.fill(batch)
            if not batch.room:
                break
        self.rows -= self._max_rows - batch.room
        return batch.pieces


class _Gathering:
    """A batch in the making: `room` rows still fit."""

    def __init__(self, number: int, max_rows: int) -> None:
        self.number = number
        self.max_rows = max_rows
        self.room = max_rows
        self.pieces: list[Piece] = []

    def accepts(self, waiting: Waiting) -> bool:
        """Whether a piece of this request, or all of it if it is not one to be split, may join."""
        if not self.pieces:
            return True
        fits = waiting.rows <= self.room or waiting.rows > self.max_rows
        return fits and waiting.shape == self.pieces[0].waiting.shape

    def add(self, waiting: Waiting, rows: int) -> None:
        """Take the next `rows` rows of the request."""
        self.room -= rows
        last = next((piece for piece in self.pieces if piece.waiting is waiting), None) if waiting.taken else None
        if last is None:
            self.pieces.append(Piece(waiting, waiting.inputs, waiting.taken, waiting.taken + rows))
        else:
            last.stop += rows
        waiting.taken += rows


class _Caller:
    __slots__ = ("credit", "rows", "served", "waiting")

    def __init__(self) -> None:
        self.waiting: OrderedDict[Waiting, None] = OrderedDict()
        self.rows = 0
        self.credit = 0
        self.served = 0
        """the last batch that has something of it"""


class _Level:
    """The callers of one priority, in the order of their turns; only those with something that waits."""

    def __init__(self) -> None:
        self.rows = 0
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    def push(self, waiting: Waiting) -> None:
        caller = self._callers.get(waiting.caller)
        if caller is None:
            caller = self._callers[waiting.caller] = _Caller()
        caller.waiting[waiting] = None
        caller.rows += waiting.rows
        self.rows += waiting.rows

    def drop(self, waiting: Waiting) -> None:
        caller = self._callers[waiting.caller]
        del caller.waiting[waiting]
        caller.rows -= waiting.rows - waiting.taken
        self.rows -= waiting.rows - waiting.taken
        if not caller.waiting:
            del self._callers[waiting.caller]

    def ahead(self, name: str, rows: int) -> int:
        caller = self._callers.get(name)
        own = caller.rows if caller else 0
        others = len(self._callers) - (caller is not None)
        return own + min(self.rows - own, others * (own + rows + QUANTUM))

    def fill(self, batch: _Gathering) -> None:
        """Give turns until the batch is full or nobody has anything that fits.

        Who was passed over is first in the next batch, those before the others who got nothing of this one: else one might be first for
        ever, and leave no room for another each time.
        """
        passed: list[tuple[str, _Caller]] = []
        served: list[tuple[str, _Caller]] = []
        while self._callers and batch.room:
            name, caller = self._callers.popitem(last=False)
            alone = not self._callers and not passed and not served
            caller.credit = batch.max_rows if alone else caller.credit + QUANTUM
            if self._serve(caller, batch):
                (served if caller.served == batch.number else passed).append((name, caller))
            elif caller.waiting:
                self._callers[name] = caller
        for name, caller in reversed(passed + served):
            self._callers[name] = caller
            self._callers.move_to_end(name, last=False)

    def _serve(self, caller: _Caller, batch: _Gathering) -> bool:
        """One turn; True if the caller's next request cannot join this batch."""
        while caller.waiting and batch.room:
            waiting = next(iter(caller.waiting))
            if not batch.accepts(waiting):
                return True
            left = waiting.rows - waiting.taken
            rows = min(left, batch.room)
            if rows > caller.credit and waiting.rows <= batch.max_rows:
                return False
            rows = min(rows, caller.credit)
            if not rows:
                return False
            batch.add(waiting, rows)
            caller.served = batch.number
            caller.credit -= rows
            caller.rows -= rows
            self.rows -= rows
            if rows == left:
                del caller.waiting[waiting]
        return False
