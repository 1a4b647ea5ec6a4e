"""Both twins of the client behind one face, and the server they talk to."""

import asyncio
from collections.abc import Iterator
from typing import Any, Self

import pytest

from tests.clients.python.stranger import PACKED, Stranger, Version, serving
from tidegate_client import AsyncClient, Client


class Twin:
    """Either client; the asyncio one is run to completion call by call on a loop of its own."""

    def __init__(self, kind: str, *arguments: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop() if kind == "asyncio" else None
        self._client: Any = AsyncClient(*arguments, **options) if self._loop else Client(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if self._loop is None:
            return method
        return lambda *arguments, **options: self._await(method(*arguments, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._loop:
            self._loop.close()

    def _await(self, coroutine: Any) -> Any:
        assert self._loop
        return self._loop.run_until_complete(coroutine)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    models = {
        "credit": {
            "1": Version(PACKED, ("income", "loan"), ("purpose",)),
            "2": Version(PACKED, ("loan", "income"), ("purpose",)),
            "3": Version((("numeric", "FP32", (-1, 3)), PACKED[1]), ("loan", "income", "age"), ("purpose",)),
        },
        "echo": {"1": Version((("x", "FP32", (-1, 2)), ("label", "BYTES", (-1,)), ("count", "INT8", (-1,))))},
    }
    with serving(Stranger(models, {"credit": "1", "echo": "1"})) as server:
        yield server


@pytest.fixture(params=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(kind: str, stranger: Stranger) -> Iterator[Any]:
    with Twin(kind, stranger.address) as twin:
        yield twin
