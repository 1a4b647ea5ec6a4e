"""Which daemon is asked: each in turn, and the next one where one does not answer. Knows nothing of HTTP."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from grpc import ChannelCredentials

from tidegate_client import AsyncClient, TidegateError, Token
from tidegate_client.errors import UnavailableError

T = TypeVar("T")


class Daemons:
    """Connections to at least one daemon, all serving the same registry and taking the same credentials.

    They are made when they are first used, for one event loop.
    """

    def __init__(
        self, addresses: Sequence[str], timeout: float, credentials: ChannelCredentials | None = None, token: Token | None = None
    ) -> None:
        # No retries: a caller who is told Retry-After decides better than one who waits in its place, and adds no load.
        self._clients = [
            AsyncClient(address, timeout=timeout, max_retries=0, credentials=credentials, token=token) for address in addresses
        ]
        self._addresses = tuple(addresses)
        self._turn = 0

    async def ask(self, call: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """What the next daemon answers, or the one after it if that one is unavailable: down, loading or draining.

        Raises:
            TidegateError: what the last one asked answered.
        """
        unavailable: UnavailableError | None = None
        for client in self._in_turn():
            try:
                return await call(client)
            except UnavailableError as error:
                unavailable = error
        assert unavailable is not None  # noqa: S101 -- there is at least one daemon
        raise unavailable

    async def every(self, call: Callable[[AsyncClient], Awaitable[T]]) -> dict[str, T | TidegateError]:
        """What each of them answers, or refuses with, by its address; all are asked at once."""

        async def one(client: AsyncClient) -> T | TidegateError:
            try:
                return await call(client)
            except TidegateError as error:
                return error

        return dict(zip(self._addresses, await asyncio.gather(*map(one, self._clients)), strict=True))

    async def any(self, call: Callable[[AsyncClient], Awaitable[bool]]) -> bool:
        """Whether one of them says yes."""
        for client in self._in_turn():
            if await call(client):
                return True
        return False

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.close()

    def _in_turn(self) -> Iterator[AsyncClient]:
        self._turn = (self._turn + 1) % len(self._clients)
        yield from self._clients[self._turn :]
        yield from self._clients[: self._turn]
