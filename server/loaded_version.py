"""A version ready to serve, and how it becomes one.

Its files are read and hashed, the model is loaded, held to the other files (`checks`), and tried for whether it keeps rows apart
(`row_probe`), which warms it up. Which versions to load, and what to do about one that fails, is decided in `plan`.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import structlog

from registry import bundle, profile, significance
from registry.bundle import Signature
from registry.canonical import digest
from registry.errors import RegistryError
from registry.profile import Profile
from registry.registry import Registry
from server import row_probe
from server.checks import check_golden, check_profile, check_signature
from server.counts import VersionKey
from server.engine import Columns, Engine
from server.errors import NotServableError

MEMORY_FACTOR = 6
"""Bytes of memory that a byte of model.onnx comes to. Measured with ONNX Runtime 1.32: 2.0 for the weights of dense layers (the tensor and
a copy packed for the processor), 5.6 for tree ensembles (a node is some 10 bytes in the file and 60 in memory). The growth of the process
is not used: it depends on what was freed before and on what else runs, and is known only when it is too late to refuse."""
MEMORY_FLOOR = 1 << 18
"""What a version takes however small its file: session, queue and thread."""

EngineFactory: TypeAlias = Callable[[bytes], Engine]

_log = structlog.get_logger("tidegate.loading")


@dataclass(frozen=True)
class LoadedVersion:
    """One version of one model, checked and warm.

    `digest` is the sha256 of its model.onnx; `load_seconds` what loading and checking took. `batchable` says whether rows of several
    callers may share a run; `memory_bytes` is an estimate of the memory it takes.
    """

    model: str
    number: int
    digest: str
    signature: Signature
    engine: Engine
    profile: Profile | None
    load_seconds: float
    batchable: bool = False
    memory_bytes: int = 0

    @property
    def key(self) -> VersionKey:
        """Model and number."""
        return self.model, self.number


def memory_bytes(file_bytes: int) -> int:
    """The estimate of the memory that a model of `file_bytes` takes when it is loaded."""
    return file_bytes * MEMORY_FACTOR + MEMORY_FLOOR


def load(registry: Registry, model: str, number: int, make_engine: EngineFactory) -> LoadedVersion:
    """Load a registered version, from the bytes whose digest was checked.

    Raises:
        NotServableError: if its files are corrupt, do not load, contradict each other, or the golden rows come out differently.
    """
    start = time.perf_counter()
    try:
        if registry.state(model).version(number).retired:
            raise NotServableError("it is retired: taken out of use for good")
        files = registry.manifest(model, number).files
        raw = registry.blobs.get(files[bundle.MODEL].sha256)
        signature = bundle.parse_signature(registry.blobs.get(files[bundle.SIGNATURE].sha256))
        reference = profile.parse(registry.blobs.get(files[bundle.PROFILE].sha256)) if bundle.PROFILE in files else None
        golden = registry.blobs.get(files[bundle.GOLDEN].sha256) if bundle.GOLDEN in files else None
    except KeyError as error:
        raise NotServableError(f"the bundle has no {error.args[0]}: register it again") from error
    except RegistryError as error:
        raise NotServableError(str(error)) from error
    engine = make_engine(raw)
    check_signature(signature, engine.signature)
    if reference is not None:
        check_profile(reference, signature)
        significance.prepare()
    rows = check_golden(golden, engine, signature) if golden is not None else None
    batchable = _keeps_rows_apart(model, number, engine, signature, rows)
    hashed, seconds = files[bundle.MODEL].sha256, time.perf_counter() - start
    return LoadedVersion(model, number, hashed, signature, engine, reference, seconds, batchable, memory_bytes(len(raw)))


def load_folder(folder: Path, name: str | None, make_engine: EngineFactory) -> LoadedVersion:
    """Load `folder/model.onnx`, or the only *.onnx of the folder, as version 1, without registry, profile or golden rows.

    The model is called `name`, or as the folder.

    Raises:
        NotServableError: if there is no such file, more than one, or it does not load.
    """
    start = time.perf_counter()
    path = _model_file(folder)
    # A link is called what it is called: where it leads changes with each release.
    model = name or Path(os.path.abspath(folder)).name  # noqa: PTH100 -- Path.absolute keeps `..`
    if not model or not model.isprintable():
        raise NotServableError(f"{folder} has no name to call the model by: give one with --model-name")
    if path.exists() and not path.is_file():
        raise NotServableError(f"{path} is no file; --model-dir is the folder that the file of the model is in")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NotServableError(f"cannot read {path}: {error.strerror}; --model-dir is the folder it is in") from error
    engine = make_engine(raw)
    signature = engine.signature
    batchable = _keeps_rows_apart(model, 1, engine, signature, None)
    seconds = time.perf_counter() - start
    return LoadedVersion(model, 1, digest(raw), signature, engine, None, seconds, batchable, memory_bytes(len(raw)))


def _model_file(folder: Path) -> Path:
    named = folder / bundle.MODEL
    if named.exists():
        return named
    found = sorted(folder.glob("[!.]*.onnx"))
    if len(found) > 1:
        raise NotServableError(f"{folder} holds {len(found)} ONNX files: call the one to serve {bundle.MODEL}")
    return found[0] if found else named


def _keeps_rows_apart(model: str, number: int, engine: Engine, signature: Signature, rows: Columns | None) -> bool:
    why = row_probe.what_mixes_rows(engine, signature, rows)
    if why and engine.batchable:
        _log.warning("every request is a run of its own", model=model, version=number, why=why)
    return not why
