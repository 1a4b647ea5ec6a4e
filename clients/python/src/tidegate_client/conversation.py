"""What is asked of a server, in which order, and what is asked again: generators that yield steps and do no I/O.

A flow yields `Call` or `Pause`, is sent what came of it (the answer or the error, as values) and returns its result. `client` and `aio` run
flows; everything they have in common is here.
"""

import re
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from tidegate_client import messages, retries
from tidegate_client.columns import Data, pack
from tidegate_client.errors import AnswerError, DeadlineError, InputError, NotFoundError, TidegateError, UnavailableError
from tidegate_client.messages import Ask, Method, Parameter
from tidegate_client.retries import Deadline
from tidegate_client.values import Drift, Label, ModelMetadata, Prediction, Receipt, ServerMetadata
from tidegate_protos import inference_pb2 as oip
from tidegate_protos import monitoring_pb2 as monitoring

_MAX_CHANGES = 5
_ADDRESS = re.compile(r"unix(?:-abstract)?:\S+|(?:(?:dns|ipv4|ipv6):/{0,3})?(?:\[[^\]\s]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")
"""HOST:PORT, or one of the other forms of a gRPC target."""
_HIGHEST_PORT = 65_535
"""How often a model may change under one prediction before it is given up."""


@dataclass(frozen=True)
class Call:
    """Make this call; send back its answer or its TidegateError."""

    method: Method[Any, Any]
    request: Message
    timeout: float


@dataclass(frozen=True)
class Pause:
    """Wait; send back None."""

    seconds: float


T = TypeVar("T")
A = TypeVar("A", bound=Message)
Outcome: TypeAlias = Message | TidegateError | None
Flow: TypeAlias = Generator[Call | Pause, Outcome, T]


@dataclass(frozen=True)
class Options:
    """What holds for every call of one client."""

    address: str
    timeout: float
    """Seconds one call may take, retries included, unless the call says otherwise."""
    max_retries: int


