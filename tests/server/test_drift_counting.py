"""Whatever tensors a signature has, counting them all at once gives what features count one by one; what does not fit is named."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from registry.bundle import Signature, TensorSpec
from registry.drift_tally import Tally, starts
from registry.profile import CategoricalFeature, Counts, Feature, NumericFeature, Profile, categorical_feature, numeric_feature
from server import drift_counting
from server.drift_counting import Counting
from server.drift_places import uncounted
from server.engine import DTYPES

NUMBERS = ("FP32", "FP64", "FP16", "INT64", "UINT8", "BOOL")
GENERATOR = np.random.default_rng(5)
WIDE = NumericFeature("wide", tuple(map(float, range(drift_counting.MANY_EDGES + 1))), (0,) * (drift_counting.MANY_EDGES + 3))


def numeric(name: str, edges: int) -> NumericFeature:
    return NumericFeature(name, tuple(np.linspace(-2, 2, edges).astype(np.float32).tolist()), (1,) * (edges + 2))


def per_feature(profile: Profile, counts: Counts) -> dict[str, list[int]]:
    by_feature = Tally(0, counts).by_feature(profile)
    return {feature.name: observed.tolist() for feature, observed in zip(profile.features, by_feature, strict=True)}


def texts(values: list[bytes]) -> NDArray[np.object_]:
    column = np.empty((len(values), 1), object)
    column[:, 0] = values
    return column


def only(feature: Feature, spec: TensorSpec) -> Counting:
    return Counting(Profile(1, (feature,), ()), Signature((spec,), ()))


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Profile, Signature, dict[str, NDArray[Any]]]:
    """A packed tensor whose columns the profile has in any order, and tensors of one value each, of any datatype."""
    packed, rows = draw(st.integers(1, 4)), draw(st.integers(0, 40))
    singles = draw(st.lists(st.sampled_from(NUMBERS), max_size=3))
    names = [f"x{n}" for n in range(packed)] + [f"s{n}" for n in range(len(singles))]
    features = tuple(numeric(name, draw(st.integers(0, 20))) for name in draw(st.permutations(names)))
    values = st.floats(-3, 3, width=32) | st.sampled_from([float("nan"), float("inf"), float("-inf"), -2.0, 2.0])
    whole = draw(st.lists(st.lists(values, min_size=packed, max_size=packed), min_size=rows, max_size=rows))
    tensors: dict[str, NDArray[Any]] = {"packed": np.array(whole, np.float32).reshape(rows, packed)}
    specs = [TensorSpec("packed", "FP32", (-1, packed), tuple(names[:packed]))]
    for n, datatype in enumerate(singles):
        shape = draw(st.sampled_from([(-1,), (-1, 1)]))
        specs.append(TensorSpec(f"s{n}", datatype, shape))
        column = np.array(draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)), DTYPES[datatype])
        tensors[f"s{n}"] = column.reshape(rows) if shape == (-1,) else column.reshape(rows, 1)
    return Profile(1, features, ()), Signature(tuple(specs), ()), tensors


@given(matrices())
def test_numbers_fall_where_the_feature_itself_would_count_them(drawn: tuple[Profile, Signature, dict[str, NDArray[Any]]]) -> None:
    profile, signature, tensors = drawn
    counts, lost = Counting(profile, signature).count(tensors)
    assert lost == frozenset()
    got = per_feature(profile, counts)
    for feature in profile.features:
        assert isinstance(feature, NumericFeature)
        tensor = tensors["packed"][:, int(feature.name[1:])] if feature.name[0] == "x" else tensors[feature.name].reshape(-1)
        assert got[feature.name] == feature.count(tensor.astype(np.float32)).tolist()


def test_more_rows_than_are_compared_at_once_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_counting, "_VALUES", 100)
    monkeypatch.setattr(drift_counting, "_TEXTS", 7)
    values = GENERATOR.normal(size=(1000, 3)).astype(np.float32)
    kinds = [b"a", b"b", b"", b"other"] * 250
    features = tuple(numeric_feature(f"x{n}", values[:, n]) for n in range(3))
    profile = Profile(1000, (*features, categorical_feature("kind", [kind.decode() for kind in kinds])), ())
    signature = Signature((TensorSpec("x", "FP32", (-1, 3), ("x0", "x1", "x2")), TensorSpec("kind", "BYTES", (-1, 1))), ())
    counts, _ = Counting(profile, signature).count({"x": values, "kind": texts(kinds)})
    assert counts.tolist() == [number for feature in profile.features for number in feature.reference]


def test_doubles_beyond_the_singles_are_infinite_and_edges_are_inclusive() -> None:
    counting = only(NumericFeature("x", (0.0, 1.0), (0, 0, 0, 0)), TensorSpec("x", "FP64", (-1,)))
    values = np.array([-1e300, 0.0, np.nextafter(np.float32(0), np.float32(1)), 1.0, 1e300, float("nan")])
    assert counting.count({"x": values}).counts.tolist() == [2, 2, 1, 1]


def test_feature_of_more_edges_than_are_compared_is_counted_all_the_same() -> None:
    values = np.concatenate([GENERATOR.uniform(-1, 70, 500), [float("nan")]]).astype(np.float32)
    counts, _ = only(WIDE, TensorSpec("wide", "FP32", (-1,))).count({"wide": values})
    assert counts.tolist() == WIDE.count(values).tolist()


def test_constant_feature_has_all_its_rows_in_one_bin() -> None:
    feature = NumericFeature("x", (3.0,), (50, 0, 0))
    counting = only(feature, TensorSpec("x", "FP32", (-1,)))
    assert counting.count({"x": np.array([3.0] * 9, np.float32)}).counts.tolist() == [9, 0, 0]
    assert counting.count({"x": np.array([2.0, 4.0], np.float32)}).counts.tolist() == [1, 1, 0]


def test_a_hundred_thousand_texts_of_which_none_was_seen_are_other_each_once() -> None:
    counting = only(categorical_feature("kind", ["a"] * 3), TensorSpec("kind", "BYTES", (-1, 1)))
    assert counting.count({"kind": texts([b"%d" % n for n in range(100_000)])}).counts.tolist() == [0, 100_000, 0]


def test_text_that_is_no_utf8_is_another_value_and_never_an_error() -> None:
    feature = CategoricalFeature("kind", ("\ufffd", "é"), (1, 1, 0, 0))
    counting = only(feature, TensorSpec("kind", "BYTES", (-1, 1)))
    values = texts([b"\xff", "\ufffd".encode(), "é".encode(), "é".encode("latin-1"), b""])
    assert counting.count({"kind": values}).counts.tolist() == [1, 1, 2, 1]


@given(st.lists(st.lists(st.floats(0, 1, width=32) | st.just(float("nan")), min_size=3, max_size=3), max_size=20))
def test_class_is_the_most_probable_one_and_missing_where_a_probability_is_no_number(rows: list[list[float]]) -> None:
    profile = Profile(1, (), (categorical_feature("class", ["a", "c"]), numeric("score", 5)))
    table = TensorSpec("p", "FP32", (-1, 3), ("a", "b", "c"))
    counting = Counting(profile, Signature((), (table,), ("a", "b", "c"), "b"))
    values = np.array(rows, np.float32).reshape(-1, 3)
    counts, lost = counting.count({"p": values})
    best = ["missing" if np.isnan(row).any() else ("=a", "other", "=c")[int(np.argmax(row))] for row in values]
    got = per_feature(profile, counts)
    assert lost == frozenset()
    assert got["class"] == [best.count(name) for name in profile.predictions[0].bins]
    assert sum(got["score"]) == len(rows)
    assert got["score"][-1] == np.isnan(values[:, 1]).sum()


def test_features_that_no_tensor_has_are_named_and_the_others_counted() -> None:
    here, gone, text = numeric("here", 3), numeric("gone", 3), numeric("text", 3)
    signature = Signature((TensorSpec("x", "FP32", (-1, 1), ("here",)), TensorSpec("t", "BYTES", (-1, 1), ("text",))), ())
    profile = Profile(1, (gone, here, text), (numeric("score", 3),))
    counting = Counting(profile, signature)
    assert uncounted(profile, signature) == {"gone", "text", "score"}
    assert counting.tensors == ("x",)
    counts, lost = counting.count({"x": np.zeros((4, 1), np.float32)})
    assert (counts.sum(), lost) == (4, frozenset())


@pytest.mark.parametrize(
    "tensor",
    [np.zeros((2, 2), np.float32), np.zeros(3, np.float32), np.array([["a"], ["b"]], object), np.array([[{}], [[]]], object)],
    ids=["wider", "no columns", "texts", "objects"],
)
def test_tensor_that_is_not_as_the_signature_says_loses_its_features_and_no_others(tensor: NDArray[Any]) -> None:
    features = (numeric("score", 3), categorical_feature("class", ["yes"]))
    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("p", "FP32", (-1, 3), ()),), ("a", "b", "c"), "b")
    profile = Profile(1, (numeric("x", 3),), features)
    counts, lost = Counting(profile, signature).count({"x": np.zeros(2, np.float32), "p": tensor})
    assert lost == {"score", "class"}
    assert (counts.sum(), counts[: starts(profile)[1]].sum()) == (2, 2)


@pytest.mark.parametrize("first", [0.0, -0.0])
def test_zeros_of_either_sign_are_the_texts_they_are_written_as_whichever_comes_first(first: float) -> None:
    counting = only(CategoricalFeature("code", ("0.0", "-0.0"), (1, 1, 0, 0)), TensorSpec("code", "FP32", (-1,)))
    zeros, negative, other, missing = counting.count({"code": np.array([first, 0.0, -0.0, -0.0, -1.0], np.float32)}).counts.tolist()
    assert (zeros, negative, other, missing) == ((2, 2, 1, 0) if np.copysign(1, first) > 0 else (1, 3, 1, 0))


def test_profile_of_no_features_counts_nothing() -> None:
    counts, lost = Counting(Profile(0, (), ()), Signature((), ())).count({})
    assert (counts.tolist(), lost) == ([], frozenset())
