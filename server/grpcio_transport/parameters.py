"""The parameters of a request that the daemon acts on. Triton's other ones are let pass; names that begin with `tidegate_` are checked."""

from collections.abc import Mapping
from typing import NamedTuple

from server.errors import InputMismatchError
from tidegate_protos import inference_pb2 as pb

PREFIX = "tidegate_"
ROUTING_KEY = "tidegate_routing_key"
TIMING = "tidegate_timing"
PRIORITY = "priority"
TIMEOUT = "timeout"
_MICROSECONDS = 1e6


class Parameters(NamedTuple):
    """What a caller asked for besides its answer.

    `priority` as in Triton's schedule policy: 1 is the highest, 0 the default. `timeout` in seconds is how long the request may wait in the
    queue, 0 for no limit of its own. Requests with the same `routing_key` are answered by the same version of a split.
    """

    priority: int = 0
    timeout: float = 0.0
    routing_key: str = ""
    timing: bool = False


NONE = Parameters()


def read(given: Mapping[str, pb.InferParameter]) -> Parameters:
    """The parameters of a ModelInferRequest.

    Raises:
        InputMismatchError: if one is of another kind than it has to be, or one of ours does not exist.
    """
    for name in given:
        if name.startswith(PREFIX) and name not in {ROUTING_KEY, TIMING}:
            raise InputMismatchError(f"no parameter {name[:80]!r}; those of Tidegate are {ROUTING_KEY} and {TIMING}")
    return Parameters(
        priority=_integer(given, PRIORITY),
        timeout=_integer(given, TIMEOUT) / _MICROSECONDS,
        routing_key=_text(given, ROUTING_KEY),
        timing=_flag(given, TIMING),
    )


def _integer(given: Mapping[str, pb.InferParameter], name: str) -> int:
    if name not in given:
        return 0
    parameter = given[name]
    kind = parameter.WhichOneof("parameter_choice")
    value = parameter.uint64_param if kind == "uint64_param" else parameter.int64_param
    if kind not in {"int64_param", "uint64_param"} or value < 0:
        raise InputMismatchError(f"parameter {name!r} is a whole number, 0 or more, in int64_param or uint64_param")
    return value


def _text(given: Mapping[str, pb.InferParameter], name: str) -> str:
    if name not in given:
        return ""
    if given[name].WhichOneof("parameter_choice") != "string_param":
        raise InputMismatchError(f"parameter {name!r} is a text, in string_param")
    return given[name].string_param


def _flag(given: Mapping[str, pb.InferParameter], name: str) -> bool:
    if name not in given:
        return False
    if given[name].WhichOneof("parameter_choice") != "bool_param":
        raise InputMismatchError(f"parameter {name!r} is true or false, in bool_param")
    return given[name].bool_param
