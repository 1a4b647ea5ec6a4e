"""Drift counts are those of a slow reference, whatever batches, pieces and outputs the rows came in."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bundle import Signature, TensorSpec
from registry.profile import CategoricalFeature, Feature, Profile, categorical_feature, numeric_feature
from server.engine import Columns
from server.grpcio_transport import drift
from server.grpcio_transport.batcher import Batch
from server.grpcio_transport.drift import DriftCounter
from server.grpcio_transport.fair_queue import NORMAL, Piece, Waiting

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

Row = tuple[float, float, float, str, float]
number = st.one_of(st.floats(-4, 4, width=32), st.just(float("nan")))
rows = st.tuples(number, number, number, st.sampled_from(["x", "y", "new", ""]), st.floats(0, 1, width=32))
requests = st.lists(st.tuples(st.lists(rows, min_size=1, max_size=4), st.booleans()), min_size=1, max_size=5)


def columns(given_rows: list[Row]) -> tuple[Columns, Columns]:
    texts = np.empty((len(given_rows), 1), object)
    texts[:, 0] = [row[3].encode() for row in given_rows]
    inputs = {"numeric": np.array([row[:3] for row in given_rows], np.float32), "categorical": texts}
    yes = np.array([row[4] for row in given_rows], np.float32)
    return inputs, {"probabilities": np.stack([1 - yes, yes], axis=1), "echo": texts}


def batch(parts: list[tuple[list[Row], bool]]) -> Batch:
    """One batch of requests that are counted or not."""
    pieces = []
    for given_rows, counted in parts:
        inputs, _ = columns(given_rows)
        waiting = Waiting(inputs, len(given_rows), (), ("probabilities",), "a", NORMAL, 0.0, 0.0, lambda _, __: None, counted)
        pieces.append(Piece(waiting, inputs, 0, len(given_rows)))
    inputs, outputs = columns([row for given_rows, _ in parts for row in given_rows])
    return Batch(pieces, inputs, outputs, sum(len(given_rows) for given_rows, _ in parts), 0.0, 0.0)


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


@given(st.lists(requests, max_size=4), st.integers(0, 3))
def test_counts_are_those_of_a_slow_reference(batches: list[list[tuple[list[Row], bool]]], folded: int) -> None:
    counter = DriftCounter(PROFILE, SIGNATURE)
    for place, parts in enumerate(batches):
        counter.observe(batch(parts))
        if place == folded:
            counter.fold()
    seen = [row for parts in batches for given_rows, counted in parts if counted for row in given_rows]
    got = counter.counts()
    assert got.rows == len(seen)
    expected = [
        *[slowly(PROFILE.inputs[place], [float(row[place]) for row in seen]) for place in range(3)],
        slowly(PROFILE.inputs[3], [row[3] for row in seen]),
        slowly(PROFILE.predictions[0], [row[4] for row in seen]),
        # Of two that are alike the first is the class, as argmax has it; the other column is one minus it in single precision.
        slowly(PROFILE.predictions[1], [CLASSES[int(np.float32(row[4]) > np.float32(1) - np.float32(row[4]))] for row in seen]),
    ]
    for feature, observed, wanted in zip(PROFILE.features, got.observed, expected, strict=True):
        assert observed.tolist() == wanted, feature.name


def test_what_was_read_does_not_change_with_what_comes_after() -> None:
    counter = DriftCounter(PROFILE, SIGNATURE)
    parts: list[tuple[list[Row], bool]] = [([(0.0, 0.0, 0.0, "x", 0.5)], True)]
    counter.observe(batch(parts))
    before = counter.counts()
    kept = [observed.tolist() for observed in before.observed]
    counter.observe(batch(parts))
    assert counter.counts().rows == 2
    assert [observed.tolist() for observed in before.observed] == kept


def test_outputs_needed_for_predictions_are_named_so_that_a_caller_s_choice_of_others_loses_none() -> None:
    assert DriftCounter(PROFILE, SIGNATURE).outputs == ("probabilities",)
    assert DriftCounter(Profile(200, PROFILE.inputs, ()), SIGNATURE).outputs == ()


def test_text_under_a_numeric_feature_is_not_counted_and_the_others_are() -> None:
    profile = Profile(200, (numeric_feature("kind", REFERENCE[:, 0]), PROFILE.inputs[0]), ())
    counter = DriftCounter(profile, SIGNATURE)
    counter.observe(batch([([(0.0, 0.0, 0.0, "x", 0.5)], True)]))
    kind, a = counter.counts().observed
    assert (kind.sum(), a.sum()) == (0, 1)


def test_numbers_under_a_categorical_feature_are_their_texts() -> None:
    signature = Signature((TensorSpec("code", "INT64", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
    counter = DriftCounter(Profile(3, (categorical_feature("code", ["1", "1", "2"]),), ()), signature)
    inputs = {"code": np.array([1, 2, 3], np.int64)}
    waiting = Waiting(inputs, 3, (), ("y",), "a", NORMAL, 0.0, 0.0, lambda _, __: None)
    counter.observe(Batch([Piece(waiting, inputs, 0, 3)], inputs, {"y": np.zeros(3, np.float32)}, 3, 0.0, 0.0))
    assert counter.counts().observed[0].tolist() == [1, 1, 1, 0]


def test_memory_of_what_waits_to_be_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MAX_PENDING_BYTES", 1000)
    counter = DriftCounter(PROFILE, SIGNATURE)
    for _ in range(200):
        counter.observe(batch([([(0.0, 0.0, 0.0, "x", 0.5)] * 4, True)]))
        assert counter._pending_bytes <= 1000
    assert counter.counts().rows == 800
