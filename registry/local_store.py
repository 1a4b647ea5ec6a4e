"""Durable files on a local disk: the `Store` of a folder. Knows nothing of models.

A value is written to a temporary file in the same folder, synced, given its name by link(2), which fails if the name exists, and every
folder from there up to the root is synced: after put_if_absent returned True neither kill -9 nor a power loss takes the value away, and
no reader ever sees part of it.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from registry import canonical
from registry.errors import NotARegistryError, StoreError
from registry.names import MARKER, MARKER_FORMAT

TEMPORARY = ".tmp-"
"""How the names of values begin that are still being written, or whose writer died."""
_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and try again, nothing was changed",
    errno.EDQUOT: "the disk quota is used up: free some space and try again, nothing was changed",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied: who runs this needs to read and write the registry folder",
    errno.EPERM: "not permitted: the file system must support hard links",
    errno.EOPNOTSUPP: "not supported: the file system must support hard links",
}


class LocalStore:
    """The `Store` of one folder; safe for any number of processes and threads at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[Path] = set()

    def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise _store_error("read", key, error) from error

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        """See `Store.put_if_absent`."""
        path = self.root / key
        try:
            self._make_durable(path.parent)
            if path.exists():
                # The winner may have linked the name and not yet synced the folder, yet who is told False may rely on the value.
                _sync_folder(path.parent)
                return False
            temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
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
        return (key for key in self._walk(prefix) if not _is_temporary(key))

    def unfinished(self) -> Iterator[str]:
        """See `Store.unfinished`."""
        return filter(_is_temporary, self._walk(""))

    def _walk(self, prefix: str) -> Iterator[str]:
        folder = self.root / prefix.rpartition("/")[0]
        try:
            for base, _, names in os.walk(folder, onerror=_raise_unless_absent):
                relative = Path(base).relative_to(self.root).as_posix()
                yield from (key for name in names if (key := name if relative == "." else f"{relative}/{name}").startswith(prefix))
        except OSError as error:
            raise _store_error("list", prefix, error) from error

    def _make_durable(self, folder: Path) -> None:
        """Make `folder`, and every folder from the root to it, and sync the entry of each in its parent.

        That one exists does not say that it is durable: another process may have made it a moment ago and not have synced it yet.
        """
        if folder == self.root or (folder in self._durable and folder.is_dir()):
            return
        self._make_durable(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)
        self._durable.add(folder)


def open_folder(root: Path) -> LocalStore:
    """The store of a folder that is a registry.

    Raises:
        NotARegistryError: if the folder is absent, or is something else.
        FormatError: if it is a registry of a format this release does not know.
        StoreError: if it cannot be read.
    """
    store = LocalStore(root)
    marker = store.get(MARKER)
    if marker is None and not root.exists():
        raise NotARegistryError(
            f"no registry at {root}: register a version first (tidegate train SPEC.toml), or name another with --registry"
        )
    if marker is None:
        raise NotARegistryError(f"{root} is not a registry: it has no {MARKER}; name another folder with --registry")
    canonical.expect_format(canonical.decode(marker, MARKER), MARKER_FORMAT, MARKER)
    return store


def create_folder(root: Path) -> LocalStore:
    """The store of a folder, made a registry if it is absent or empty.

    Raises:
        NotARegistryError: if it is a file, or a folder that holds something else.
        FormatError: if it is a registry of a format this release does not know.
        StoreError: if it cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        foreign = next((path.name for path in root.iterdir() if not _belongs(path.name)), None)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotARegistryError(f"{root} is a file, not a registry folder") from error
    except OSError as error:
        raise _store_error("write", str(root), error) from error
    store = LocalStore(root)
    if store.get(MARKER) is None:
        if foreign is not None:
            raise NotARegistryError(f"{root} is not a registry and not empty (it has {foreign}): name another folder with --registry")
        _sync_above(root)  # before the marker, so that who finds it may rely on the folders above
        store.put_if_absent(MARKER, [canonical.encode({"format": MARKER_FORMAT})])
    return open_folder(root)


def _belongs(name: str) -> bool:
    # Temporary files: another process makes the same registry at this moment. lost+found: the root of a fresh volume.
    return name == "lost+found" or _is_temporary(name)


def _is_temporary(key: str) -> bool:
    return key.rpartition("/")[2].startswith(TEMPORARY)


def _sync_above(root: Path) -> None:
    # All of them, not only those made here: another process may have made some and not have synced them yet. What may not be opened
    # is not ours and was there before.
    for folder in root.absolute().parents:
        try:
            _sync_folder(folder)
        except PermissionError:
            continue
        except OSError as error:
            raise _store_error("sync", str(folder), error) from error


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
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a file system says that keeps folders durable by itself
            raise
    finally:
        os.close(descriptor)


def _raise_unless_absent(error: OSError) -> None:
    with contextlib.suppress(FileNotFoundError):
        raise error


def _store_error(action: str, key: str, error: OSError) -> StoreError:
    advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
    return StoreError(f"cannot {action} {key}: {advice}")
