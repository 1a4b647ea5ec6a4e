"""Rust counts the same integers as `server.drift_counting`, for every kind of feature and every datatype; what it has counted is kept."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bundle import Signature, TensorSpec
from registry.drift_tally import Tally
from registry.profile import CategoricalFeature, Counts, Feature, NumericFeature, Profile
from registry.route import CANARY, SHADOW, STABLE
from server.counts import COUNTED_ARMS
from server.drift_counters import DriftCounters
from server.drift_counting import Counting
from server.engine import DTYPES, Engine, Tensor, raw_bytes
from server.grpcio_transport.router import DIRECT
from server.loaded_version import LoadedVersion
from server.transports import native_is_installed

pytestmark = pytest.mark.skipif(not native_is_installed(), reason="the native transport is not installed; `make native` does that")
if native_is_installed():
    from server.native.drift import NativeRows

FLOATS = ("FP16", "FP32", "FP64")
WHOLE = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
CLASSES = ("a", "b", "c")
ARMS = (STABLE, CANARY, SHADOW, DIRECT)
EDGES = st.floats(-1e30, 1e30) | st.integers(-300, 300).map(float) | st.sampled_from([-1e300, 1e39, 1e300, 2.0**63, 2.0**64])


def column(datatype: str, size: int) -> st.SearchStrategy[Tensor]:
    """That many values of a datatype, among them those that are hard to place."""
    if datatype == "BYTES":
        texts = st.binary(max_size=12) | st.sampled_from([b"", b"red", b"\xff", "é".encode(), b"long" * 40])
        return st.lists(texts, min_size=size, max_size=size).map(objects)
    dtype = DTYPES[datatype]
    values: st.SearchStrategy[Any]
    if datatype in FLOATS:
        hard = st.sampled_from([float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, 0.5, 100.0])
        values = hard | st.integers(0, 2 ** (8 * dtype.itemsize) - 1).map(lambda bits: float_of(bits, dtype))
    elif datatype == "BOOL":
        values = st.booleans()
    else:
        limits = np.iinfo(dtype)
        values = st.integers(int(limits.min), int(limits.max)) | st.integers(max(int(limits.min), -3), 5)
    return st.lists(values, min_size=size, max_size=size).map(lambda drawn: np.array(drawn, dtype))


def float_of(bits: int, dtype: np.dtype[Any]) -> float:
    """The number that has these bits: every one there is."""
    return float(np.frombuffer(bits.to_bytes(dtype.itemsize, "little"), dtype)[0])


def objects(texts: Sequence[bytes]) -> Tensor:
    values = np.empty(len(texts), object)
    values[:] = texts
    return values


@st.composite
def features(draw: st.DrawFn, name: str, spec: TensorSpec, values: Tensor) -> Feature:
    """A feature whose bins meet the values: edges at them, categories that are written as they are."""
    some = list(dict.fromkeys(values.tolist()))[:6]
    if spec.datatype != "BYTES" and draw(st.booleans()):
        near = [float(value) for value in some if value == value]  # noqa: PLR0124 -- only NaN is not itself
        edges = sorted({*near, *draw(st.lists(EDGES, max_size=draw(st.sampled_from([3, 25, 80]))))})
        finite = [edge for edge in edges if np.isfinite(edge)]
        return NumericFeature(name, tuple(finite), (0,) * (len(finite) + 2))
    written = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in some]
    more = draw(st.lists(st.sampled_from(["red", "é", "0.0", "-0.0", "nan", "inf", "-1", "01", "1_0", "1e3", "True", "300", "-0"])))
    known = tuple(dict.fromkeys(text for text in (*written, *more) if text))
    return CategoricalFeature(name, known, (0,) * (len(known) + 2))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Profile, Signature, dict[str, Tensor]]:
    """Inputs of any datatypes and widths, of which the profile has some columns, and probabilities."""
    rows = draw(st.integers(1, 30))
    specs, tensors, profile = [], {}, []
    for number in range(draw(st.integers(1, 3))):
        datatype, width = draw(st.sampled_from(("BOOL", "BYTES", *FLOATS, *WHOLE))), draw(st.integers(1, 3))
        names = tuple(f"x{number}.{place}" for place in range(width))
        shape = (-1,) if width == 1 and draw(st.booleans()) else (-1, width)
        spec = TensorSpec(f"t{number}", datatype, shape, names)
        values = draw(column(datatype, rows * width))
        tensors[spec.name] = values.reshape(rows, *shape[1:])
        specs.append(spec)
        table = values.reshape(rows, width)
        profile += [draw(features(name, spec, table[:, place])) for place, name in enumerate(names) if draw(st.booleans())]
    datatype = draw(st.sampled_from((*FLOATS, "INT64", "BOOL")))
    probabilities = TensorSpec("p", datatype, (-1, 3))
    tensors["p"] = draw(column(datatype, rows * 3)).reshape(rows, 3)
    predicted: tuple[Feature, ...] = (
        draw(features("score", probabilities, tensors["p"][:, 1])),
        CategoricalFeature("class", ("c", "a"), (0,) * 4),
    )
    signature = Signature(tuple(specs), (TensorSpec("more", "FP32", (-1,)), probabilities), CLASSES, "b")
    return Profile(1, tuple(draw(st.permutations(profile))), predicted), signature, tensors


def plain(spec: TensorSpec, tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    return spec.datatype, tensor.shape, raw_bytes(tensor, spec.datatype)


def tell(rows: "NativeRows", signature: Signature, tensors: dict[str, Tensor], requests: list[tuple[str, int]]) -> None:
    given_outputs = {"more": np.zeros(sum(number for _, number in requests), np.float32), **tensors}
    rows.counting.count(
        [plain(spec, tensors[spec.name]) for spec in signature.inputs],
        [plain(spec, given_outputs[spec.name]) for spec in signature.outputs],
        requests,
    )


@given(cases(), st.lists(st.sampled_from(ARMS), min_size=30, max_size=30))
def test_rows_of_any_tensors_fall_into_the_bins_of_the_reference(
    case: tuple[Profile, Signature, dict[str, Tensor]], arms: list[str]
) -> None:
    profile, signature, tensors = case
    number = len(tensors["p"])
    counted, reference = NativeRows(profile, signature), Counting(profile, signature)
    for _ in range(2):
        tell(counted, signature, tensors, [(arm, 1) for arm in arms[:number]])
    totals, lost = counted.totals()
    assert lost == frozenset()
    for arm in COUNTED_ARMS:
        here = np.array([own == arm for own in arms[:number]])
        expected = reference.count({name: tensor[here] for name, tensor in tensors.items()})
        assert expected.lost == frozenset()
        assert totals[arm].rows == 2 * here.sum()
        assert totals[arm].counts.tolist() == (2 * expected.counts).tolist()


def alone(feature: Feature, datatype: str, values: Tensor) -> tuple[Counts, Counts]:
    """What Rust and the reference count of one feature."""
    signature = Signature((TensorSpec("x", datatype, (-1,)),), ())
    profile = Profile(1, (replace(feature, name="x"),), ())
    counted = NativeRows(profile, signature)
    tell(counted, signature, {"x": values}, [(STABLE, len(values))])
    return counted.totals().arms[STABLE].counts, Counting(profile, signature).count({"x": values}).counts


def test_every_half_precision_number_falls_where_the_reference_puts_it() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    edges = tuple(sorted({float(value) for value in values[::97] if np.isfinite(value)}))
    counted, expected = alone(NumericFeature("x", edges, (0,) * (len(edges) + 2)), "FP16", values)
    assert counted.tolist() == expected.tolist()
    known = tuple(dict.fromkeys(str(value) for value in values[::61].tolist()))
    counted, expected = alone(CategoricalFeature("x", known, (0,) * (len(known) + 2)), "FP16", values)
    assert counted.tolist() == expected.tolist()


def test_whole_numbers_beyond_what_a_single_holds_are_rounded_as_the_reference_does() -> None:
    generator = np.random.default_rng(17)
    edges = tuple(sorted(generator.uniform(-(2.0**63), 2.0**64, 19).tolist()))
    feature = NumericFeature("x", edges, (0,) * 21)
    near = np.concatenate([np.asarray(edges, np.float32).astype(np.float64) + step for step in range(-700, 700, 100)])
    for datatype, kept in (("INT64", abs(near) < 2**63), ("UINT64", near > 0)):
        counted, expected = alone(feature, datatype, near[kept].astype(DTYPES[datatype]))
        assert counted.tolist() == expected.tolist()


def test_a_byte_that_is_neither_zero_nor_one_is_true() -> None:
    values = np.frombuffer(bytes([0, 1, 2, 255]), np.bool_)
    for feature in (NumericFeature("x", (0.0, 1.0), (0,) * 4), CategoricalFeature("x", ("True", "False"), (0,) * 4)):
        counted, expected = alone(feature, "BOOL", values)
        assert counted.tolist() == expected.tolist()
        assert sorted(counted.tolist()) == [0, 0, 1, 3]


def test_text_in_surrogates_is_known_by_the_bytes_the_reference_knows_it_by() -> None:
    counted, expected = alone(CategoricalFeature("x", ("\ud800", "é"), (0,) * 4), "BYTES", objects([b"\xed\xa0\x80", "é".encode(), b"?"]))
    assert counted.tolist() == expected.tolist() == [1, 1, 1, 0]


PREDICTIONS = (NumericFeature("score", (0.5,), (0,) * 3), CategoricalFeature("class", ("a",), (0,) * 3))
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("p", "FP32", (-1, 3)),), CLASSES, "b")
PROFILE = Profile(1, (NumericFeature("x", (0.0,), (0,) * 3),), PREDICTIONS)
VERSION = LoadedVersion("m", 1, "0" * 64, SIGNATURE, cast("Engine", None), PROFILE, 0.1)
ROWS = {"x": np.array([-1, 1], np.float32), "p": np.eye(2, 3, dtype=np.float32)}


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (1, 6), (6,), (2, 3, 2)])
def test_output_of_another_shape_loses_the_predictions_alone_and_they_are_named(shape: tuple[int, ...]) -> None:
    rows = NativeRows(PROFILE, SIGNATURE)
    tell(rows, SIGNATURE, {**ROWS, "p": np.zeros(shape, np.float32)}, [(STABLE, 2)])
    tell(rows, SIGNATURE, ROWS, [(STABLE, 2)])
    totals, lost = rows.totals()
    assert lost == {"score", "class"}
    assert totals[STABLE].rows == 4
    assert [counts.tolist() for counts in totals[STABLE].by_feature(PROFILE)] == [[2, 2, 0], [1, 1, 0], [1, 1, 0]]


def test_version_that_is_loaded_again_counts_on_and_another_of_its_number_begins_anew() -> None:
    counters = DriftCounters(lambda: 0.0, NativeRows)
    first = counters.begin(VERSION)
    assert first is not None
    tell(first.rows, SIGNATURE, ROWS, [(STABLE, 2)])
    first.fold()
    counters.end(VERSION.key)
    tell(first.rows, SIGNATURE, ROWS, [(CANARY, 2)])  # a batch that was under way
    again = counters.begin(replace(VERSION, load_seconds=9.0))
    assert again is not None
    assert tally(again.counts().arms[""].everything.tally) == (4, [2, 2, 0, 2, 2, 0, 2, 2, 0])
    counters.end(VERSION.key)
    other = counters.begin(replace(VERSION, digest="1" * 64))
    assert other is not None
    assert tally(other.counts().arms[""].everything.tally) == (0, [0] * 9)


def tally(counted: Tally) -> tuple[int, list[int]]:
    return counted.rows, counted.counts.tolist()
