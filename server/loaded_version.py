"""A version ready to serve, and the checks that make it so: digest, signature, golden rows. The follower decides which versions to load."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from zipfile import BadZipFile

import numpy as np

from registry import bundle, profile
from registry.bundle import Signature, TensorSpec
from registry.canonical import digest
from registry.errors import RegistryError
from registry.profile import Profile
from registry.registry import Registry
from server.engine import Engine
from server.errors import ModelFailedError, NotServableError

GOLDEN_TOLERANCE = 1e-5
"""Another processor rounds otherwise; golden outputs agree within this, absolutely and relatively."""

EngineFactory: TypeAlias = Callable[[bytes], Engine]


@dataclass(frozen=True)
class LoadedVersion:
    """One version of one model, checked and warm.

    `digest` is the sha256 of its model.onnx; `load_seconds` what loading and checking took.
    """

    model: str
    number: int
    digest: str
    signature: Signature
    engine: Engine
    profile: Profile | None
    load_seconds: float


def load(registry: Registry, model: str, number: int, make_engine: EngineFactory) -> LoadedVersion:
    """Load a registered version, from the bytes whose digest was checked.

    Raises:
        NotServableError: if its files are corrupt, do not load, contradict each other, or the golden rows come out differently.
    """
    start = time.perf_counter()
    try:
        files = registry.manifest(model, number).files
        raw = registry.read(model, number, bundle.MODEL)
        signature = bundle.parse_signature(registry.read(model, number, bundle.SIGNATURE))
        reference = profile.parse(registry.read(model, number, bundle.PROFILE)) if bundle.PROFILE in files else None
        golden = registry.read(model, number, bundle.GOLDEN) if bundle.GOLDEN in files else None
    except RegistryError as error:
        raise NotServableError(str(error)) from error
    engine = make_engine(raw)
    _check_signature(signature, engine.signature)
    if golden is not None:
        _check_golden(golden, engine, signature)
    return LoadedVersion(model, number, digest(raw), signature, engine, reference, time.perf_counter() - start)


def load_folder(folder: Path, make_engine: EngineFactory) -> LoadedVersion:
    """Load `folder/model.onnx` as version 1 of a model named as the folder, without registry, profile or golden rows.

    Raises:
        NotServableError: if there is no such file, or it does not load.
    """
    start = time.perf_counter()
    try:
        raw = (folder / bundle.MODEL).read_bytes()
    except OSError as error:
        raise NotServableError(f"cannot read {folder / bundle.MODEL}: {error.strerror}; --model-dir is the folder it is in") from error
    engine = make_engine(raw)
    return LoadedVersion(folder.resolve().name, 1, digest(raw), engine.signature, engine, None, time.perf_counter() - start)


def _check_signature(stated: Signature, found: Signature) -> None:
    for what, ours, models in (("inputs", stated.inputs, found.inputs), ("outputs", stated.outputs, found.outputs)):
        if sorted(map(_essence, ours)) != sorted(map(_essence, models)):
            raise NotServableError(f"{bundle.SIGNATURE} states {what} {ours}, the model has {models}")


def _essence(spec: TensorSpec) -> tuple[str, str, int]:
    return spec.name, spec.datatype, len(spec.shape)


def _check_golden(raw: bytes, engine: Engine, signature: Signature) -> None:
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            inputs = {spec.name: _golden(arrays[f"input.{spec.name}"]) for spec in signature.inputs}
            expected = {spec.name: _golden(arrays[f"output.{spec.name}"]) for spec in signature.outputs}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise NotServableError(f"{bundle.GOLDEN} cannot be read: {error}") from error
    try:
        got = engine.run(inputs)
    except ModelFailedError as error:
        raise NotServableError(f"the golden rows fail: {error}") from error
    for name, values in expected.items():
        if not _agree(values, got[name]):
            raise NotServableError(f"the golden rows come out differently in {name}: the model does not reproduce what was registered")


def _golden(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "U":
        return array
    encoded = np.empty(array.shape, dtype=object)
    encoded.ravel()[:] = [str(value).encode() for value in array.ravel()]
    return encoded


def _agree(expected: np.ndarray, got: np.ndarray) -> bool:
    if expected.shape != got.shape:
        return False
    if expected.dtype.kind == "f":
        return np.allclose(expected, got, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE, equal_nan=True)
    return bool(np.array_equal(expected, got))
