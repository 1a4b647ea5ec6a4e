"""What it costs to count drift and to show it, in this process and in seconds of its processor: no daemon, no wire."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

import numpy as np

from registry.bundle import Signature, TensorSpec
from registry.profile import Feature, Profile, categorical_feature, numeric_feature
from server.counts import Counters
from server.drift_counters import DriftCounter
from server.drift_metrics import DriftExposition
from server.engine import Engine, rows_of
from server.grpcio_transport.batcher import Batch
from server.grpcio_transport.drift import CountedBatches
from server.grpcio_transport.fair_queue import NORMAL, Piece, Waiting
from server.loaded_version import LoadedVersion
from tests.load import figures
from tests.load.figures import Figure
from tests.load.lab import Lab

ROWS = 1 << 20
DISTINCT_ROWS = 1 << 15
"""Sent over and over: what has just been served is in the cache when it is counted"""
ROWS_A_FOLD = 8192
NUMERIC, CATEGORICAL = 15, 5
CATEGORIES = [f"category {number}" for number in range(30)]
FEATURES = 500
SEED = 11


def counting(lab: Lab) -> Iterator[Figure]:
    """A million rows of 20 features, in batches of two sizes; and the metrics of 500 features."""
    lab.say("the cost of counting a million rows and of showing 500 features")
    gc.collect()
    gc.disable()  # as the daemon does
    try:
        for rows in (64, 1):
            observed, folded = counted(rows)
            what = f"drift of {ROWS:,} rows x {NUMERIC + CATEGORICAL} features counted, in batches of {rows}"
            yield figures.under(what, folded, "s", 1, f"and {1e6 * observed * rows / ROWS:.2g} us a batch to keep it")
        first, fresh, same = exported()
        yield figures.under(f"drift of {FEATURES} features as metrics, after new counts", fresh, "ms", 50, f"the first time {first:.0f} ms")
        yield Figure("  the same without new counts", same, "ms")
    finally:
        gc.enable()


def counted(rows: int) -> tuple[float, float]:
    """Seconds that observing and folding take for `ROWS` rows in batches of `rows`."""
    version, batches = _version(NUMERIC, CATEGORICAL), _batches(rows)
    counter = _counter(version)
    _observe(counter, batches)
    counter.fold()  # loads scipy, which the first window to end asks for
    observed = folded = 0.0
    for _ in range(ROWS // DISTINCT_ROWS):
        for start in range(0, len(batches), ROWS_A_FOLD // rows):
            observed += _seconds(partial(_observe, counter, batches[start : start + ROWS_A_FOLD // rows]))
            folded += _seconds(counter.fold)
    if (seen := counter.counts().arms[""].everything.tally.rows) != ROWS + DISTINCT_ROWS:
        raise AssertionError(f"{seen} rows were counted of {ROWS + DISTINCT_ROWS}")
    return observed, folded


def exported() -> tuple[float, float, float]:
    """Milliseconds to write the metrics of `FEATURES` features: the first time, after new counts, and without."""
    version = _version(FEATURES, 0)
    counter = _counter(version)
    exposition = DriftExposition(lambda: Counters({}, {}, {}, {}, {version.key: counter.counts()}), FEATURES)
    values = np.random.default_rng(SEED).normal(size=(20_000, FEATURES)).astype(np.float32)

    def serve() -> None:
        counter.rows.observe(_batch({"numeric": values}, len(values)))
        counter.fold()

    def write() -> float:
        return 1e3 * _seconds(lambda: "".join(family.text(openmetrics=False) for family in exposition.families()).encode())

    serve()
    first = write()
    fresh = []
    for _ in range(5):
        serve()
        fresh.append(write())
    return first, float(np.median(fresh)), min(write() for _ in range(5))


def _counter(version: LoadedVersion) -> DriftCounter[CountedBatches]:
    profile = cast("Profile", version.profile)
    return DriftCounter(version, profile, time.time, CountedBatches(profile, version.signature))


def _version(numeric: int, categorical: int) -> LoadedVersion:
    generator = np.random.default_rng(SEED)
    names, kinds = tuple(f"numeric {n}" for n in range(numeric)), tuple(f"categorical {n}" for n in range(categorical))
    inputs: tuple[Feature, ...] = (
        *(numeric_feature(name, generator.normal(size=2000)) for name in names),
        *(categorical_feature(kind, generator.choice(CATEGORIES, 2000).tolist()) for kind in kinds),
    )
    specs = [TensorSpec("numeric", "FP32", (-1, numeric), names), TensorSpec("categorical", "BYTES", (-1, categorical), kinds)]
    signature = Signature(tuple(spec for spec in specs if spec.columns), (TensorSpec("scaled", "FP32", (-1,)),))
    return LoadedVersion("model", 1, "0" * 64, signature, cast("Engine", None), Profile(2000, inputs, ()), 0.0)


def _batches(rows: int) -> list[Batch]:
    generator = np.random.default_rng(SEED)
    texts = np.empty((DISTINCT_ROWS, CATEGORICAL), object)
    chosen = generator.integers(len(CATEGORIES), size=texts.shape)
    for row, numbers in zip(texts, chosen.tolist(), strict=True):
        row[:] = [CATEGORIES[number].encode() for number in numbers]  # an object of its own for each value, as on the wire
    columns = {"numeric": generator.normal(size=(DISTINCT_ROWS, NUMERIC)).astype(np.float32), "categorical": texts}
    return [_batch(rows_of(columns, start, start + rows), rows) for start in range(0, DISTINCT_ROWS, rows)]


def _batch(inputs: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], rows: int) -> Batch:
    waiting = Waiting(inputs, rows, (), ("scaled",), "", NORMAL, 0.0, 0.0, lambda _, __: None)
    return Batch([Piece(waiting, inputs, 0, rows)], inputs, {}, rows, 0.0, 0.0)


def _observe(counter: DriftCounter[CountedBatches], batches: Sequence[Batch]) -> None:
    for batch in batches:
        counter.rows.observe(batch)


def _seconds(act: Callable[[], object]) -> float:
    start = time.thread_time()
    act()
    return time.thread_time() - start
