"""Batches gather while the engine runs, and nobody in them pays for another."""

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import pytest

from registry.bundle import Signature, TensorSpec
from server.engine import Columns, Tensor
from server.errors import DeadlineExceededError, ModelFailedError, RequestError
from server.grpcio_transport.batcher import Batch, Batcher, ClosedError
from server.grpcio_transport.fair_queue import HIGH, LOW, NORMAL, Waiting
from server.loaded_version import LoadedVersion

BROKEN = 666.0
WIDE = 1e6


class GatedEngine:
    """Doubles its input when the gate is open; fails on negative values, and as an engine must not on `BROKEN`.

    From `WIDE` on an answer has as many columns as its input is larger. A third implementation of `Engine`, with a handle to hold it.
    """

    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
    batchable = True

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.running = threading.Event()
        self.runs: list[list[float]] = []

    def run(self, inputs: Columns, outputs: Sequence[str]) -> dict[str, Tensor]:
        self.running.set()
        assert self.gate.wait(10)
        self.runs.append(inputs["x"].tolist())
        if (inputs["x"] < 0).any():
            raise ModelFailedError("negative")
        if (inputs["x"] == BROKEN).any():
            raise ZeroDivisionError("a defect")
        if (inputs["x"] > WIDE).any():
            return dict.fromkeys(outputs, np.zeros((len(inputs["x"]), int(inputs["x"].max() - WIDE)), np.float32))
        return dict.fromkeys(outputs, inputs["x"] * 2)


@dataclass(frozen=True)
class Asked:
    """A request and what became of it."""

    waiting: Waiting
    answer: "Future[list[float]]"


def ask(
    *values: float,
    deadline: float = float("inf"),
    caller: str = "a",
    level: int = NORMAL,
    shape: tuple[object, ...] = (),
    output: str = "y",
) -> Asked:
    answer: Future[list[float]] = Future()

    def done(_: Waiting, outcome: Columns | RequestError) -> None:
        if isinstance(outcome, RequestError):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome[output].tolist())

    inputs = {"x": np.array(values, np.float32)}
    waiting = Waiting(inputs, len(values), shape, (output,), caller, level, deadline, time.perf_counter(), done)
    return Asked(waiting, answer)


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def batches() -> list[Batch]:
    return []


@pytest.fixture
def batcher(engine: GatedEngine, batches: list[Batch]) -> Iterator[Batcher]:
    version = LoadedVersion("m", 1, "", engine.signature, engine, None, 0.0, batchable=True)
    made = Batcher(version, max_batch_rows=8, max_queue_delay=0, observe=batches.append)
    yield made
    engine.gate.set()
    made.close()
    made.join(10)


def hold(batcher: Batcher, engine: GatedEngine) -> Asked:
    """Submit a request and return when it runs, held at the gate: what is submitted next gathers."""
    first = ask(0.0)
    batcher.submit(first.waiting)
    assert engine.running.wait(10)
    return first


def submit(batcher: Batcher, *asked: Asked) -> None:
    for one in asked:
        batcher.submit(one.waiting)


def test_requests_that_came_while_the_engine_ran_share_a_batch(batcher: Batcher, engine: GatedEngine, batches: list[Batch]) -> None:
    hold(batcher, engine)
    asked = [ask(float(n), float(n)) for n in range(3)]
    submit(batcher, *asked)
    assert batcher.queue_rows == 6
    engine.gate.set()
    assert [one.answer.result(10) for one in asked] == [[0, 0], [2, 2], [4, 4]]
    batcher.close()
    batcher.join(10)
    assert [batch.rows for batch in batches] == [1, 6]
    assert batcher.queue_rows == 0


