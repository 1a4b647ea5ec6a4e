"""Drift counts are those of a slow reference, whatever batches, pieces, arms and outputs the rows came in, and survive a swap."""

import gc
import tracemalloc
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bundle import Signature, TensorSpec
from registry.drift_limits import Limits, Window
from registry.drift_tally import Tally
from registry.profile import CategoricalFeature, Feature, Profile, categorical_feature, numeric_feature
from registry.route import CANARY, SHADOW, STABLE
from server import drift_counters
from server.counts import COUNTED_ARMS, PRODUCTION, DriftCounts
from server.drift_counters import DriftCounter, DriftCounters
from server.engine import Columns, Engine, Tensor
from server.grpcio_transport import drift
from server.grpcio_transport.batcher import Batch
from server.grpcio_transport.drift import CountedBatches
from server.grpcio_transport.fair_queue import NORMAL, Piece, Waiting
from server.grpcio_transport.router import DIRECT
from server.loaded_version import LoadedVersion

CLASSES = ("no", "yes")
SIGNATURE = Signature(
    # Two inputs are called as the predictions are: they are other features.
    (TensorSpec("numeric", "FP32", (-1, 3), ("a", "score", "class")), TensorSpec("categorical", "BYTES", (-1, 1), ("kind",))),
    (TensorSpec("probabilities", "FP32", (-1, 2), CLASSES), TensorSpec("echo", "BYTES", (-1, 1))),
    CLASSES,
    "yes",
)
REFERENCE = np.random.default_rng(3).normal(size=(200, 3)).astype(np.float32)
SCORES = np.linspace(0, 1, 200, dtype=np.float32)
PROFILE = Profile(
    200,
    (
        *(numeric_feature(name, REFERENCE[:, place]) for place, name in enumerate(("a", "score", "class"))),
        categorical_feature("kind", ["x"] * 150 + ["y"] * 50),
    ),
    (numeric_feature("score", SCORES), categorical_feature("class", ["no"] * 120 + ["yes"] * 80)),
)
VERSION = LoadedVersion("m", 1, "0" * 64, SIGNATURE, cast("Engine", None), PROFILE, 0.1)
"""Nothing here runs the model."""

Row = tuple[float, float, float, str, float]
number = st.one_of(st.floats(-4, 4, width=32), st.sampled_from([float("nan"), float("inf"), float("-inf")]))
rows = st.tuples(number, number, number, st.sampled_from(["x", "y", "new", ""]), st.floats(0, 1, width=32))
arms = st.sampled_from([STABLE, CANARY, SHADOW, DIRECT])
requests = st.lists(st.tuples(st.lists(rows, min_size=1, max_size=4), arms), min_size=1, max_size=5)
ORDINARY: Row = (0.0, 0.0, 0.0, "x", 0.5)


def counter_of(profile: Profile = PROFILE, signature: Signature = SIGNATURE) -> DriftCounter[CountedBatches]:
    version = replace(VERSION, profile=profile, signature=signature)
    return DriftCounter(version, profile, lambda: 0.0, CountedBatches(profile, signature))


def columns(given_rows: list[Row]) -> tuple[Columns, Columns]:
    texts = np.empty((len(given_rows), 1), object)
    texts[:, 0] = [row[3].encode() for row in given_rows]
    inputs = {"numeric": np.array([row[:3] for row in given_rows], np.float32), "categorical": texts}
    yes = np.array([row[4] for row in given_rows], np.float32)
    return inputs, {"probabilities": np.stack([1 - yes, yes], axis=1), "echo": texts}


def batch(parts: list[tuple[list[Row], str]]) -> Batch:
    """One batch of requests, each with its arm."""
    pieces = []
    for given_rows, arm in parts:
        inputs, _ = columns(given_rows)
        waiting = Waiting(inputs, len(given_rows), (), ("probabilities",), "a", NORMAL, 0.0, 0.0, lambda _, __: None, "1", arm, 100)
        pieces.append(Piece(waiting, inputs, 0, len(given_rows)))
    inputs, outputs = columns([row for given_rows, _ in parts for row in given_rows])
    return Batch(pieces, inputs, outputs, sum(len(given_rows) for given_rows, _ in parts), 0.0, 0.0)


def alone(inputs: Columns, outputs: Columns, number: int) -> Batch:
    """One stable request."""
    waiting = Waiting(inputs, number, (), tuple(outputs), "a", NORMAL, 0.0, 0.0, lambda _, __: None)
    return Batch([Piece(waiting, inputs, 0, number)], inputs, outputs, number, 0.0, 0.0)


