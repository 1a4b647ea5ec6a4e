"""The asyncio twin of `client`: the same methods, awaited, and the same conversation."""
# ruff: noqa: ASYNC109 - a timeout here is the deadline that the server is told, not a local timer

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from tidegate_client import errors, tracing
from tidegate_client.client import DEFAULT_ADDRESS, DEFAULT_RETRIES, DEFAULT_TIMEOUT, channel_options
from tidegate_client.columns import Data
from tidegate_client.conversation import Call, Conversation, Flow, Options, Outcome, Pause, T, ask_of
from tidegate_client.identity import Identity, Token
from tidegate_client.messages import Parameter
from tidegate_client.values import Drift, Label, ModelMetadata, Prediction, Receipt, ServerMetadata
from tidegate_protos import inference_pb2 as oip


class AsyncClient:
    """A connection to one server for one event loop; arguments, answers and errors are those of `Client`.

    It connects to the loop that runs when it is first used. Cancelling the task that awaits a call cancels the call.
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
        self._credentials = credentials
        self._identity = Identity(address, metadata, token, secure=credentials is not None)
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """As `Client.close`."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close(None)

    async def predict(
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
        """As `Client.predict`."""
        return await self._run(self._conversation.predict(ask_of(model, version, id, parameters, outputs), data, timeout))

    async def infer(self, request: oip.ModelInferRequest, timeout: float | None = None) -> oip.ModelInferResponse:
        """As `Client.infer`."""
        return await self._run(self._conversation.infer(request, timeout))

    async def metadata(self, model: str, version: str = "", *, timeout: float | None = None) -> ModelMetadata:
        """As `Client.metadata`."""
        return await self._run(self._conversation.metadata(model, version, timeout))

    async def ready(self, model: str = "", version: str = "", *, timeout: float | None = None) -> bool:
        """As `Client.ready`."""
        return await self._run(self._conversation.ready(model, version, timeout))

    async def live(self, *, timeout: float | None = None) -> bool:
        """As `Client.live`."""
        return await self._run(self._conversation.live(timeout))

    async def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        """As `Client.server_metadata`."""
        return await self._run(self._conversation.server_metadata(timeout))

    async def drift(self, model: str, version: str = "", *, window: str = "", arm: str = "", timeout: float | None = None) -> Drift:
        """As `Client.drift`."""
        return await self._run(self._conversation.drift(model, version, window, arm, timeout))

    async def feedback(self, model: str, labels: Iterable[Label], *, timeout: float | None = None) -> Receipt:
        """As `Client.feedback`."""
        return await self._run(self._conversation.feedback(model, labels, timeout))

    async def _run(self, flow: Flow[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = await self._perform(step)

    async def _perform(self, step: Call | Pause) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if self._closed:
            return errors.CallCancelledError("this client is closed: make a new one")
        try:
            metadata = self._identity.metadata()
        except errors.AccessError as error:
            return error
        try:
            on_channel: Any = step.method.on(self._opened())  # awaited, unlike what the types of grpc's threads say
            answer: Outcome = await on_channel(step.request, timeout=step.timeout, metadata=(*metadata, *tracing.context()))
        except grpc.aio.AioRpcError as error:
            return errors.from_status(error.code(), error.details() or "", error.trailing_metadata() or (), self._address)
        return answer

    def _opened(self) -> Any:
        if self._channel is None:
            self._channel = (
                grpc.aio.secure_channel(self._address, self._credentials, options=channel_options(self._address))
                if self._credentials
                else grpc.aio.insecure_channel(self._address, options=channel_options(self._address))
            )
        return self._channel
