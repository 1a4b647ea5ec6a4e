"""The seam between the registry and storage: four operations, nothing about models. Implementations: `local_store`."""

from collections.abc import Iterable, Iterator
from typing import Protocol


class Store(Protocol):
    """Keys are relative paths with `/` that the registry made of checked names; values are bytes that never change once put."""

    def get(self, key: str) -> bytes | None:
        """The value of `key`, or None if there is none.

        Raises:
            StoreError: if the storage refuses.
        """
        ...

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        """Store the concatenated chunks and return True once they would survive a power loss; False, changing nothing, if the key exists.

        Of several writers at once exactly one is told True. What `chunks` raises ends the write; the key then does not exist.

        Raises:
            StoreError: if the storage refuses. The key then does not exist, unless the device failed at the very last step.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Every key that starts with `prefix`, in no order.

        Raises:
            StoreError: if the storage refuses.
        """
        ...

    def unfinished(self) -> Iterator[str]:
        """Places of values whose writing has begun and not ended: of a writer at work, or of one that died.

        Raises:
            StoreError: if the storage refuses.
        """
        ...