def tally(counts: DriftCounts, arm: str = PRODUCTION) -> Tally:
    return counts.arms[arm].everything.tally


def observed(counts: DriftCounts, arm: str = PRODUCTION) -> list[list[int]]:
    return [feature.tolist() for feature in tally(counts, arm).by_feature(counts.profile)]


def slowly(feature: Feature, values: list[float] | list[str]) -> list[int]:
    """The bin of each value, found by looking at every edge."""
    if isinstance(feature, CategoricalFeature):
        named = Counter("missing" if value == "" else f"={value}" if value in feature.values else "other" for value in values)
        return [named[name] for name in feature.bins]
    counts = [0] * len(feature.bins)
    for value in map(np.float32, values):
        place = (
            -1 if np.isnan(value) else next((n for n, edge in enumerate(feature.edges) if value <= np.float32(edge)), len(feature.edges))
        )
        counts[place] += 1
    return counts


def expected(seen: list[Row]) -> list[list[int]]:
    # Of two that are alike the first is the class, as argmax has it; the other column is one minus it in single precision.
    classes = [CLASSES[int(np.float32(row[4]) > np.float32(1) - np.float32(row[4]))] for row in seen]
    return [
        *[slowly(PROFILE.inputs[place], [float(row[place]) for row in seen]) for place in range(3)],
        slowly(PROFILE.inputs[3], [row[3] for row in seen]),
        slowly(PROFILE.predictions[0], [row[4] for row in seen]),
        slowly(PROFILE.predictions[1], classes),
    ]


@given(st.lists(requests, max_size=4), st.integers(0, 3))
def test_counts_of_each_arm_are_those_of_a_slow_reference(batches: list[list[tuple[list[Row], str]]], folded: int) -> None:
    counter = counter_of()
    for place, parts in enumerate(batches):
        counter.rows.observe(batch(parts))
        if place == folded:
            counter.fold()
    got = counter.counts()
    for arm in COUNTED_ARMS:
        seen = [row for parts in batches for given_rows, its_arm in parts if its_arm == arm for row in given_rows]
        assert tally(got, arm).rows == len(seen)
        assert observed(got, arm) == expected(seen)
    stable, canary, production = (tally(got, arm) for arm in (STABLE, CANARY, PRODUCTION))
    assert production.rows == stable.rows + canary.rows
    assert (production.counts == stable.counts + canary.counts).all()


def test_what_was_read_does_not_change_with_what_comes_after() -> None:
    counter = counter_of()
    counter.rows.observe(batch([([ORDINARY], STABLE)]))
    before = counter.counts()
    kept = observed(before)
    counter.rows.observe(batch([([ORDINARY], STABLE)]))
    assert tally(counter.counts()).rows == 2
    assert observed(before) == kept


def test_outputs_needed_for_predictions_are_named_so_that_a_caller_s_choice_of_others_loses_none() -> None:
    assert counter_of().outputs == ("probabilities",)
    assert counter_of(Profile(200, PROFILE.inputs, ())).outputs == ()


def test_memory_of_what_waits_to_be_counted_is_bounded_by_the_size_of_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MAX_PENDING_BYTES", 1000)
    counter = counter_of()
    for _ in range(200):
        counter.rows.observe(batch([([ORDINARY] * 4, STABLE)]))
        assert sum(map(len, counter.rows._pending.values())) <= 10
    assert tally(counter.counts()).rows == 800


def test_memory_of_a_version_does_not_grow_with_the_rows_it_has_answered() -> None:
    limits = Limits(windows=(Window(rows=100), Window(seconds=3600)))
    counter = counter_of(replace(PROFILE, limits=limits))

    def serve(turns: int) -> int:
        for turn in range(turns):
            texts = [f"text {turn} {place}" for place in range(64)]
            counter.rows.observe(batch([([(0.0, 0.0, 0.0, text, 0.5) for text in texts], STABLE)]))
            counter.counts()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early, late = serve(200), serve(400)
    finally:
        tracemalloc.stop()
    assert late < early + 5_000, "25,600 rows, each with a text of its own, leave nothing but counts"


def test_output_of_another_shape_loses_the_predictions_alone_and_they_are_named() -> None:
    counter = counter_of()
    good, bad = batch([([ORDINARY], STABLE)]), batch([([ORDINARY], STABLE)])
    counter.rows.observe(good)
    counter.fold()
    counter.rows.observe(replace(bad, outputs={"probabilities": np.zeros((1, 3), np.float32)}))
    counts = counter.counts()
    assert tally(counts).rows == 2
    assert [sum(each) for each in observed(counts)] == [2, 2, 2, 2, 1, 1]
    assert counts.uncounted == {"score", "class"}


