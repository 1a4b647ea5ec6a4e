"""Registry instances for the threads that answer requests. An instance keeps what it has read, and is for one thread at a time."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from registry.location import NO_KEYS, Keys, open_registry
from registry.registry import Registry


class RegistryPool:
    """As many instances as were ever needed at once.

    The one returned last is lent first, so that requests one after the other find a folded log and read only what came since. Two instances
    at work are what two processes are: put-if-absent decides between them, not a lock that one slow read would hold against everyone.
    """

    def __init__(self, url: str, keys: Keys = NO_KEYS) -> None:
        """Open the registry at `url`.

        Raises:
            RegistryError: if there is none, or it cannot be read.
        """
        self._url = url
        self._keys = keys
        self._idle = deque([open_registry(url, keys=keys)])

    @contextmanager
    def lend(self) -> Iterator[Registry]:
        """An instance that no other thread has, until the block ends."""
        try:
            registry = self._idle.pop()
        except IndexError:
            registry = open_registry(self._url, keys=self._keys)
        try:
            yield registry
        finally:
            self._idle.append(registry)


def _lent(request: Request) -> Iterator[Registry]:
    pool: RegistryPool = request.app.state.registries
    with pool.lend() as registry:
        yield registry


LentRegistry: TypeAlias = Annotated[Registry, Depends(_lent)]
"""The registry, as a parameter of a route."""
