"""One daemon for the tests that only read from it, over a registry with two versions of a model and one of each awkward kind."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from registry.registry import Registry
from server.transports import TRANSPORTS, native_is_installed
from tests import models
from tests.daemons import Daemon, daemon

REFERENCE = np.random.default_rng(7).normal(size=(1000, 3)).astype(np.float32)
TEXTS = ["red"] * 600 + ["green"] * 300 + [""] * 100


HERE = [name for name in sorted(TRANSPORTS) if name != "native" or native_is_installed()]
"""The transports that are installed; what pytest says first tells if one is not"""


@pytest.fixture(scope="package", params=HERE, autouse=True)
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of this folder holds every transport to the same promises: each daemon it starts carries calls by this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_TRANSPORT", request.param)
        yield request.param


@pytest.fixture(scope="package")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Registry, Path]:
    """A registry: `scaled` (1 in production, 2 in staging, 3 in no stage), `lookup`, `total` and `classifier` in production."""
    root = tmp_path_factory.mktemp("filled") / "registry"
    registry = create_registry(str(root))
    for factor in (2.0, 3.0, 4.0):
        models.register_scaled(registry, "scaled", factor)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    registry.promote("scaled", 2, to="staging", actor="test", reason="next")
    plain = {
        "lookup": (models.lookup(), Signature((TensorSpec("index", "INT64", (-1,)),), (TensorSpec("value", "FP32", (-1,)),))),
        "total": (models.total(), Signature((TensorSpec("numbers", "FP32", (4,)),), (TensorSpec("total", "FP32", ()),))),
    }
    for name, (onnx, signature) in plain.items():
        registry.register(name, {bundle.MODEL: onnx, bundle.SIGNATURE: signature.encode()}, {}, actor="test", reason="plain")
        registry.promote(name, 1, to="production", actor="test", reason="plain")
    models.register_classifier(registry, "classifier", 2.0, REFERENCE, TEXTS)
    registry.promote("classifier", 1, to="production", actor="test", reason="drift")
    return registry, root


@pytest.fixture(scope="package")
def served(
    filled: tuple[Registry, Path],
    tmp_path_factory: pytest.TempPathFactory,
    transport: str,  # noqa: ARG001 -- a daemon for each
) -> Iterator[Daemon]:
    """A daemon that serves `filled`; for tests that change nothing."""
    with daemon(tmp_path_factory.mktemp("served"), {"registry": str(filled[1])}) as running:
        for model in filled[0].models():
            running.wait_for(model)
        yield running
