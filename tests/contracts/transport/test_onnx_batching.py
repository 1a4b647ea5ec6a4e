"""The ONNX project's cases with their first dimension freed: whatever a model does, each of several callers is answered as if alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from registry.bundle import Signature
from registry.location import create_registry
from server.engine import decoded, encoded
from server.errors import ModelFailedError, NotServableError
from server.onnx_engine import OnnxEngine
from tests.contracts.transport.onnx_calls import Tensors, ask_raw, put_in_production
from tests.daemons import daemon, wait_until
from tests.onnx_cases import Case, cases, with_free_rows
from tidegate_protos import inference_pb2 as pb

pytestmark = pytest.mark.timeout(400)  # as for the cases as they are

FLAGS = {"max-batch-rows": "8", "max-queue-delay": "0.003"}
"""So that callers do meet in a batch, and requests of more rows are served in pieces."""


@dataclass(frozen=True)
class Crowd:
    """A model, the name it is served by, and several callers' inputs with what each gets alone."""

    name: str
    model: bytes
    signature: Signature
    callers: tuple[Case, ...]


def test_every_caller_of_a_model_is_answered_as_if_alone(tmp_path: Path) -> None:
    crowds = [crowd for place, case in enumerate(cases()) if (crowd := _crowd(f"case-{place}", case))]
    registry = create_registry(str(tmp_path / "registry"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda crowd: put_in_production(registry, crowd.name, crowd.model, crowd.signature), crowds))
    with daemon(tmp_path, {"registry": str(tmp_path / "registry"), **FLAGS}) as running:
        wait_until(lambda: running.stub.ServerReady(pb.ServerReadyRequest(), timeout=60).ready, "the models are not loaded", 200)
        with triton.InferenceServerClient(running.address) as client, ThreadPoolExecutor(4) as pool:
            wrong = {crowd.callers[0].name: found for crowd in crowds if (found := _differences(client, pool, crowd))}
            statistics = client.get_inference_statistics().model_stats
    shared = sum(entry.execution_count < entry.inference_stats.success.count for entry in statistics)
    assert not wrong
    assert len(crowds) > 700
    assert shared > 500, "callers seldom met: this test shows nothing"


def _crowd(name: str, case: Case) -> Crowd | None:
    """None if freed rows make no model, or the case's own values are no rows of it."""
    model = with_free_rows(case) if case.inputs else None
    rows = {len(values) for values in case.inputs.values() if isinstance(values, np.ndarray) and values.ndim}
    if model is None or len(rows) != 1 or 0 in rows:
        return None
    try:
        engine = OnnxEngine(model, threads=1)
        callers = tuple(_alone(engine, case, inputs) for inputs in _variants(case.inputs))
        stable = all(not caller.difference(_run(engine, caller.inputs)) for caller in callers)
    except (NotServableError, ModelFailedError):
        return None
    return Crowd(name, model, engine.signature, callers) if stable else None


def _variants(inputs: Tensors) -> Iterator[dict[str, NDArray[Any]]]:
    yield dict(inputs)
    yield {name: values[::-1].copy() for name, values in inputs.items()}
    yield {name: (values * 3 + 1).astype(values.dtype) if values.dtype.kind == "f" else values for name, values in inputs.items()}
    yield {name: values[:1] for name, values in inputs.items()}


def _alone(engine: OnnxEngine, case: Case, inputs: Tensors) -> Case:
    # Several rows together take other kernels than one alone, which round otherwise.
    return replace(case, inputs=inputs, outputs=_run(engine, inputs), rtol=1e-3, atol=1e-5)


def _run(engine: OnnxEngine, inputs: Tensors) -> dict[str, NDArray[Any]]:
    return encoded(engine.run(decoded(inputs, engine.signature), tuple(spec.name for spec in engine.signature.outputs)))


def _differences(client: triton.InferenceServerClient, pool: ThreadPoolExecutor, crowd: Crowd) -> list[str]:
    return [found for found in pool.map(lambda caller: _difference(client, crowd, caller), crowd.callers) if found]


def _difference(client: triton.InferenceServerClient, crowd: Crowd, caller: Case) -> str:
    try:
        return caller.difference(ask_raw(client, crowd.name, crowd.signature, caller.inputs))
    except triton.InferenceServerException as error:
        return str(error)
