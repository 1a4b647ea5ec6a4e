"""Counts the rows of tensors in the bins of a profile: the same integers whichever transport carries the calls.

Where features stand in the tensors is in `drift_places`, what the bins are in `registry.profile`; which rows are counted, and when, is a
transport's business.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from registry.bundle import Signature
from registry.drift_tally import starts
from registry.profile import CategoricalFeature, Counts, NumericFeature, Profile
from server.drift_places import Place, places
from server.engine import Columns, Tensor

MANY_EDGES = 64
"""A feature of more edges is counted by itself: it would have all others compared as often."""
_VALUES = 1 << 18
"""Values compared at once: what stays in the cache of one core"""
_TEXTS = 1 << 15
"""Texts counted at once: bounds the memory for rows that are all different"""
_UNFIT = (KeyError, IndexError, TypeError, ValueError, OverflowError)
"""What counting meets where a tensor is not as the signature has it"""


class Counted(NamedTuple):
    """`counts` is int64 [bins of all features], in the order of the profile; `lost` are the features that these rows do not tell."""

    counts: Counts
    lost: frozenset[str]


class _Part(Protocol):
    """Some features that are counted together."""

    @property
    def names(self) -> tuple[str, ...]:
        """The features."""
        ...

    def add(self, tensors: Columns, counts: Counts) -> None:
        """Add the rows of `tensors` to `counts`, or, where they do not fit, raise one of `_UNFIT` and add nothing."""
        ...


class Counting:
    """How the features of a profile are counted in the tensors of a signature: `count` is a function of its tensors alone."""

    def __init__(self, profile: Profile, signature: Signature) -> None:
        found = places(profile, signature)
        bins = starts(profile).tolist()
        self._bins: int = bins[-1]
        inputs = len(profile.inputs)
        numbers: dict[bool, list[tuple[NumericFeature, Place, int]]] = {}
        self._parts: list[_Part] = []
        for number, (feature, place) in enumerate(zip(profile.features, found, strict=True)):
            if place is None:
                continue
            if isinstance(feature, NumericFeature):
                # What the model gives apart from what it gets: an output may come in another shape than was said.
                numbers.setdefault(number < inputs, []).append((feature, place, bins[number]))
            elif place.kind == "classes":
                self._parts.append(_Classes(feature, place, bins[number], signature.classes))
            else:
                self._parts.append(_Categories(feature, place, bins[number]))
        for group in numbers.values():
            self._parts.extend(_numeric(group))
        self.tensors = tuple(dict.fromkeys(place.tensor for place in found if place))
        """those that are counted"""

    def count(self, tensors: Columns) -> Counted:
        """Count the rows of `tensors`, one array [n, ...] for each of `self.tensors`."""
        counts, lost = np.zeros(self._bins, np.int64), set[str]()
        for part in self._parts:
            try:
                part.add(tensors, counts)
            except _UNFIT:
                lost.update(part.names)
        return Counted(counts, frozenset(lost))


def _numeric(group: Sequence[tuple[NumericFeature, Place, int]]) -> Iterator[_Part]:
    yield from (_Fine(*each) for each in group if len(each[0].edges) > MANY_EDGES)
    if coarse := [each for each in group if len(each[0].edges) <= MANY_EDGES]:
        yield _Numbers(coarse)


class _Numbers:
    """Numeric features, all compared with their first edges, then with their second ones, and so on.

    With 20 bins that takes a sixth of the time of a search for each value, and the number of steps does not grow with that of the features.
    The level of a value is how many edges are at or over it, and one more; NaN, which compares with nothing, has the level 0.
    """

    def __init__(self, group: Sequence[tuple[NumericFeature, Place, int]]) -> None:
        self.names = tuple(feature.name for feature, _, _ in group)
        most = max(len(feature.edges) for feature, _, _ in group)
        # Features of fewer edges get infinite ones: every number is at or under them.
        self._edges = np.full((most, len(group), 1), np.inf, np.float32)
        self._first = (most + 2) * np.arange(len(group))[:, None]
        levels: list[int] = []
        bins: list[int] = []
        for number, (feature, _, start) in enumerate(group):
            edges = len(feature.edges)
            self._edges[:edges, number, 0] = _float32(feature)
            levels += [self._first[number, 0] + level for level in (*range(most + 1, most - edges, -1), 0)]
            bins += range(start, start + edges + 2)
        self._levels, self._bins = np.array(levels, np.intp), np.array(bins, np.intp)
        by_tensor: dict[str, list[int]] = {}
        for number, (_, place, _) in enumerate(group):
            by_tensor.setdefault(place.tensor, []).append(number)
        self._sources = [
            (group[numbers[0]][1], _indices(numbers), _indices([group[number][1].column for number in numbers]))
            for numbers in by_tensor.values()
        ]

    def add(self, tensors: Columns, counts: Counts) -> None:
        """See `_Part.add`."""
        tables = [(_table(tensors, place), numbers, columns) for place, numbers, columns in self._sources]
        rows = len(tables[0][0])
        found = np.zeros(len(self.names) * (len(self._edges) + 2), np.int64)
        step = max(1, _VALUES // len(self.names))
        for start in range(0, rows, step):
            values = np.empty((len(self.names), min(step, rows - start)), np.float32)
            with np.errstate(over="ignore"):  # of a double that is no single: infinite
                for table, numbers, columns in tables:
                    values[numbers] = table[start : start + step, columns].T
            found += self._count(values)
        counts[self._bins] += found[self._levels]

    def _count(self, values: NDArray[np.float32]) -> Counts:
        levels = (values == values).view(np.uint8)  # noqa: PLR0124 -- only NaN is not itself
        under = np.empty(values.shape, np.bool_)
        for edge in self._edges:
            np.less_equal(values, edge, out=under)
            np.add(levels, under.view(np.uint8), out=levels)
        return np.bincount((levels + self._first).ravel(), minlength=len(self.names) * (len(self._edges) + 2))


class _Fine:
    """One numeric feature of many edges: each value is searched for."""

    def __init__(self, feature: NumericFeature, place: Place, start: int) -> None:
        self.names = (feature.name,)
        self._feature, self._place = feature, place
        self._bins = slice(start, start + len(feature.reference))

    def add(self, tensors: Columns, counts: Counts) -> None:
        """See `_Part.add`."""
        with np.errstate(over="ignore"):
            values = _column(tensors, self._place).astype(np.float32)
        counts[self._bins] += self._feature.count(values)


class _Categories:
    """One categorical feature: texts are compared as UTF-8, numbers as the texts they are written as."""

    def __init__(self, feature: CategoricalFeature, place: Place, start: int) -> None:
        self.names = (feature.name,)
        self._place = place
        self._bins = slice(start, start + len(feature.reference))
        self._other = len(feature.values)
        self._known = {_utf8(value): number for number, value in enumerate(feature.values)} | {b"": self._other + 1}

    def add(self, tensors: Columns, counts: Counts) -> None:
        """See `_Part.add`."""
        column = _column(tensors, self._place)
        found = [0] * (self._other + 2)
        known, other = self._known, self._other
        for start in range(0, len(column), _TEXTS):
            part = column[start : start + _TEXTS]
            counted = _written(part) if self._place.kind == "numbers" else Counter(part.tolist())
            for value, number in counted.items():
                found[known.get(value, other)] += number
        counts[self._bins] += np.array(found, np.int64)


class _Classes:
    """The most probable class of each row; of two that are alike the first, and `missing` where a probability is no number."""

    def __init__(self, feature: CategoricalFeature, place: Place, start: int, classes: Sequence[str]) -> None:
        self.names = (feature.name,)
        self._place = place
        self._missing = len(classes)
        other = len(feature.values)
        known = {value: number for number, value in enumerate(feature.values)} | {"": other + 1}
        self._bins = start + np.array([*(known.get(name, other) for name in classes), other + 1], np.intp)

    def add(self, tensors: Columns, counts: Counts) -> None:
        """See `_Part.add`."""
        table = _table(tensors, self._place)
        best = table.argmax(axis=1)
        best[np.isnan(table).any(axis=1)] = self._missing
        np.add.at(counts, self._bins, np.bincount(best, minlength=self._missing + 1))


def _float32(feature: NumericFeature) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.asarray(feature.edges, np.float64).astype(np.float32)


def _table(tensors: Columns, place: Place) -> Tensor:
    """[n, width] of a tensor that, if it has one column, may have no second dimension."""
    tensor = tensors[place.tensor]
    return tensor.reshape(len(tensor), place.width)


def _column(tensors: Columns, place: Place) -> Tensor:
    return _table(tensors, place)[:, place.column]


def _indices(numbers: Sequence[int]) -> slice | list[int]:
    """`numbers` as an index; a slice, which copies nothing, where they follow each other."""
    first = numbers[0]
    return slice(first, first + len(numbers)) if list(numbers) == list(range(first, first + len(numbers))) else list(numbers)


def _written(column: Tensor) -> Counter[bytes]:
    """Numbers by the texts they are written as; of no number, the empty one."""
    texts: Counter[bytes] = Counter()
    # Zeros are counted together, as they are equal, but are written with their signs.
    negative = int(np.count_nonzero(np.signbit(column) & (column == 0))) if column.dtype.kind == "f" else 0
    for value, number in Counter(column.tolist()).items():
        if value != value:  # noqa: PLR0124 -- only NaN is not itself
            texts[b""] += number
        elif negative and value == 0:
            texts[b"-0.0"] += negative
            texts[b"0.0"] += number - negative
        else:
            texts[_utf8(str(value))] += number
    return texts


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
