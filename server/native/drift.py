"""How the features of a profile are counted, as `src/drift.rs` reads it, and what it has counted."""

import contextlib
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import tidegate_native

from registry.bundle import Signature
from registry.drift_tally import Tally, starts
from registry.profile import CategoricalFeature, Feature, NumericFeature, Profile
from server.counts import COUNTED_ARMS
from server.drift_counters import Totals
from server.drift_places import Place, places

_Written: TypeAlias = tuple["_Place", Sequence[tuple[int, int]], int, int]


class NativeRows:
    """See `server.drift_counters.RowCounts`: the rows of one version, which Rust counts in `counting`."""

    def __init__(self, profile: Profile, signature: Signature) -> None:
        self._names = [feature.name for feature in profile.features]
        self.counting = tidegate_native.DriftCounting(_features(profile, signature))

    def totals(self) -> Totals:
        """See `RowCounts.totals`."""
        tallies, lost = self.counting.counts()
        arms = {arm: Tally(rows, np.array(bins, np.int64)) for arm, (rows, bins) in zip(COUNTED_ARMS, tallies, strict=True)}
        return Totals(arms, frozenset(self._names[number] for number in lost))


@dataclass(frozen=True)
class _Place:
    """Where a feature is: number in the profile, tensor (inputs, then outputs), column and how many there are, first bin."""

    feature: int
    tensor: int
    column: int
    width: int
    start: int


@dataclass(frozen=True)
class _Features:
    """What is counted how: see `src/drift.rs`."""

    number: int
    bins: int
    numbers: list[tuple[_Place, Sequence[float]]] = field(default_factory=list)
    texts: list[tuple[_Place, Sequence[bytes]]] = field(default_factory=list)
    written: list[_Written] = field(default_factory=list)
    classes: list[tuple[_Place, Sequence[int], int]] = field(default_factory=list)


def _features(profile: Profile, signature: Signature) -> _Features:
    bins = starts(profile).tolist()
    features = _Features(len(profile.features), bins[-1])
    tensors = [*signature.inputs, *signature.outputs]
    # An input and an output may have the same name.
    inputs = {spec.name: number for number, spec in enumerate(signature.inputs)}
    outputs = {spec.name: number for number, spec in enumerate(signature.outputs, len(inputs))}
    for number, (feature, place) in enumerate(zip(profile.features, places(profile, signature), strict=True)):
        if place is None:
            continue
        tensor = (inputs if number < len(profile.inputs) else outputs)[place.tensor]
        here = _Place(number, tensor, place.column, place.width, bins[number])
        _add(features, feature, place, here, tensors[tensor].datatype, signature.classes)
    return features


def _add(features: _Features, feature: Feature, place: Place, here: _Place, datatype: str, classes: Sequence[str]) -> None:
    if isinstance(feature, NumericFeature):
        with np.errstate(over="ignore"):
            edges = np.asarray(feature.edges, np.float64).astype(np.float32)
        features.numbers.append((here, edges.tolist()))
    elif place.kind == "classes":
        features.classes.append(_classes(feature, here, classes))
    elif place.kind == "numbers":
        features.written.append(_written(feature, here, datatype))
    else:
        features.texts.append((here, [value.encode(errors="surrogatepass") for value in feature.values]))


def _classes(feature: CategoricalFeature, here: _Place, classes: Sequence[str]) -> tuple[_Place, Sequence[int], int]:
    bins = _bins(feature, here)
    return here, [bins.get(name, here.start + len(feature.values)) for name in classes], bins[""]


def _written(feature: CategoricalFeature, here: _Place, datatype: str) -> _Written:
    bins = _bins(feature, here)
    keys = {key: bins[value] for value in feature.values for key in _keys(value, datatype)}
    return here, list(keys.items()), here.start + len(feature.values), bins[""]


def _bins(feature: CategoricalFeature, here: _Place) -> Mapping[str, int]:
    """The bin of each value that has one of its own, and of the empty text."""
    return {value: here.start + number for number, value in enumerate(feature.values)} | {"": here.start + len(feature.values) + 1}


def _keys(text: str, datatype: str) -> Iterator[int]:
    """By what Rust knows the number of this datatype that Python writes as `text`, if there is one: see `src/numbers.rs`."""
    with contextlib.suppress(ValueError):
        if datatype == "BOOL":
            yield ("False", "True").index(text)
        elif datatype.startswith("FP"):
            number = float(text)
            if str(number) == text and not math.isnan(number):
                yield int.from_bytes(struct.pack("<d", number), "little")
        else:
            whole = int(text)
            least, most = (0, 1 << 64) if datatype.startswith("UINT") else (-(1 << 63), 1 << 63)
            if str(whole) == text and least <= whole < most:
                yield whole % (1 << 64)
