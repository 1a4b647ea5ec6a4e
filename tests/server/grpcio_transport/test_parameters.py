"""What a request's parameters mean, and that a wrong one is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InputMismatchError
from server.grpcio_transport import parameters
from server.grpcio_transport.parameters import Parameters
from tidegate_protos import inference_pb2 as pb


def read(**given_ones: pb.InferParameter) -> Parameters:
    return parameters.read(pb.ModelInferRequest(parameters=given_ones).parameters)


def test_those_that_are_known_are_read() -> None:
    got = read(
        priority=pb.InferParameter(uint64_param=1),
        timeout=pb.InferParameter(int64_param=1500),
        tidegate_routing_key=pb.InferParameter(string_param="customer"),
        tidegate_timing=pb.InferParameter(bool_param=True),
    )
    assert got == Parameters(1, 0.0015, "customer", timing=True)


def test_those_of_triton_that_mean_nothing_here_are_let_pass() -> None:
    assert read(sequence_id=pb.InferParameter(int64_param=7), binary_data_output=pb.InferParameter(bool_param=True)) == parameters.NONE


def test_unknown_one_of_ours_is_refused() -> None:
    with pytest.raises(InputMismatchError, match="no parameter 'tidegate_rooting_key'"):
        read(tidegate_rooting_key=pb.InferParameter(string_param="x"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", pb.InferParameter(int64_param=-1)),
        ("priority", pb.InferParameter(string_param="1")),
        ("priority", pb.InferParameter()),
        ("timeout", pb.InferParameter(double_param=0.5)),
        ("timeout", pb.InferParameter(int64_param=-5)),
        ("tidegate_routing_key", pb.InferParameter(int64_param=1)),
        ("tidegate_timing", pb.InferParameter(string_param="true")),
        ("tidegate_timing", pb.InferParameter()),
    ],
)
def test_value_of_another_kind_is_refused(name: str, value: pb.InferParameter) -> None:
    with pytest.raises(InputMismatchError, match=f"parameter '{name}' is"):
        read(**{name: value})


@given(
    st.sampled_from(["priority", "timeout"]),
    st.one_of(
        st.integers(-(2**63), 2**63 - 1).map(lambda n: pb.InferParameter(int64_param=n)),
        st.integers(0, 2**64 - 1).map(lambda n: pb.InferParameter(uint64_param=n)),
    ),
)
def test_any_whole_number_is_taken_or_refused(name: str, value: pb.InferParameter) -> None:
    number = value.uint64_param or value.int64_param
    try:
        got = read(**{name: value})
    except InputMismatchError:
        assert number < 0
    else:
        assert number == (got.priority if name == "priority" else pytest.approx(got.timeout * 1e6))