class Conversation:
    """The flows of one client, and what it remembers of the models it asked: a dict, safe to use from many threads.

    Metadata are remembered per model and version asked for. Rows are packed in the column order of the metadata, so an answer by a version
    whose metadata are not known yet is believed only after they have been fetched and have the same columns; else the rows are sent again.
    """

    def __init__(self, options: Options, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        retries.deadline(options.timeout, 0.0)
        if options.max_retries < 0:
            raise InputError(f"max_retries must be 0 or more, not {options.max_retries}")
        _check_address(options.address)
        self._options = options
        self._clock = clock
        self._chance = chance
        self._known: dict[tuple[str, str], ModelMetadata] = {}

    def predict(
        self,
        ask: Ask,
        data: Data,
        timeout: float | None,
    ) -> Flow[Prediction]:
        """One prediction. See `Client.predict`."""
        deadline = self._deadline(timeout)
        ask = ask if ask.id else Ask(ask.model, ask.version, str(uuid.uuid4()), ask.parameters, ask.outputs)
        metadata, fresh = yield from self._remembered(ask.model, ask.version, deadline)
        for _ in range(_MAX_CHANGES):
            try:
                request = messages.infer_request(ask, _inputs(data, metadata), metadata)
                response = yield from self._exchange(messages.MODEL_INFER, request, deadline)
            except (InputError, NotFoundError):
                # The model may have changed since its metadata were fetched: look once before the data are blamed.
                if fresh:
                    raise
                before, fresh = metadata, True
                metadata = yield from self._fetched(ask.model, ask.version, deadline)
                if _same_inputs(before, metadata):
                    raise
                continue
            answered = yield from self._metadata_of_answer(ask, response, metadata, deadline)
            if answered is not None and _same_inputs(metadata, answered):
                return messages.prediction(response, answered.classes)
            metadata = answered or (yield from self._fetched(ask.model, ask.version, deadline))
        raise AnswerError(f"model {ask.model!r} changed its columns {_MAX_CHANGES} times during one prediction; try again")

    def infer(self, request: oip.ModelInferRequest, timeout: float | None) -> Flow[oip.ModelInferResponse]:
        """One inference as the protocol has it."""
        return (yield from self._exchange(messages.MODEL_INFER, request, self._deadline(timeout)))

    def metadata(self, model: str, version: str, timeout: float | None) -> Flow[ModelMetadata]:
        """Metadata as the server has them now."""
        return (yield from self._fetched(model, version, self._deadline(timeout)))

    def server_metadata(self, timeout: float | None) -> Flow[ServerMetadata]:
        """Name, version and extensions of the server."""
        request = oip.ServerMetadataRequest()
        response = yield from self._exchange(messages.SERVER_METADATA, request, self._deadline(timeout))
        return messages.server_metadata(response)

    def drift(self, model: str, version: str, timeout: float | None) -> Flow[Drift]:
        """Drift as the server has counted it so far."""
        request = monitoring.GetDriftRequest(model=model, version=version)
        return messages.drift((yield from self._exchange(messages.GET_DRIFT, request, self._deadline(timeout))))

    def feedback(self, model: str, labels: Iterable[Label], timeout: float | None) -> Flow[Receipt]:
        """Labels kept by the server; sent again where it is not known whether they were, which changes nothing."""
        request = messages.feedback_request(model, labels)
        return messages.receipt((yield from self._exchange(messages.RECORD_FEEDBACK, request, self._deadline(timeout))))

    def live(self, timeout: float | None) -> Flow[bool]:
        """Whether the server answers at all."""
        deadline = self._deadline(timeout)
        try:
            return (yield from self._exchange(messages.SERVER_LIVE, oip.ServerLiveRequest(), deadline, retrying=False)).live
        except UnavailableError:
            return False

    def ready(self, model: str, version: str, timeout: float | None) -> Flow[bool]:
        """Whether the server, or a model, takes requests."""
        deadline = self._deadline(timeout)
        try:
            if not model:
                return (yield from self._exchange(messages.SERVER_READY, oip.ServerReadyRequest(), deadline, retrying=False)).ready
            request = oip.ModelReadyRequest(name=model, version=version)
            return (yield from self._exchange(messages.MODEL_READY, request, deadline, retrying=False)).ready
        except UnavailableError:
            return False

    def _deadline(self, timeout: float | None) -> Deadline:
        return retries.deadline(self._options.timeout if timeout is None else timeout, self._clock())

    def _exchange(self, method: Method[Any, A], request: Message, deadline: Deadline, *, retrying: bool = True) -> Flow[A]:
        attempt = 0
        while True:
            remaining = deadline.remaining(self._clock())
            if remaining <= 0:
                raise DeadlineError(f"no answer from {self._options.address} within {deadline.timeout:g} s")
            outcome = yield Call(method, request, remaining)
            if isinstance(outcome, method.answer):
                return outcome
            if not isinstance(outcome, TidegateError):
                raise TypeError(f"a runner must send an answer of {method.path} or an error, not {outcome!r}")
            pause = retries.pause(outcome, attempt, self._chance())
            spent = not retrying or attempt >= self._options.max_retries
            if pause is None or spent or pause >= deadline.remaining(self._clock()):
                raise outcome
            yield Pause(pause)
            attempt += 1

    def _remembered(self, model: str, version: str, deadline: Deadline) -> Flow[tuple[ModelMetadata, bool]]:
        # With each metadata goes whether they were fetched just now.
        if (known := self._known.get((model, version))) is not None:
            return known, False
        return (yield from self._fetched(model, version, deadline)), True

    def _fetched(self, model: str, version: str, deadline: Deadline) -> Flow[ModelMetadata]:
        request = oip.ModelMetadataRequest(name=model, version=version)
        response = yield from self._exchange(messages.MODEL_METADATA, request, deadline)
        self._known[model, version] = messages.model_metadata(response)
        return self._known[model, version]

    def _metadata_of_answer(
        self, ask: Ask, response: oip.ModelInferResponse, sent: ModelMetadata, deadline: Deadline
    ) -> Flow[ModelMetadata | None]:
        # None: the version has answered and is gone already, so nobody can say which columns it took.
        if sent.columns is None or not response.model_version:
            return sent  # tensors carry their own names; and not every server names the version that answered
        try:
            metadata, _ = yield from self._remembered(ask.model, response.model_version, deadline)
        except NotFoundError:
            return None
        self._known[ask.model, ask.version] = metadata
        return metadata


def ask_of(
    model: str,
    version: str,
    prediction_id: str,
    parameters: Mapping[str, Parameter] | None,
    outputs: Sequence[str] | None,
) -> Ask:
    """What a caller asks, with nothing for what was left out."""
    return Ask(model, version, prediction_id, parameters or {}, outputs or ())


def _same_inputs(one: ModelMetadata, other: ModelMetadata) -> bool:
    return one.columns == other.columns and one.inputs == other.inputs


def _inputs(data: Data, metadata: ModelMetadata) -> Mapping[str, npt.ArrayLike]:
    if metadata.columns is None:
        if isinstance(data, Mapping):
            return data
        names = ", ".join(tensor.name for tensor in metadata.inputs)
        raise InputError(f"model {metadata.name!r} names no columns: give a dict of its inputs ({names}) as arrays")
    if isinstance(data, Mapping) and _are_tensors(data, metadata):
        return data
    return pack(data, metadata.columns)


def _are_tensors(data: Mapping[str, npt.ArrayLike], metadata: ModelMetadata) -> bool:
    # A column may be called `numeric` too; then its values have one dimension, and the input's two.
    names = {tensor.name for tensor in metadata.inputs}
    return bool(data) and names.issuperset(data) and all(np.ndim(values) > 1 for values in data.values())


def _check_address(address: str) -> None:
    # gRPC takes a port above the highest modulo 65536, and so connects to somebody else.
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"] or 0) > _HIGHEST_PORT:
        raise InputError(f"address must be HOST:PORT of the gRPC server, not {address!r}")
