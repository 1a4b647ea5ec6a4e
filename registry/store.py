"""The seams between the registry and storage: nothing about models here. Implementations: `local_store`, `object_store`.

Keys are relative paths with `/` that the registry made of checked names; values are bytes that never change once put. A name that begins
with `.tmp-` is a value whose writing has begun and not ended: of a writer at work, or of one that died. It is no key.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

TEMPORARY = ".tmp-"
"""How the names of values begin that are still being written, or whose writer died."""


@dataclass(frozen=True)
class Entry:
    """Something stored: its key (or the place of an unfinished value), its size in bytes, and when it was written, UTC."""

    key: str
    size: int
    modified: datetime

    @property
    def unfinished(self) -> bool:
        """Whether this is no value, but the remains of one, or the beginning."""
        return self.key.rpartition("/")[2].startswith(TEMPORARY)


class Store(Protocol):
    """What readers and writers need. Safe for any number of threads and processes at once.

    Every operation raises a StoreError, of the kind that says what to do, if the storage refuses.
    """

    def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """The values of `keys`, in their order, None where there is none; asked for at once where that is faster."""
        ...

    def open(self, key: str) -> Iterator[bytes] | None:
        """The value of `key` in parts, for one that may not fit into memory; None if there is none."""
        ...

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        """Store the concatenated chunks and return True once they would survive a power loss; False, changing nothing, if the key exists.

        Of several writers at once exactly one is told True; who is told False may rely on the value. What `chunks` raises ends the
        write; the key then does not exist.

        Raises:
            OutcomeUnknownError: if the storage failed at the very last step; with any other StoreError the key was not written.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """What is directly below `prefix` (empty, or ending in `/`), in no order: keys, and prefixes ending in `/`.

        Below such a prefix there is more, or, where folders outlive what was in them, there was.
        """
        ...


class Sweepable(Store, Protocol):
    """What verification and `gc` need beside: everything there is, with its age, and taking things away."""

    def entries(self) -> Iterator[Entry]:
        """Everything stored, unfinished values too, in no order."""
        ...

    def move(self, entry: Entry, target: str) -> bool:
        """Give a value another key and return True.

        False, changing nothing, if it is gone, if `target` exists, or if the value was written anew or relied upon since it was listed.
        Relied upon: a `put_if_absent` of the key was answered False, if the storage can tell.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove a value, for good when this returns; does nothing if there is none."""
        ...


def get_one(store: Store, key: str) -> bytes | None:
    """The value of one key; None if there is none."""
    return store.get([key])[0]