def test_batch_holds_at_most_max_batch_rows_and_no_smaller_request_is_split(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    asked = [ask(*[float(n)] * 5) for n in range(3)]
    submit(batcher, *asked)
    engine.gate.set()
    for one in asked:
        one.answer.result(10)
    assert [len(run) for run in engine.runs] == [1, 5, 5, 5]


def test_request_larger_than_a_batch_is_split_and_answered_whole_and_in_order(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    large = ask(*map(float, range(20)))
    submit(batcher, large)
    engine.gate.set()
    assert large.answer.result(10) == [2.0 * n for n in range(20)]
    assert [len(run) for run in engine.runs] == [1, 8, 8, 4]


def test_caller_with_many_rows_does_not_starve_one_with_a_single_row(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    many = [ask(*[1.0] * 4, caller="greedy") for _ in range(100)]
    large = ask(*[1.0] * 400, caller="huge")
    single = ask(5.0, caller="modest")
    submit(batcher, *many, large, single)
    engine.gate.set()
    large.answer.result(10)
    turn = next(place for place, run in enumerate(engine.runs) if 5.0 in run)
    assert turn <= 3, f"it was in batch {turn}"


def test_higher_priority_is_served_first(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    low, normal, high = ask(*[3.0] * 8, level=LOW), ask(*[2.0] * 8, level=NORMAL), ask(*[1.0] * 8, level=HIGH)
    submit(batcher, low, normal, high)
    engine.gate.set()
    low.answer.result(10)
    assert [run[0] for run in engine.runs] == [0.0, 1.0, 2.0, 3.0]


def test_requests_of_different_rows_or_outputs_share_no_batch(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    wide, narrow, again = ask(1.0, shape=(4,)), ask(2.0, shape=(3,), output="z"), ask(3.0, shape=(4,))
    submit(batcher, wide, narrow, again)
    engine.gate.set()
    assert [one.answer.result(10) for one in (wide, narrow, again)] == [[2], [4], [6]]
    assert all(len({value == 2.0 for value in run}) == 1 for run in engine.runs)


def test_cancelled_caller_leaves_its_batch_and_the_others_are_answered(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    gone, stays = ask(1.0), ask(2.0)
    submit(batcher, gone, stays)
    assert batcher.drop(gone.waiting)
    assert batcher.queue_rows == 1
    engine.gate.set()
    assert stays.answer.result(10) == [4]
    assert engine.runs == [[0.0], [2.0]]
    assert not batcher.drop(stays.waiting)


def test_split_request_cancelled_half_way_is_not_run_to_its_end(batcher: Batcher, engine: GatedEngine) -> None:
    large = ask(*[1.0] * 80)
    submit(batcher, large)
    assert engine.running.wait(10)
    assert batcher.drop(large.waiting)
    assert batcher.queue_rows == 0
    engine.gate.set()
    after = ask(2.0)
    submit(batcher, after)
    assert after.answer.result(10) == [4]
    assert len(engine.runs) == 2
    assert not large.answer.done()


def test_expired_request_is_not_run(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    late, stays = ask(1.0, deadline=0.0), ask(2.0)
    submit(batcher, late, stays)
    engine.gate.set()
    assert stays.answer.result(10) == [4]
    with pytest.raises(DeadlineExceededError):
        late.answer.result(10)
    assert engine.runs == [[0.0], [2.0]]


def test_only_the_request_at_fault_fails_and_it_takes_few_runs_to_find_it(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    asked = [ask(-1.0 if n == 3 else float(n)) for n in range(8)]
    submit(batcher, *asked)
    engine.gate.set()
    for n, one in enumerate(asked):
        if n == 3:
            with pytest.raises(ModelFailedError, match="negative"):
                one.answer.result(10)
        else:
            assert one.answer.result(10) == [2.0 * n]
    assert len(engine.runs) <= 1 + 2 * 4


def test_what_a_request_is_thought_to_take_grows_with_what_waits_before_it(batcher: Batcher, engine: GatedEngine) -> None:
    engine.gate.set()
    for _ in range(20):
        one = ask(*[1.0] * 8)
        submit(batcher, one)
        one.answer.result(10)
    engine.gate.clear()
    engine.running.clear()
    hold(batcher, engine)
    alone = batcher.expect(NORMAL, "a", 1)
    submit(batcher, *[ask(*[1.0] * 8, level=LOW) for _ in range(50)])
    assert batcher.expect(NORMAL, "a", 1) == alone
    assert batcher.expect(LOW, "a", 1) > 10 * alone
    assert batcher.expect(LOW, "b", 1) < batcher.expect(LOW, "a", 1) / 4, "another caller has its turn before all that is served"


def test_closed_batcher_answers_what_it_has_and_takes_no_more(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    queued = ask(1.0)
    submit(batcher, queued)
    batcher.close()
    with pytest.raises(ClosedError):
        batcher.submit(ask(2.0).waiting)
    engine.gate.set()
    assert queued.answer.result(10) == [2]


def test_defect_of_an_engine_is_told_to_its_callers_and_the_next_batch_runs(batcher: Batcher, engine: GatedEngine) -> None:
    engine.gate.set()
    broken, after = ask(BROKEN), ask(1.0)
    submit(batcher, broken)
    with pytest.raises(ModelFailedError, match="the daemon failed"):
        broken.answer.result(10)
    submit(batcher, after)
    assert after.answer.result(10) == [2]


def test_parts_that_do_not_fit_together_fail_alone(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    large, after = ask(*[WIDE + 1] * 8, WIDE + 2), ask(1.0, shape=(1,))
    submit(batcher, large, after)
    engine.gate.set()
    with pytest.raises(ModelFailedError, match="another size in each part"):
        large.answer.result(10)
    assert after.answer.result(10) == [2]


def test_request_given_up_is_forgotten_at_once(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    gone = ask(1.0)
    answer = weakref.ref(gone.waiting.done)
    submit(batcher, gone)
    assert batcher.drop(gone.waiting)
    del gone
    assert answer() is None, "the queue holds the request, and with it its rows, until its turn"
    engine.gate.set()


def test_no_deadline_is_missed_by_waiting_for_a_batch_to_fill(engine: GatedEngine) -> None:
    version = LoadedVersion("m", 1, "", engine.signature, engine, None, 0.0, batchable=True)
    patient = Batcher(version, max_batch_rows=8, max_queue_delay=5, observe=lambda _: None)
    engine.gate.set()
    patient_one, urgent = ask(1.0), ask(2.0, deadline=time.perf_counter() + 0.5)
    submit(patient, patient_one, urgent)
    assert urgent.answer.result(2) == [4]
    assert patient_one.answer.result(2) == [2]
    assert engine.runs == [[1.0, 2.0]]
    patient.close()
    patient.join(10)
