"""The ONNX project's own cases, registered and served: whatever the protocol can carry is answered as they say. The share is printed."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from registry.bundle import Signature
from registry.errors import RegistryError
from registry.location import create_registry
from registry.registry import Registry
from server.engine import decoded, encoded
from server.errors import ModelFailedError, NotServableError
from server.onnx_engine import OnnxEngine
from tests.contracts.transport.onnx_calls import ask_raw, ask_typed, has_typed_form, put_in_production
from tests.daemons import Daemon, daemon, wait_until
from tests.onnx_cases import Case, cases
from tidegate_protos import inference_pb2 as pb

pytestmark = pytest.mark.timeout(400)  # 1,600 models are registered, loaded and asked: half a minute on two idle cores

PASSED = "answered as expected"
FAILED = "answered otherwise"
DIFFERS = "ONNX Runtime itself answers otherwise"
NOT_CARRIED = "the protocol has no such type"
NOT_LOADED = "ONNX Runtime does not load it"
NOT_REGISTERED = "the registry does not let it in"

FLOOR = 0.8
"""Of all cases; what is missing are types of four and eight bits, bfloat16, sequences and optionals, and operators ONNX Runtime has not."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case, and why; `detail` is for the reader of a failure."""

    case: str
    verdict: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Ready:
    """A case that ONNX Runtime answers as expected in process, and the name it is served by."""

    case: Case
    signature: Signature
    model: str


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, transport: str) -> list[Outcome]:
    """What became of every case."""
    folder = tmp_path_factory.mktemp(f"conformance-{transport}")
    tried = [_in_process(case, f"case-{place}") for place, case in enumerate(cases())]
    ready = [each for each in tried if isinstance(each, Ready)]
    registry = create_registry(str(folder / "registry"))
    with ThreadPoolExecutor(4) as pool:
        refused = [outcome for outcome in pool.map(lambda each: _register(registry, each), ready) if outcome]
    names = {outcome.case for outcome in refused}
    served = [each for each in ready if each.case.name not in names]
    return [*(each for each in tried if isinstance(each, Outcome)), *refused, *_serve(folder, served)]


def test_every_case_that_can_be_carried_is_answered_as_onnx_says(outcomes: list[Outcome]) -> None:
    assert [outcome for outcome in outcomes if outcome.verdict == FAILED] == []


def test_share_of_the_cases_that_is_served_does_not_fall(outcomes: list[Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n" + "\n".join(_table(outcomes)))  # noqa: T201 -- the report
    assert len(outcomes) > 1800
    assert Counter(outcome.verdict for outcome in outcomes)[PASSED] / len(outcomes) > FLOOR


def test_registry_lets_in_every_model_that_onnx_runtime_loads_and_that_takes_inputs(outcomes: list[Outcome]) -> None:
    assert [outcome.case for outcome in outcomes if outcome.verdict == NOT_REGISTERED] == ["test_constant"]


@pytest.mark.parametrize("spoil", [lambda y: y + 1, lambda y: y[:, :-1], lambda y: y.astype(np.float64), lambda y: np.full_like(y, np.nan)])
def test_a_wrong_answer_is_told_from_the_right_one(spoil: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    y = np.array([[1, 2], [3, 4]], np.float32)
    case = Case("a case", b"", {}, {"y": y}, rtol=1e-3, atol=1e-7)
    assert case.difference({"y": y}) == ""
    assert case.difference({"y": spoil(y)}) != ""
    assert case.difference({"z": y}) == "expected the outputs ['y'], got ['z']"


def _in_process(case: Case, model: str) -> Outcome | Ready:
    try:
        engine = OnnxEngine(case.model, threads=1)
        difference = case.difference(encoded(engine.run(decoded(case.inputs, engine.signature), tuple(case.outputs))))
    except NotServableError as error:
        if kind := re.search(r" is a (\S+), which the Open Inference Protocol cannot carry", str(error)):
            return Outcome(case.name, NOT_CARRIED, kind[1])
        kind = re.search(r"\[ONNXRuntimeError\] : \d+ : (\w+)", str(error))
        return Outcome(case.name, NOT_LOADED, kind[1] if kind else "", str(error))
    except ModelFailedError as error:
        return Outcome(case.name, DIFFERS, "fails", str(error))
    return Outcome(case.name, DIFFERS, "other values", difference) if difference else Ready(case, engine.signature, model)


def _register(registry: Registry, ready: Ready) -> Outcome | None:
    try:
        put_in_production(registry, ready.model, ready.case.model, ready.signature)
    except RegistryError as error:
        return Outcome(ready.case.name, NOT_REGISTERED, str(error))
    return None


def _serve(folder: Path, ready: Sequence[Ready]) -> list[Outcome]:
    with daemon(folder, {"registry": str(folder / "registry")}) as running, triton.InferenceServerClient(running.address) as client:
        wait_until(lambda: running.stub.ServerReady(pb.ServerReadyRequest(), timeout=60).ready, "the models are not loaded", 200)
        return [_ask(running, client, each) for each in ready]


def _ask(running: Daemon, client: triton.InferenceServerClient, ready: Ready) -> Outcome:
    case, signature = ready.case, ready.signature
    try:
        difference = case.difference(ask_raw(client, ready.model, signature, case.inputs))
        if not difference and has_typed_form(signature):
            difference = case.difference(ask_typed(running, ready.model, signature, case.inputs))
    except (triton.InferenceServerException, grpc.RpcError) as error:
        difference = str(error)
    return Outcome(case.name, FAILED if difference else PASSED, "", difference)


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    groups = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.verdict, outcome.reason].append(outcome.case)
    for (verdict, reason), names in sorted(groups.items(), key=lambda group: (group[0][0], -len(group[1]))):
        examples = "" if verdict == PASSED else f"  {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        yield f"{len(names):5d} {len(names) / len(outcomes):6.1%}  {verdict}{f' ({reason})' if reason else ''}{examples}"
