"""The client for threads. What it says and when is `conversation`; here calls are made and pauses waited out."""

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from tidegate_client import errors, tracing
from tidegate_client.columns import Data
from tidegate_client.conversation import Call, Conversation, Flow, Options, Outcome, Pause, T, ask_of
from tidegate_client.identity import Identity, Token
from tidegate_client.messages import Parameter
from tidegate_client.values import Drift, Label, ModelMetadata, Prediction, Receipt, ServerMetadata
from tidegate_protos import inference_pb2 as oip

DEFAULT_ADDRESS = "127.0.0.1:8001"
DEFAULT_TIMEOUT = 10.0
DEFAULT_RETRIES = 5
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", -1),  # an answer is as large as what was asked
    ("grpc.initial_reconnect_backoff_ms", 100),  # a daemon that restarts is found again within a second or so
    ("grpc.max_reconnect_backoff_ms", 2000),
)


def channel_options(address: str) -> tuple[tuple[str, int | str], ...]:
    """What a channel to `address` is made with."""
    if not address.startswith("unix"):
        return _OPTIONS
    # A Unix socket is on this machine: left alone, gRPC takes the path for a host name, which servers and certificates do not know.
    return (*_OPTIONS, ("grpc.default_authority", "localhost"))


class Client:
    """A connection to one server; use it as a context manager, or call `close`. One client may be used by many threads.

    `timeout` is in seconds and bounds a whole call, retries included; each method can be given another. At most `max_retries` times is
    a call repeated, and only where that is safe (see `retries`). `credentials` (see `tls_credentials`) switch TLS on;
    `token`, or what it returns, goes with every call, and `metadata` too.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_RETRIES,
        credentials: grpc.ChannelCredentials | None = None,
        token: Token | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        options = Options(address, timeout, max_retries)
        self._conversation = Conversation(options, time.monotonic, random.random)  # noqa: S311 - jitter, not a secret
        self._address = address
        self._identity = Identity(address, metadata, token, secure=credentials is not None)
        self._channel = (
            grpc.secure_channel(address, credentials, options=channel_options(address))
            if credentials
            else grpc.insecure_channel(address, options=channel_options(address))
        )
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way end with CallCancelledError."""
        self._closed = True
        self._channel.close()

    def predict(
        self,
        model: str,
        data: Data,
        *,
        version: str = "",
        timeout: float | None = None,
        id: str = "",  # noqa: A002 - the protocol's name
        parameters: Mapping[str, Parameter] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Prediction:
        """What `model` says to the rows of `data`.

        Args:
            model: name of the model.
            data: a data frame, a dict of columns or a list of dicts, with the model's columns by name in any order; or a dict of the
                model's inputs as arrays. None and NaN are missing values.
            version: a number, `staging` or `production`; empty for the production route.
            timeout: seconds for everything, retries included.
            id: the prediction id, kept over retries; if empty, one is made.
            parameters: sent with the request.
            outputs: names of the outputs wanted; None for all.

        Raises:
            InputError: if the data do not fit the model; names column and row.
            TidegateError: its other kinds, for what the server or the way to it refused.
        """
        return self._run(self._conversation.predict(ask_of(model, version, id, parameters, outputs), data, timeout))

    def infer(self, request: oip.ModelInferRequest, timeout: float | None = None) -> oip.ModelInferResponse:
        """One inference as the protocol has it, without looking at it.

        Raises:
            TidegateError: if the server or the way to it refused.
        """
        return self._run(self._conversation.infer(request, timeout))

    def metadata(self, model: str, version: str = "", *, timeout: float | None = None) -> ModelMetadata:
        """Inputs, outputs, columns and versions of a model, asked anew.

        Raises:
            NotFoundError: if the server has no such model or version.
            TidegateError: its other kinds, for what the server or the way to it refused.
        """
        return self._run(self._conversation.metadata(model, version, timeout))

    def ready(self, model: str = "", version: str = "", *, timeout: float | None = None) -> bool:
        """Whether a model, or with no name the server, takes requests; False if nobody answers there.

        Raises:
            TidegateError: for an unknown model, or what else the server refused.
        """
        return self._run(self._conversation.ready(model, version, timeout))

    def live(self, *, timeout: float | None = None) -> bool:
        """Whether the server answers; False if nobody does.

        Raises:
            TidegateError: if it answers with a refusal.
        """
        return self._run(self._conversation.live(timeout))

    def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        """Name, version and protocol extensions of the server.

        Raises:
            TidegateError: if the server or the way to it refused.
        """
        return self._run(self._conversation.server_metadata(timeout))

    def drift(self, model: str, version: str = "", *, window: str = "", arm: str = "", timeout: float | None = None) -> Drift:
        """The drift of the traffic that the production version, or `version`, answered.

        `window` is the length of a tumbling window that the model's limits have, e.g. `1h` or `10000rows`: the answer is about the last
        completed one. Without it, it is about everything since the server first loaded the version. `arm` is `stable`, `canary` or
        `shadow`; without it, production traffic: stable and canary together.

        Raises:
            UnsupportedError: if the server is not Tidegate.
            InputError: if there is no such window or arm; it names those there are.
            TidegateError: its other kinds, for what the server or the way to it refused.
        """
        return self._run(self._conversation.drift(model, version, window, arm, timeout))

    def feedback(self, model: str, labels: Iterable[Label], *, timeout: float | None = None) -> Receipt:
        """Tell what turned out to be true of rows predicted before, however late and in whatever order.

        When it returns, the labels not refused are on the server's disk. The same label sent again changes nothing; of different labels of
        one row the one observed last holds. A server takes at most 10,000 at once.

        Raises:
            InputError: for a label that cannot be sent, or too many; what the model's classes do not allow is in `Receipt.refusals`.
            ConflictError: if the server keeps no labels.
            TidegateError: its other kinds, for what the server or the way to it refused.
        """
        return self._run(self._conversation.feedback(model, labels, timeout))

    def _run(self, flow: Flow[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = self._perform(step)

    def _perform(self, step: Call | Pause) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if self._closed:
            return errors.CallCancelledError("this client is closed: make a new one")
        try:
            metadata = self._identity.metadata()
        except errors.AccessError as error:
            return error
        try:
            answer: Outcome = step.method.on(self._channel)(step.request, timeout=step.timeout, metadata=(*metadata, *tracing.context()))
        except grpc.RpcError as error:
            call: Any = error  # what a channel raises is a Call as well
            return errors.from_status(call.code(), call.details() or "", call.trailing_metadata() or (), self._address)
        return answer
