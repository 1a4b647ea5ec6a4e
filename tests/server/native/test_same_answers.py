"""Whatever bytes come, the native transport says what the reference says: the same answer, or the same refusal word for word."""

import contextlib
from collections.abc import Iterator
from typing import TypeAlias

import grpc
import numpy as np
import pytest
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from registry.location import create_registry
from server.transports import native_is_installed
from tests import models
from tests.contracts.transport.mutations import VALID, mutations
from tests.contracts.transport.test_wire_forms import REFUSED, TAKEN
from tests.contracts.transport.wire import MODEL_INFER
from tests.daemons import daemon
from tidegate_protos import inference_pb2 as pb

pytestmark = pytest.mark.skipif(not native_is_installed(), reason="the native transport is not installed; `make native` does that")

FORMS = [*VALID, *TAKEN.values(), *REFUSED.values()]
REFERENCE_ROWS = np.random.default_rng(7).normal(size=(1000, 3)).astype(np.float32)
Both: TypeAlias = tuple[grpc.Channel, grpc.Channel]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """The reference and the native transport over one registry."""
    root = tmp_path_factory.mktemp("both")
    registry = create_registry(str(root / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    models.register_classifier(registry, "classifier", 2.0, REFERENCE_ROWS, ["red"] * 600 + ["green"] * 400)
    for model in registry.models():
        registry.promote(model, 1, to="production", actor="test", reason="first")
    with contextlib.ExitStack() as stack:
        channels = []
        for transport in ("grpcio", "native"):
            (root / transport).mkdir()
            running = stack.enter_context(daemon(root / transport, {"registry": str(root / "registry"), "transport": transport}))
            for model in registry.models():
                running.wait_for(model)
            channels.append(stack.enter_context(grpc.insecure_channel(running.address)))
        yield channels[0], channels[1]


def outcome(channel: grpc.Channel, data: bytes) -> object:
    """What a caller gets, but for what differs from call to call: an id that the daemon made, and the timing."""
    try:
        answer = pb.ModelInferResponse.FromString(channel.unary_unary(MODEL_INFER, bytes, bytes)(data, timeout=20))
    except grpc.RpcError as error:
        return error.code(), error.details(), str(rpc_status.from_call(error))  # type: ignore[arg-type]
    if not pb.ModelInferRequest.FromString(data).id:
        answer.id = ""
    answer.parameters.pop("tidegate_timing", None)
    return answer.SerializeToString(deterministic=True)


@seed(1)
@settings(max_examples=500, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=mutations(FORMS) | st.binary(max_size=60))
def test_any_bytes_have_the_outcome_that_they_have_with_the_reference(both: Both, data: bytes) -> None:
    reference, native = both
    assert outcome(native, data) == outcome(reference, data)


def test_every_form_of_a_request_has_the_outcome_that_it_has_with_the_reference(both: Both) -> None:
    reference, native = both
    outcomes = [outcome(reference, form) for form in FORMS]
    assert [outcome(native, form) for form in FORMS] == outcomes
    assert sum(isinstance(one, bytes) for one in outcomes) > len(TAKEN)
