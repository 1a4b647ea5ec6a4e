"""What Rust refuses and Python explains: by the same table and the same id, and tried again where what is loaded has changed in between."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import MappingProxyType

import grpc
import numpy as np
import pytest

from server.loaded_version import LoadedVersion
from server.native.functions import Functions, Refusal
from server.observed import Observers
from server.onnx_engine import OnnxEngine
from server.routing import RoutingTable, ServedModel
from server.security import Security
from server.settings import Settings
from server.transport import Transport
from server.transports import native_is_installed
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request
from tidegate_protos import inference_pb2 as pb
from tidegate_protos import inference_pb2_grpc

pytestmark = pytest.mark.skipif(not native_is_installed(), reason="the native transport is not installed; `make native` does that")

REQUEST = raw_request("m", {"numeric": np.ones((1, 3), np.float32)})
ROUNDS = 100


@dataclass
class Explained:
    """The ids of what was explained; `before` is done before each, and Python may have nothing to say."""

    ids: list[str] = field(default_factory=list)
    before: Callable[[], object] = object
    says_nothing: bool = False


def version(number: int, width: int = 3) -> LoadedVersion:
    engine = OnnxEngine(models.scaled(float(number + 1), width), threads=1)
    return LoadedVersion("m", number, str(number), engine.signature, engine, None, 0.1, batchable=True)


def serving(*versions: LoadedVersion, canary: int = 0) -> RoutingTable:
    """The first version in production; `canary` percent go to the second."""
    numbered = {one.number: one for one in versions}
    split = {1: 100 - canary, 2: canary} if canary else {}
    model = ServedModel(MappingProxyType(numbered), {"production": 1} if versions else {}, (1, 2), split)
    return RoutingTable({"m": model}, complete=True)


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> Explained:
    explained, really = Explained(), Functions.explain

    def explain(functions: Functions, message: bytes, name: str) -> Refusal | None:
        explained.ids.append(name)
        explained.before()
        return None if explained.says_nothing else really(functions, message, name)

    monkeypatch.setattr(Functions, "explain", explain)
    return explained


@pytest.fixture
def transport(explained: Explained) -> Iterator[Transport]:
    from server.native.transport import NativeTransport  # noqa: PLC0415 -- it need not be installed

    del explained  # asked from the start
    settings = Settings(model_dir=None, grpc_address="127.0.0.1:0")
    started = NativeTransport(settings, {}, Security(settings), Observers())
    started.install(serving())
    yield started
    started.drain(0)


@pytest.fixture
def stub(transport: Transport) -> Iterator[inference_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(transport.start(), [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]


def code(stub: inference_pb2_grpc.GRPCInferenceServiceStub, request: pb.ModelInferRequest = REQUEST) -> str:
    try:
        stub.ModelInfer(request, timeout=10)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_request_for_a_version_loaded_while_its_refusal_is_explained_is_answered(
    transport: Transport, stub: inference_pb2_grpc.GRPCInferenceServiceStub, explained: Explained
) -> None:
    explained.before = lambda: transport.install(serving(version(1)))
    assert raw_floats(stub.ModelInfer(REQUEST, timeout=10)).tolist() == [[2, 2, 2]]
    assert len(explained.ids) == 1
    assert transport.counters().requests == {("m", "1", "stable", "OK"): 1}
    assert not transport.counters().rejected


def test_request_that_is_refused_again_without_a_reason_is_internal(
    transport: Transport, stub: inference_pb2_grpc.GRPCInferenceServiceStub, explained: Explained
) -> None:
    explained.says_nothing = True
    assert code(stub) == "INTERNAL"
    assert len(explained.ids) == 2
    assert transport.counters().requests == {("", "", "", "INTERNAL"): 1}


def test_the_version_that_refused_is_the_one_that_is_explained(
    transport: Transport, stub: inference_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    transport.install(serving(version(1), version(2, width=4), canary=50))
    codes = Counter(code(stub) for _ in range(ROUNDS))  # without an id: the one it is given decides
    assert codes.keys() == {"OK", "INVALID_ARGUMENT"}
    counted = transport.counters().requests
    assert counted == {("m", "1", "stable", "OK"): codes["OK"], ("m", "2", "canary", "INVALID_ARGUMENT"): codes["INVALID_ARGUMENT"]}


def test_while_a_version_comes_and_goes_each_request_is_answered_or_told_why_not(
    transport: Transport, stub: inference_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    over = threading.Event()
    codes: Counter[str] = Counter()

    def call() -> None:
        while not over.is_set():
            codes[code(stub)] += 1

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    loaded = version(1)
    for number in range(ROUNDS):
        transport.install(serving(loaded) if number % 2 else serving())
        time.sleep(0.01)
    over.set()
    for caller in callers:
        caller.join()
    assert codes.keys() == {"OK", "NOT_FOUND"}
