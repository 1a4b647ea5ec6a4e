"""A version is served only if its files are what was registered and fit each other."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from registry.registry import Registry
from server.errors import NotServableError
from server.loaded_version import load
from server.onnx_engine import OnnxEngine
from tests import models

ENGINE = partial(OnnxEngine, threads=1)
SIGNATURE = Signature((TensorSpec("numeric", "FP32", (-1, 3), models.COLUMNS),), (TensorSpec("scaled", "FP32", (-1, 3)),))
ROWS = np.ones((2, 3), np.float32)
GOOD = {
    bundle.MODEL: models.scaled(2.0),
    bundle.SIGNATURE: SIGNATURE.encode(),
    bundle.GOLDEN: models.golden({"input.numeric": ROWS, "output.scaled": ROWS * 2}),
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return create_registry(str(tmp_path / "registry"))


def test_bundle_that_fits_is_loaded(registry: Registry) -> None:
    registry.register("scaled", GOOD, {}, actor="test", reason="good")
    assert load(registry, "scaled", 1, ENGINE).signature == SIGNATURE


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (bundle.MODEL, models.scaled(2.0).replace(b"Mul", b"Mol"), "cannot load the model"),
        (bundle.MODEL, models.lookup(), "signature.json states"),
        (bundle.GOLDEN, b"", "golden.npz cannot be read"),
        (bundle.GOLDEN, b"PK\x03\x04 not a zip", "golden.npz cannot be read"),
        (bundle.GOLDEN, models.golden({"input.numeric": ROWS}), "golden.npz cannot be read"),
        (bundle.GOLDEN, models.golden({"input.numeric": ROWS, "output.scaled": ROWS * 3}), "come out differently in scaled"),
        (bundle.GOLDEN, models.golden({"input.numeric": ROWS[:, :2], "output.scaled": ROWS}), "golden rows fail"),
    ],
)
def test_bundle_that_contradicts_itself_is_not_servable(registry: Registry, name: str, content: bytes, says: str) -> None:
    registry.register("scaled", {**GOOD, name: content}, {}, actor="test", reason="bad")
    with pytest.raises(NotServableError, match=says):
        load(registry, "scaled", 1, ENGINE)


def test_file_changed_after_registration_is_not_served(registry: Registry, tmp_path: Path) -> None:
    registry.register("scaled", GOOD, {}, actor="test", reason="good")
    digest = registry.manifest("scaled", 1).file(bundle.MODEL).sha256
    blob = tmp_path / "registry" / "blobs" / "sha256" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(models.scaled(9.0))
    with pytest.raises(NotServableError, match="corrupt"):
        load(registry, "scaled", 1, ENGINE)
