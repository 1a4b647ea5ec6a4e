"""Hypothesis strategies for the values of every format. No tests here."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from registry.bundle import DATATYPES, Signature, TensorSpec
from registry.canonical import Json
from registry.drift_limits import DEFAULT_LIMITS, Limits, Window
from registry.profile import CategoricalFeature, Feature, NumericFeature, Profile

# "Cs": half surrogates, which no UTF-8 can hold.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
times = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values: st.SearchStrategy[Json] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
json_objects = st.dictionaries(texts, json_values, max_size=4)

tensor_specs = st.builds(
    TensorSpec,
    texts,
    st.sampled_from(DATATYPES),
    st.lists(st.integers(-1, 1 << 40), max_size=4).map(tuple),
    st.lists(texts, max_size=3).map(tuple),
)
specs = st.lists(tensor_specs, min_size=1, max_size=3, unique_by=lambda spec: spec.name).map(tuple)
some_later_fields = st.dictionaries(texts.map(lambda key: f"x_{key}"), json_values, min_size=1, max_size=2)
nothing: dict[str, Json] = {}
later_fields = st.just(nothing) | some_later_fields
signatures = st.builds(Signature, specs, specs, st.lists(texts, max_size=3).map(tuple), texts, later_fields)


@st.composite
def features(draw: st.DrawFn) -> Feature:
    """A feature of either kind, with counts that fit its bins."""
    name = draw(texts)
    if draw(st.booleans()):
        edges = tuple(sorted(draw(st.sets(st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0), max_size=19))))
        return NumericFeature(name, edges, _counts(draw, len(edges) + 2))
    values = tuple(sorted(draw(st.sets(texts.filter(bool), max_size=9))))
    return CategoricalFeature(name, values, _counts(draw, len(values) + 2))


def _counts(draw: st.DrawFn, bins: int) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(0, 1 << 40), min_size=bins, max_size=bins)))


feature_lists = st.lists(features(), max_size=4).map(tuple)
windows = st.builds(Window, seconds=st.integers(1, 999_999_999)) | st.builds(Window, rows=st.integers(1, 999_999_999))
limits = st.builds(
    Limits,
    psi=st.floats(0.1, 9.0),
    psi_warn=st.floats(0.01, 0.1),
    ks=st.floats(0.01, 1.0),
    false_discovery_rate=st.floats(0.001, 0.5),
    min_rows=st.integers(1, 1 << 40),
    consecutive=st.integers(1, 9),
    windows=st.lists(windows, max_size=4, unique=True).map(tuple),
    unknown=later_fields,
)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """A profile with or without importance and limits of its own."""
    inputs, predictions = draw(feature_lists), draw(feature_lists)
    weights = draw(st.just(()) | st.lists(st.floats(0, 1e9), min_size=len(inputs), max_size=len(inputs)).map(tuple))
    chosen = draw(st.just(DEFAULT_LIMITS) | limits)
    return Profile(draw(st.integers(0, 1 << 40)), inputs, predictions, weights, chosen, draw(later_fields))
