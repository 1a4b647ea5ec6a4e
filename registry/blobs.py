"""The files of bundles and evidence on a store: put once by their sha256, hashed again whenever they are read. Nothing of models here."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from registry import bundle, canonical
from registry.errors import CorruptError, StoreError
from registry.manifest import Digest, File
from registry.names import blob_key
from registry.onnx_guard import Guard
from registry.store import Store, get_one

Content: TypeAlias = bytes | Path | Callable[[], Iterable[bytes]]
"""The content of a file: its bytes, where it is, or what gives its parts, the same each time it is called."""

_CHUNK = 1 << 20


class Blobs:
    """The blobs of one store. `guard` looks at every ONNX file before it is stored."""

    def __init__(self, store: Store, guard: Guard) -> None:
        self._store = store
        self._guard = guard
        self._found: set[str] = set()

    def put(self, name: str, content: Content) -> File:
        """Store the content of the file `name`, unless it is there already.

        Raises:
            ModelRefusedError: if it is `model.onnx` and not one that may be registered.
            FormatError: if it is another file of a bundle that has a format, and not of it.
            CorruptError: if the content changes while it is read.
            StoreError: if it cannot be read or stored.
        """
        digest = Digest()
        if name == bundle.MODEL:
            self._guard.check(digest.over(_parts(content)))
        elif name in bundle.PARSED:
            bundle.check(name, b"".join(digest.over(_parts(content))))
        else:
            for _ in digest.over(_parts(content)):
                pass
        file = digest.file()
        parts = [content] if isinstance(content, bytes) else _unchanged(_parts(content), name, file.sha256)
        if not self._store.put_if_absent(blob_key(file.sha256), parts):
            # Nobody is told that something is stored on the word of a name: what is there may be damaged since.
            for _ in self.open(file.sha256):
                pass
            self._found.add(file.sha256)
        return file

    def keep(self, name: str, content: Content, file: File) -> None:
        """Put again what `put` found there already, in case it is gone.

        To be called after the commit that refers to it: from then on a sweep keeps it, until then it may have taken it for a leftover.
        Raises as `put`.
        """
        if file.sha256 in self._found:
            self._found.discard(file.sha256)
            if next(self._store.open(blob_key(file.sha256)) or iter(()), None) is None:
                self.put(name, content)

    def get(self, digest: str) -> bytes:
        """The bytes with this sha256.

        Raises:
            CorruptError: if they are missing or differ.
        """
        raw = get_one(self._store, blob_key(digest))
        if raw is None or canonical.digest(raw) != digest:
            raise CorruptError(f"blob {digest} is {'missing' if raw is None else 'corrupt'}: run verify")
        return raw

    def open(self, digest: str) -> Iterator[bytes]:
        """The bytes with this sha256 in parts; that they differ is known, and raised, at the end.

        Raises:
            CorruptError: if they are missing or differ.
        """
        found = self._store.open(blob_key(digest))
        if found is None:
            raise CorruptError(f"blob {digest} is missing: run verify")
        hashed = Digest()
        yield from hashed.over(found)
        if hashed.file().sha256 != digest:
            raise CorruptError(f"blob {digest} is corrupt: run verify")


def _parts(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
    elif isinstance(content, Path):
        try:
            with content.open("rb", buffering=0) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise StoreError(f"cannot read {content}: {error.strerror}") from error
    else:
        yield from content()


def _unchanged(chunks: Iterator[bytes], name: str, expected: str) -> Iterator[bytes]:
    """Pass `chunks` on; raise at the end, which undoes the write, if they are not what was hashed before."""
    digest = Digest()
    yield from digest.over(chunks)
    if digest.file().sha256 != expected:
        raise CorruptError(f"{name} changed while it was being registered: nothing was registered; try again when it is complete")
