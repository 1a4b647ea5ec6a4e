"""Whether a model keeps rows apart, found by running it: only then may rows of several callers share a run.

Shapes cannot tell: a softmax over the first axis, a mean of all rows or a scale taken from the whole batch has rows in and rows out like
any other model. A few rows are run together, one at a time, and together in another order; if an answer depends on the company, each
request is a run of its own.
"""

import time
from collections.abc import Mapping
from math import prod

import numpy as np

from registry.bundle import Signature, TensorSpec
from server.engine import DTYPES, Columns, Engine, Tensor
from server.errors import ModelFailedError

TOLERANCE = 1e-5
"""Rows run together take other kernels than one row alone, which round otherwise: they agree within this, absolutely and relatively."""
PROBE_ROWS = 4
MAX_PROBE_BYTES = 16 << 20
"""Rows larger than this together are not made up: a model of such rows gains nothing from sharing runs."""
MAX_ROW_SECONDS = 0.5
"""A model that takes longer for one row is not run again and again only to find out."""
_FREE_SIZES = (1, 2, 3, 4)
"""Tried in turn for dimensions that neither the signature nor column names give."""
_HALF_PRECISION_EPS = 4
"""Half precision has steps of a thousandth: agreement is then a few steps, not `TOLERANCE`."""


def agree(expected: Tensor, got: Tensor) -> bool:
    """Whether two tensors are the same: whole numbers and texts exactly, floating point within the tolerance."""
    if expected.shape != got.shape:
        return False
    if expected.dtype.kind != "f" or got.dtype.kind != "f":
        return bool(np.array_equal(expected, got))
    step = max(float(np.finfo(tensor.dtype).eps) for tensor in (expected, got))
    tolerance = max(TOLERANCE, _HALF_PRECISION_EPS * step)
    # As doubles: the difference of two halves overflows where their values do not.
    return np.allclose(expected.astype(np.float64), got.astype(np.float64), rtol=tolerance, atol=tolerance, equal_nan=True)


def what_mixes_rows(engine: Engine, signature: Signature, rows: Columns | None) -> str:
    """Why the rows of several requests must not share a run; empty if they may.

    `rows` are rows known to be good, as an engine takes them, if there are any; where fewer than two of them differ, rows are made up. A
    probe that fails counts as a reason: what is not known to keep rows apart is run for each caller alone. Runs the model, which also warms
    it up.
    """
    if not engine.batchable:
        warm_up(engine, signature, rows)
        return "its tensors do not share one free first dimension"
    candidates = [distinct] if rows and (distinct := _distinct(rows)) else _made_up(signature, PROBE_ROWS)
    reason = f"{PROBE_ROWS} rows to try it with would be larger than {MAX_PROBE_BYTES >> 20} MiB"
    for candidate in candidates:
        try:
            return _difference(engine, signature, candidate)
        except ModelFailedError as error:
            reason = f"rows to try it with fail: {error}"
    return reason


def warm_up(engine: Engine, signature: Signature, rows: Columns | None) -> None:
    """Run the model once, so that the first request is not the slow one; that made-up rows fail says nothing."""
    names = tuple(spec.name for spec in signature.outputs)
    for candidate in [rows] if rows else _made_up(signature, 1):
        try:
            engine.run(candidate, names)
        except ModelFailedError:
            continue
        return


def _difference(engine: Engine, signature: Signature, rows: Columns) -> str:
    """What differs between rows run alone, together and in reverse; raises ModelFailedError if a run fails."""
    count = len(next(iter(rows.values())))
    names = tuple(spec.name for spec in signature.outputs)
    start = time.perf_counter()
    alone = [engine.run(_rows(rows, slice(0, 1)), names)]
    if (seconds := time.perf_counter() - start) > MAX_ROW_SECONDS:
        return f"one row takes {seconds:.1f} s"
    alone += [engine.run(_rows(rows, slice(place, place + 1)), names) for place in range(1, count)]
    together, reversed_ = engine.run(rows, names), engine.run(_rows(rows, slice(None, None, -1)), names)
    for spec in signature.outputs:
        name = spec.name
        if any(stated not in (-1, got) for stated, got in zip(spec.shape[1:], together[name].shape[1:], strict=False)):
            return f"output {name} has another shape than the model states: it may depend on the values"
        sizes = [(together[name], count), (reversed_[name], count), *((answer[name], 1) for answer in alone)]
        if any(not tensor.ndim or len(tensor) != size for tensor, size in sizes):
            return f"output {name} has not one row for each row of the input"
        apart = [answer[name] for answer in alone]
        if len({tensor.shape for tensor in apart}) > 1 or not agree(np.concatenate(apart), together[name]):
            return f"a row's {name} is another when it is run together with other rows"
        if not agree(together[name], reversed_[name][::-1]):
            return f"a row's {name} depends on its place among other rows"
    return ""


def _distinct(rows: Columns) -> Columns | None:
    """Up to `PROBE_ROWS` rows that differ from each other; None if they are fewer than two, or not rows at all."""
    counts = {len(tensor) if tensor.ndim else -1 for tensor in rows.values()}
    if len(counts) != 1 or min(counts) < 1:
        return None
    places: dict[str, int] = {}
    for place in range(counts.pop()):
        places.setdefault(repr([tensor[place].tolist() for tensor in rows.values()]), place)
        if len(places) == PROBE_ROWS:
            break
    chosen = list(places.values())
    return {name: tensor[chosen] for name, tensor in rows.items()} if len(chosen) > 1 else None


def _rows(rows: Columns, which: slice) -> Columns:
    return {name: np.ascontiguousarray(tensor[which]) for name, tensor in rows.items()}


def _made_up(signature: Signature, count: int) -> list[Columns]:
    """Small values that differ from row to row and column to column, for each size that free dimensions may have to be."""
    sizes = _FREE_SIZES if any(-1 in _shape(spec, count) for spec in signature.inputs) else _FREE_SIZES[:1]
    shapes = [{spec.name: tuple(free if size < 0 else size for size in _shape(spec, count)) for spec in signature.inputs} for free in sizes]
    return [_values(signature, shape) for shape in shapes if _bytes(signature, shape) <= MAX_PROBE_BYTES]


def _shape(spec: TensorSpec, count: int) -> tuple[int, ...]:
    shape = [count if size < 0 and place == 0 else size for place, size in enumerate(spec.shape)]
    if spec.columns and len(shape) > 1:
        shape[1] = len(spec.columns)
    return tuple(shape)


def _bytes(signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(prod(shapes[spec.name]) * max(DTYPES[spec.datatype].itemsize, 1) for spec in signature.inputs)


def _values(signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> Columns:
    generator = np.random.default_rng(20)
    return {spec.name: _tensor(spec.datatype, shapes[spec.name], generator) for spec in signature.inputs}


def _tensor(datatype: str, shape: tuple[int, ...], generator: np.random.Generator) -> Tensor:
    """Whole numbers and texts are those from 0 to 3: indices that most tables have, moved on by one from row to row."""
    if datatype.startswith("FP"):
        return generator.normal(size=shape).astype(DTYPES[datatype])
    width = max(prod(shape[1:]), 1)
    places = np.arange(prod(shape))
    numbers = ((places // width + places % width) % PROBE_ROWS).reshape(shape)
    if datatype == "BYTES":
        return np.array([str(number) for number in numbers.ravel()], dtype=object).reshape(shape)
    return numbers % 2 == 1 if datatype == "BOOL" else numbers.astype(DTYPES[datatype])
