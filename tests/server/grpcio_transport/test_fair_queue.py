"""The queue as a machine: pushed, taken from and dropped from in any order, no row is lost, repeated, mixed or starved."""

from dataclasses import dataclass

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.engine import Columns
from server.errors import RequestError
from server.grpcio_transport.fair_queue import HIGH, NORMAL, QUANTUM, SHADOW, FairQueue, Piece, Waiting

CALLERS = ["a", "b", "c"]
SHAPES: list[tuple[object, ...]] = [(3,), (4,)]


def waiting(rows: int, caller: str = "a", level: int = NORMAL, shape: tuple[object, ...] = SHAPES[0]) -> Waiting:
    def done(_: Waiting, __: Columns | RequestError) -> None:
        raise AssertionError("the queue answers nobody")

    inputs = {"x": np.arange(rows, dtype=np.float32)}
    return Waiting(inputs, rows, shape, ("y",), caller, level, float("inf"), 0.0, done)


@dataclass(eq=False)
class Known:
    """What the machine knows of a request: the rows it was given of it, in order."""

    request: Waiting
    given: list[float]
    dropped: bool = False
    passed_over: int = 0

    @property
    def left(self) -> int:
        return 0 if self.dropped else self.request.rows - len(self.given)


class FairQueueMachine(RuleBasedStateMachine):
    @initialize(max_rows=st.sampled_from([1, 4, 8, 100]))
    def start(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.queue = FairQueue(max_rows)
        self.known: list[Known] = []

    @rule(
        rows=st.one_of(st.integers(1, 12), st.integers(60, 300)),
        caller=st.sampled_from(CALLERS),
        level=st.integers(HIGH, SHADOW),
        shape=st.sampled_from(SHAPES),
    )
    def push(self, rows: int, caller: str, level: int, shape: tuple[object, ...]) -> None:
        request = waiting(rows, caller, level, shape)
        self.known.append(Known(request, []))
        self.queue.push(request)

    @precondition(lambda self: any(one.left for one in self.known))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([one for one in self.known if one.left]))
        self.queue.drop(one.request)
        one.dropped = True
        assert one.request.over

    @rule()
    def take(self) -> None:
        before = [one for one in self.known if one.left]
        left = {one: one.left for one in before}
        pieces = self.queue.take()
        assert bool(pieces) == bool(before), "a batch is empty exactly if nothing waits"
        self._give(pieces)
        self._check_batch(pieces)
        self._check_priority(before, left, pieces)
        self._check_turns(before, pieces)

    def _give(self, pieces: list[Piece]) -> None:
        assert len({id(piece.waiting) for piece in pieces}) == len(pieces), "a request has one piece in a batch"
        for piece in pieces:
            one = next(one for one in self.known if one.request is piece.waiting)
            assert not one.dropped
            assert piece.start == len(one.given)
            one.given += piece.inputs["x"].tolist()
            assert one.given == list(range(piece.stop)), "each row once, in order"

    def _check_batch(self, pieces: list[Piece]) -> None:
        assert sum(piece.rows for piece in pieces) <= self.max_rows
        assert len({piece.waiting.shape for piece in pieces}) <= 1
        for piece in pieces:
            assert piece.rows == piece.waiting.rows or piece.waiting.rows > self.max_rows, "only what is larger than a batch is split"

    def _check_priority(self, before: list[Known], left: dict[Known, int], pieces: list[Piece]) -> None:
        """The first piece is of the most urgent level that waits, and lesser levels get only room that is of no use to it.

        No request that is the first of its caller, has the batch's shape and fits where lesser ones went is left behind.
        """
        if not pieces:
            return
        assert pieces[0].waiting.level == min(one.request.level for one in before)
        for level in range(SHADOW):
            lesser = sum(piece.rows for piece in pieces if piece.waiting.level > level)
            for caller in CALLERS:
                mine = [one for one in before if one.request.level == level and one.request.caller == caller and one.left]
                if lesser and mine and mine[0].request.shape == pieces[0].waiting.shape:
                    fitting = 1 if mine[0].request.rows > self.max_rows else left[mine[0]]
                    assert fitting > self.max_rows - sum(piece.rows for piece in pieces) + lesser

    def _check_turns(self, before: list[Known], pieces: list[Piece]) -> None:
        """Whoever is first of its caller in the most urgent level begins after at most one batch for every other caller and credit."""
        served = {id(piece.waiting) for piece in pieces}
        top = min((one.request.level for one in before), default=HIGH)
        firsts = {one.request.caller: one for one in reversed(before) if one.request.level == top}
        for one in before:
            if id(one.request) in served or firsts.get(one.request.caller) is not one:
                one.passed_over = 0
            else:
                one.passed_over += 1
                # A batch of another shape or without room for each other caller, and a turn for each quantum it is short of.
                assert one.passed_over <= len(CALLERS) + -(-one.request.rows // QUANTUM) * len(CALLERS)

    @invariant()
    def rows_are_those_that_wait(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.rows == sum(one.left for one in self.known)

    @invariant()
    def what_is_ahead_of_a_newcomer_is_at_most_all_before_it_and_at_least_its_own(self) -> None:
        if not hasattr(self, "queue"):
            return
        for level in range(SHADOW + 1):
            for caller in [*CALLERS, "new"]:
                urgent = sum(one.left for one in self.known if one.request.level < level)
                own = sum(one.left for one in self.known if one.request.level == level and one.request.caller == caller)
                whole = sum(one.left for one in self.known if one.request.level == level)
                assert urgent + own <= self.queue.ahead(level, caller, 1) <= urgent + whole

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        while self.queue.rows:
            self.take()
        assert all(one.dropped or len(one.given) == one.request.rows for one in self.known)
        assert not self.queue.take()


TestFairQueue = FairQueueMachine.TestCase
TestFairQueue.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def batches_until(queue: FairQueue, request: Waiting) -> int:
    """Batches taken until `request` has been given whole."""
    count = 0
    while request.taken < request.rows:
        assert queue.take()
        count += 1
    return count


def test_single_row_waits_for_one_batch_whatever_another_caller_asks_for() -> None:
    queue = FairQueue(1024)
    for _ in range(1000):
        queue.push(waiting(1000, "greedy"))
    queue.push(waiting(1_000_000, "greedy"))
    single = waiting(1, "modest")
    queue.push(single)
    assert batches_until(queue, single) <= 2


def test_single_row_waits_for_one_turn_of_each_of_many_callers() -> None:
    queue = FairQueue(1024)
    for caller in range(100):
        for _ in range(20):
            queue.push(waiting(100, f"caller {caller}"))
    single = waiting(1, "modest")
    queue.push(single)
    assert batches_until(queue, single) <= 2 + 100 * 2 * QUANTUM // 1024


def test_callers_of_different_request_sizes_get_about_the_same_rows() -> None:
    queue = FairQueue(256)
    for _ in range(2000):
        queue.push(waiting(1, "small"))
    for _ in range(20):
        queue.push(waiting(100, "large"))
    given = {"small": 0, "large": 0}
    for _ in range(10):
        for piece in queue.take():
            given[piece.waiting.caller] += piece.rows
    # Not the same to the row: what is left of a batch when no large one fits is not wasted.
    assert given["large"] >= 0.7 * given["small"]
    assert given["small"] >= 0.7 * given["large"]


def test_who_never_fills_a_batch_is_not_first_for_ever() -> None:
    queue = FairQueue(100)
    for _ in range(10):
        queue.push(waiting(60, "greedy"))
    other = waiting(60, "modest")
    queue.push(other)
    assert batches_until(queue, other) <= 2


def test_who_asks_for_many_shapes_does_not_keep_one_more_waiting() -> None:
    queue = FairQueue(1024)
    for number in range(20):
        queue.push(waiting(1, "various", shape=(number,)))
    other = waiting(1, "modest", shape=(20,))
    queue.push(other)
    assert batches_until(queue, other) <= 2


def test_thousands_given_up_cost_no_search() -> None:
    queue = FairQueue(1024)
    requests = [waiting(1) for _ in range(10_000)]
    for request in requests:
        queue.push(request)
    for request in reversed(requests):
        queue.drop(request)
    assert queue.rows == 0
    assert not queue.take()
