"""Nothing that is counted is lost or counted twice, whoever counts and whenever it is added up."""

import threading
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.counts import ROWS, SECONDS, Counters
from server.grpcio_transport.batcher import Batch
from server.grpcio_transport.counters import RequestCounters
from server.grpcio_transport.fair_queue import NORMAL, Piece, Waiting

KEY = ("m", 1)


def read(counters: RequestCounters) -> Counters:
    return counters.snapshot({}, {}, 0)


def batch(rows: int, seconds: float, started: float, queued: Sequence[float], first_rows: Sequence[int]) -> Batch:
    pieces = []
    for when, first in zip(queued, first_rows, strict=True):
        waiting = Waiting({}, 2, (), (), "a", NORMAL, 0.0, when, lambda _, __: None)
        pieces.append(Piece(waiting, {}, first, 2))
    return Batch(pieces, {}, {}, rows, started, seconds)


@given(st.lists(st.tuples(st.sampled_from(["OK", "INTERNAL"]), st.floats(0, 20)), max_size=50), st.lists(st.integers(0, 50), max_size=3))
def test_answers_are_counted_once_in_the_bucket_whose_bound_they_reach(answers: list[tuple[str, float]], folds: list[int]) -> None:
    counters = RequestCounters()
    for place, (code, seconds) in enumerate(answers):
        counters.answered(KEY, "stable", code, seconds)
        if place in folds:
            counters.fold()
    got = read(counters)
    for code in ("OK", "INTERNAL"):
        assert got.requests.get(("m", "1", "stable", code), 0) == sum(one == code for one, _ in answers)
    if not answers:
        assert not got.versions
        return
    histogram = got.versions[KEY].request_seconds
    assert histogram.bounds == SECONDS
    expected = [0] * (len(SECONDS) + 1)
    for _, seconds in answers:
        expected[next((place for place, bound in enumerate(SECONDS) if seconds <= bound), len(SECONDS))] += 1
    assert list(histogram.counts) == expected
    assert np.isclose(histogram.total, sum(seconds for _, seconds in answers))


def test_batch_counts_its_rows_its_run_and_each_request_s_wait_once() -> None:
    counters = RequestCounters()
    counters.ran(KEY, batch(7, 0.5, started=10.0, queued=[9.0, 9.5, 3.0], first_rows=[0, 0, 1]))
    got = read(counters).versions[KEY]
    assert got.batch_rows.counts[ROWS.index(8)] == 1
    assert got.batch_rows.total == 7
    assert got.compute_seconds.total == 0.5
    assert sum(got.queue_seconds.counts) == 2, "a later piece of a split request has waited already"
    assert got.queue_seconds.total == 1.5
    assert got.last_answer > 0


def test_names_of_callers_that_mean_no_model_are_no_labels() -> None:
    counters = RequestCounters()
    counters.unrouted("NOT_FOUND")
    counters.rejected("", "MODEL_UNKNOWN")
    got = read(counters)
    assert got.requests == {("", "", "", "NOT_FOUND"): 1}
    assert got.rejected == {("", "MODEL_UNKNOWN"): 1}
    assert not got.versions


def test_counts_of_many_threads_add_up_while_they_are_read() -> None:
    counters = RequestCounters()

    def work() -> None:
        for _ in range(5000):
            counters.answered(KEY, "stable", "OK", 0.001)
            counters.rejected("m", "QUEUE_FULL")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = [read(counters).rejected.get(("m", "QUEUE_FULL"), 0) for _ in range(20)]
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert read(counters).requests == {("m", "1", "stable", "OK"): 20_000}
    assert read(counters).rejected == {("m", "QUEUE_FULL"): 20_000}
