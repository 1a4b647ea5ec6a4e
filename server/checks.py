"""What must agree before a version is served: what `signature.json` states, what the model says of itself, profile and golden rows.

Checked are, of every input and output, name, datatype, rank, and each size that both sides give; that an input has as many columns as are
named; that a table that comes out has a column for each class; that the profile is of these inputs; and that the golden rows come out as
they did when they were registered.
"""

import io
from collections import Counter
from zipfile import BadZipFile

import numpy as np

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.profile import NumericFeature, Profile
from server.drift_places import input_places
from server.engine import Columns, Engine, Tensor
from server.errors import ModelFailedError, NotServableError
from server.row_probe import agree

_RANK_OF_COLUMNS = 2


def check_signature(stated: Signature, found: Signature) -> None:
    """Refuse a `signature.json` that the model, as it describes itself, contradicts; where either leaves a size free, the other may fix it.

    Raises:
        NotServableError: naming the tensor.
    """
    for what, ours, models in (("input", stated.inputs, found.inputs), ("output", stated.outputs, found.outputs)):
        known = {spec.name: spec for spec in models}
        if sorted(spec.name for spec in ours) != sorted(known):
            names = [sorted(spec.name for spec in specs) for specs in (ours, models)]
            raise NotServableError(f"{bundle.SIGNATURE} states the {what}s {', '.join(names[0])}; the model has {', '.join(names[1])}")
        for spec in ours:
            _check_tensor(what, spec, known[spec.name])
    _check_classes(stated, found)


def _check_tensor(what: str, stated: TensorSpec, found: TensorSpec) -> None:
    if stated.datatype != found.datatype or len(stated.shape) != len(found.shape) or not all(map(_fits, stated.shape, found.shape)):
        raise NotServableError(
            f"{bundle.SIGNATURE} states {what} {stated.name} as {stated.datatype} {list(stated.shape)}; "
            f"the model has {found.datatype} {list(found.shape)}"
        )
    if what == "input" and stated.columns:
        sizes = [spec.shape[1] if len(spec.shape) == _RANK_OF_COLUMNS else 0 for spec in (stated, found)]
        if not all(_fits(len(stated.columns), size) for size in sizes):
            raise NotServableError(
                f"{bundle.SIGNATURE} names {len(stated.columns)} columns of input {stated.name}, which has the shape {list(found.shape)}"
            )


def _check_classes(stated: Signature, found: Signature) -> None:
    """One of the tables of numbers that come out, if there is any, has a column for each class."""
    tables = [spec for signature in (stated, found) for spec in signature.outputs if _is_table(spec)]
    narrow = {spec.name for spec in tables if not _fits(len(stated.classes), spec.shape[1])}
    if stated.classes and tables and narrow == {spec.name for spec in tables}:
        raise NotServableError(
            f"{bundle.SIGNATURE} names {len(stated.classes)} classes; no output has as many columns: "
            f"{', '.join(f'{spec.name} {list(spec.shape)}' for spec in found.outputs)}"
        )


def _is_table(spec: TensorSpec) -> bool:
    return len(spec.shape) == _RANK_OF_COLUMNS and spec.datatype.startswith("FP")


def _fits(stated: int, found: int) -> bool:
    return stated == found or -1 in {stated, found}


def check_profile(profile: Profile, signature: Signature) -> None:
    """Refuse a profile of another version: one with an input that is not among the named columns of the signature, or is of another kind.

    And one in which two features have one name, as an input called `score` beside the prediction of that name: metrics tell them by it.
    Where the signature names no columns nothing else can be said; features that then are nowhere are told of, and not counted.

    Raises:
        NotServableError: naming the feature.
    """
    names = [feature.name for feature in profile.features]
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise NotServableError(f"{bundle.PROFILE} has two features called {twice[0]!r}: give the column another name, and train again")
    if not any(spec.columns for spec in signature.inputs):
        return
    places = input_places(signature)
    for feature in profile.inputs:
        place = places.get(feature.name)
        if place is None:
            raise NotServableError(f"{bundle.PROFILE} is of another version: its input {feature.name!r} is not in {bundle.SIGNATURE}")
        if isinstance(feature, NumericFeature) and place.kind != "numbers":
            raise NotServableError(
                f"{bundle.PROFILE} is of another version: its input {feature.name!r} is numeric, that of the model is text"
            )


def check_golden(raw: bytes, engine: Engine, signature: Signature) -> Columns:
    """The golden inputs, as an engine takes them, when they give the golden outputs.

    Raises:
        NotServableError: if they do not, or cannot be read.
    """
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            inputs = {spec.name: _golden(arrays[f"input.{spec.name}"]) for spec in signature.inputs}
            expected = {spec.name: _golden(arrays[f"output.{spec.name}"]) for spec in signature.outputs}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise NotServableError(f"{bundle.GOLDEN} cannot be read: {error}") from error
    try:
        got = engine.run(inputs, tuple(expected))
    except ModelFailedError as error:
        raise NotServableError(f"the golden rows fail: {error}") from error
    for name, values in expected.items():
        if not agree(values, got[name]):
            raise NotServableError(f"the golden rows come out differently in {name}: the model does not reproduce what was registered")
    return inputs


def _golden(array: Tensor) -> Tensor:
    return array.astype(str).astype(object) if array.dtype.kind in "SU" else array
