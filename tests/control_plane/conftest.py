"""One control plane for all tests of this folder, over one registry and one inference server; a model of its own for each test."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.samples import Sample

from clients.demo.programs import Program, running
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry, open_registry
from registry.registry import Registry
from tests.control_plane.oip_server import echo_server
from tests.exposition import scrape
from tests.registry.helpers import model as onnx

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("x", "FP32", (-1, 2)),))
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Control:
    """A running control plane, a client to it, and the folder of its registry."""

    program: Program
    http: httpx.Client
    root: Path

    def open_registry(self) -> Registry:
        """The registry as another process sees it."""
        return open_registry(str(self.root))

    def scrape(self) -> list[Sample]:
        """All samples of /metrics."""
        return scrape(str(self.http.base_url.join("/metrics")))

    def new_model(self, versions: int = 2, **files: bytes) -> str:
        """Register a model with that many versions; `files` go into each, `_` standing for `.`, as `model_card_json`."""
        model, registry = f"model-{next(_numbers)}", self.open_registry()
        extra = {f"{name.removesuffix('_json')}.json": content for name, content in files.items()}
        for number in range(1, versions + 1):
            bundle = {"model.onnx": onnx(f"{model} {number}"), "signature.json": SIGNATURE.encode(), **extra}
            registry.register(model, bundle, {"auc": 0.5}, actor="ana", reason=f"try {number}")
        return model


@pytest.fixture(scope="session")
def oip_address() -> Iterator[str]:
    with echo_server() as address:
        yield address


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory, oip_address: str) -> Iterator[Control]:
    folder = tmp_path_factory.mktemp("control")
    create_registry(str(folder / "registry"))
    flags = {"registry": str(folder / "registry"), "http-address": "127.0.0.1:0", "daemon": oip_address, "max-body-bytes": "1000000"}
    with running("control_plane", flags, folder / "control.log") as program:
        match = re.fullmatch(r"control plane ready on (http://127\.0\.0\.1:\d+)", program.announcement)
        assert match, program.announcement
        with httpx.Client(base_url=match[1], timeout=20, trust_env=False) as client:
            yield Control(program, client, folder / "registry")
