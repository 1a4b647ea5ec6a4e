"""Durable files on a local disk: the `Store` of a folder. Knows nothing of models.

A value is written to a temporary file in the same folder, synced, given its name by link(2), which fails if the name exists, and the folder is synced:
after put_if_absent returned True neither kill -9 nor a power loss takes the value away, and no reader ever sees part of it.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from registry.errors import NotARegistryError, StoreError

MARKER = "registry.json"
_MARKER_TEXT = b'{"format":"tidegate.registry/1"}\n'
_TEMPORARY = ".tmp-"
_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and try again, nothing was changed",
    errno.EDQUOT: "the disk quota is used up: free some space and try again, nothing was changed",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied: who runs this needs to read and write the registry folder",
    errno.EPERM: "not permitted: the file system must support hard links",
}


class LocalStore:
    """The `Store` of one folder; safe for any number of processes and threads at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _store_error("read", key, error) from error

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        """See `Store.put_if_absent`."""
        path = self.root / key
        try:
            self._make_folders(path.parent)
            if path.exists():
                # The winner may have linked the name and not yet synced the folder: who is told False may rely on the value, so sync here too.
                _sync_folder(path.parent)
                return False
            temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
            try:
                _write_synced(temporary, chunks)
                return _link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
                _sync_folder(path.parent)
        except OSError as error:
            raise _store_error("write", key, error) from error

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store.list`."""
        folder = self.root / prefix.rpartition("/")[0]
        try:
            for base, _, names in os.walk(folder, onerror=_raise_unless_absent):
                relative = Path(base).relative_to(self.root).as_posix()
                keys = (name if relative == "." else f"{relative}/{name}" for name in names if not name.startswith(_TEMPORARY))
                yield from (key for key in keys if key.startswith(prefix))
        except OSError as error:
            raise _store_error("list", prefix, error) from error

    def _make_folders(self, folder: Path) -> None:
        missing = [parent for parent in (folder, *folder.parents) if parent.is_relative_to(self.root) and not parent.is_dir()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            _sync_folder(path.parent)


def open_folder(root: Path) -> LocalStore:
    """The store of a folder that is a registry.

    Raises:
        NotARegistryError: if the folder is absent, or is something else.
        StoreError: if it cannot be read.
    """
    store = LocalStore(root)
    if store.get(MARKER) is None:
        if not root.exists():
            raise NotARegistryError(f"no registry at {root}: register a version first (tidegate train SPEC.toml), or name another with --registry")
        raise NotARegistryError(f"{root} is not a registry: it has no {MARKER}; name another folder with --registry")
    return store


def create_folder(root: Path) -> LocalStore:
    """The store of a folder, made a registry if it is absent or empty.

    Raises:
        NotARegistryError: if it is a file, or a folder that holds something else.
        StoreError: if it cannot be written.
    """
    store = LocalStore(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Temporary files are another process making the same registry at this moment.
        foreign = next((path.name for path in root.iterdir() if not path.name.startswith(_TEMPORARY)), None)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotARegistryError(f"{root} is a file, not a registry folder") from error
    except OSError as error:
        raise _store_error("write", str(root), error) from error
    if foreign is not None and store.get(MARKER) is None:
        raise NotARegistryError(f"{root} is not a registry and not empty (it has {foreign}): name another folder with --registry")
    store.put_if_absent(MARKER, [_MARKER_TEXT])
    return store


def _write_synced(path: Path, chunks: Iterable[bytes]) -> None:
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_absent(error: OSError) -> None:
    with contextlib.suppress(FileNotFoundError):
        raise error


def _store_error(action: str, key: str, error: OSError) -> StoreError:
    advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
    return StoreError(f"cannot {action} {key}: {advice}")