def test_numbers_under_a_categorical_feature_are_their_texts_and_no_number_is_missing() -> None:
    signature = Signature((TensorSpec("code", "FP64", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
    counter = counter_of(Profile(3, (categorical_feature("code", ["1.0", "1.0", "2.0"]),), ()), signature)
    counter.rows.observe(alone({"code": np.array([1, 2, 3, float("nan")])}, {}, 4))
    assert observed(counter.counts()) == [[1, 1, 1, 1]]


def test_version_that_is_loaded_again_counts_on_and_another_of_its_number_begins_anew() -> None:
    counters = DriftCounters(lambda: 0.0, CountedBatches)
    first = counters.begin(VERSION)
    assert first is not None
    first.rows.observe(batch([([ORDINARY] * 3, STABLE)]))
    counters.end(VERSION.key)
    assert counters.loaded == {}
    first.rows.observe(batch([([ORDINARY], CANARY)]))  # a batch that was under way
    again = counters.begin(replace(VERSION, load_seconds=9.0))
    assert again is not None
    assert tally(again.counts()).rows == 4
    counters.end(VERSION.key)
    other = counters.begin(replace(VERSION, digest="1" * 64))
    assert other is not None
    assert tally(other.counts()).rows == 0


def test_no_row_is_lost_or_counted_twice_whoever_serves_and_reads_at_once() -> None:
    counter = counter_of(replace(PROFILE, limits=Limits(windows=(Window(rows=50),))))
    mixed = batch([([ORDINARY], STABLE), ([ORDINARY] * 2, CANARY), ([ORDINARY], DIRECT), ([ORDINARY], SHADOW)])
    with ThreadPoolExecutor(6) as threads:
        serving = [threads.submit(lambda: [counter.rows.observe(mixed) for _ in range(500)]) for _ in range(4)]  # type: ignore[func-returns-value]
        reading = [threads.submit(lambda: [tally(counter.counts()).rows for _ in range(100)]) for _ in range(2)]
    assert [future.exception() for future in serving] == [None] * 4
    for future in reading:
        assert future.result() == sorted(future.result()), "counts only grow"
    counts = counter.counts()
    assert [tally(counts, arm).rows for arm in (PRODUCTION, STABLE, CANARY, SHADOW)] == [6000, 2000, 4000, 2000]
    assert observed(counts)[0] == slowly(PROFILE.inputs[0], [0.0] * 6000)


def test_defect_with_one_version_does_not_end_the_counting_of_others() -> None:
    counters = DriftCounters(lambda: 0.0, CountedBatches)
    broken, sound = counters.begin(VERSION), counters.begin(replace(VERSION, number=2))
    assert broken is not None
    assert sound is not None
    good = batch([([ORDINARY], STABLE)])
    broken.rows.observe(replace(good, inputs=dict.fromkeys(good.inputs, cast("Tensor", None))))
    sound.rows.observe(good)
    counters.fold()
    assert not any(sound.rows._pending.values())
    broken.rows.observe(good)
    assert tally(broken.counts()).rows == 1


def test_model_of_a_version_that_is_unloaded_is_not_kept_with_its_counts() -> None:
    class Model:
        """Stands for a session of a gigabyte."""

    model, counters = Model(), DriftCounters(lambda: 0.0, CountedBatches)
    remains = weakref.ref(model)
    counters.begin(replace(VERSION, engine=cast("Engine", model)))
    counters.end(VERSION.key)
    del model
    gc.collect()
    assert remains() is None
    assert counters.begin(VERSION) is not None


def test_counts_of_versions_long_unloaded_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_counters, "KEPT_UNLOADED", 2)
    counters = DriftCounters(lambda: 0.0, CountedBatches)
    versions = [replace(VERSION, number=number) for number in range(1, 5)]
    for version in versions:
        counter = counters.begin(version)
        assert counter is not None
        counter.rows.observe(batch([([ORDINARY], STABLE)]))
        counters.end(version.key)
    counters.fold()
    again = [counters.begin(version) for version in versions]
    assert [tally(counter.counts()).rows for counter in again if counter] == [0, 0, 1, 1]


def test_version_without_a_profile_is_not_counted() -> None:
    counters = DriftCounters(lambda: 0.0, CountedBatches)
    assert counters.begin(replace(VERSION, profile=None)) is None
    assert counters.loaded == {}
