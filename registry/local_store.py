"""Durable files on a local disk: the store of a folder. Knows nothing of models.

A value is written to a temporary file in the same folder, synced, given its name by link(2), which fails if the name exists, and every
folder from there up to the root is synced: after put_if_absent returned True neither kill -9 nor a power loss takes the value away, and
no reader ever sees part of it.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from registry.disk import Disk
from registry.errors import AccessDeniedError, OutcomeUnknownError, StorageFullError, StoreError
from registry.store import TEMPORARY, Entry

_SMALL, _CHUNK = 1 << 14, 1 << 20
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe put where a value belongs must not make us wait for its writer
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_KINDS: dict[int, tuple[type[StoreError], str]] = {
    errno.ENOSPC: (StorageFullError, "the disk is full: free some space and try again, nothing was changed"),
    errno.EDQUOT: (StorageFullError, "the disk quota is used up: free some space and try again, nothing was changed"),
    errno.EFBIG: (StorageFullError, "larger than this process may write (ulimit -f): raise the limit and try again, nothing was changed"),
    errno.EROFS: (AccessDeniedError, "the file system is read-only: mount it writable, or name another registry"),
    errno.EACCES: (AccessDeniedError, "permission denied: who runs this needs to read and write the registry folder"),
    errno.EPERM: (AccessDeniedError, "not permitted: the file system must support hard links"),
    errno.EOPNOTSUPP: (AccessDeniedError, "not supported: the file system must support hard links"),
}


class _SourceError(Exception):
    """An error of the system that is not this disk's: whoever gave the chunks could not read them."""

    def __init__(self, original: OSError) -> None:
        self.original = original


class LocalStore:
    """The `Sweepable` store of one folder; safe for any number of processes and threads at once."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self._place = f"{root}/"
        self._disk = disk or Disk()
        self._durable: set[Path] = set()

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `Store.get`."""
        return [self._get(key) for key in keys]

    def open(self, key: str) -> Iterator[bytes] | None:
        """See `Store.open`."""
        try:
            descriptor = os.open(self._place + key, _READ)
        except OSError as error:
            if isinstance(error, _ABSENT) or error.errno == errno.ELOOP:
                return None
            raise store_error("read", key, error) from error
        try:
            return _parts(FileIO(descriptor), key)
        except IsADirectoryError:
            os.close(descriptor)
            return None

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        """See `Store.put_if_absent`."""
        path = self.root / key
        try:
            self._make_durable(path.parent)
            return False if self._exists(path) else self._put(path, key, _apart(chunks))
        except _SourceError as error:
            raise error.original from None
        except OSError as error:
            raise store_error("write", key, error) from error

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store.list`."""
        try:
            with os.scandir(self._place + prefix) as found:
                yield from (f"{prefix}{item.name}/" if item.is_dir() else f"{prefix}{item.name}" for item in found if _is_value(item.name))
        except _ABSENT:
            return
        except OSError as error:
            raise store_error("list", prefix, error) from error

    def entries(self) -> Iterator[Entry]:
        """See `Sweepable.entries`."""
        try:
            for base, folders, names in os.walk(self.root, onerror=_raise_unless_absent):
                links = [name for name in folders if os.path.islink(f"{base}/{name}")]  # noqa: PTH114 -- os.walk's own text
                for name in (*names, *links):  # a link to a folder is followed by who reads, and not by who lists
                    with contextlib.suppress(FileNotFoundError):  # a temporary file of a writer at work
                        yield self._entry(Path(base, name))
        except OSError as error:
            raise store_error("list", str(self.root), error) from error

    def move(self, entry: Entry, target: str) -> bool:
        """See `Sweepable.move`."""
        before, after = self.root / entry.key, self.root / target
        try:
            self._make_durable(after.parent)
            if not self._disk.link(before, after):
                return False
            self._disk.sync_folder(after.parent)
            self._disk.remove(before)
            # Looked at now, when nobody can rely on it under its old name any more: both names have been those of one file.
            unchanged = self._entry(after).modified == entry.modified
            if not unchanged:
                self._disk.link(after, before)
            self._disk.sync_folder(before.parent)
            if not unchanged:
                self._disk.remove(after)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise store_error("move", entry.key, error) from error
        return unchanged

    def delete(self, key: str) -> None:
        """See `Sweepable.delete`."""
        path = self.root / key
        try:
            self._disk.remove(path)
            self._disk.sync_folder(path.parent)
        except _ABSENT:
            return
        except OSError as error:
            raise store_error("delete", key, error) from error

    def sync_above(self) -> None:
        """Make the folders above the root durable.

        All of them, not only those made here: another process may have made some and not have synced them yet.

        Raises:
            StoreError: if the disk refuses.
        """
        for folder in self.root.absolute().parents:
            try:
                self._disk.sync_folder(folder)
            except PermissionError:
                continue  # what may not be opened is not ours and was there before
            except OSError as error:
                raise store_error("sync", str(folder), error) from error

    def _get(self, key: str) -> bytes | None:
        # Not Path.read_bytes: a listing of ten thousand models reads as many files, and most of what that costs is not the reading.
        try:
            descriptor = os.open(self._place + key, _READ)
        except _ABSENT:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise store_error("read", key, error) from error
        try:
            return _read(descriptor)
        except IsADirectoryError:
            return None
        except OSError as error:
            raise store_error("read", key, error) from error
        finally:
            os.close(descriptor)

    def _exists(self, path: Path) -> bool:
        """Whether there is such a file; who is told so may rely on it from now on."""
        try:
            # Young again: what a writer is about to refer to must not be swept away as a leftover. Fails for another user's file.
            with contextlib.suppress(PermissionError):
                os.utime(path)
            if not stat.S_ISREG(path.stat().st_mode):
                raise StoreError(f"{path} is not a file: something else was put where a value belongs; run verify")
        except FileNotFoundError:
            return False
        # The winner may have linked the name and not yet synced the folder.
        self._disk.sync_folder(path.parent)
        return True

    def _put(self, path: Path, key: str, chunks: Iterable[bytes]) -> bool:
        temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        linked = False
        try:
            self._disk.write(temporary, chunks)
            linked = self._disk.link(temporary, path)
            return linked
        finally:
            try:
                self._disk.remove(temporary)
                self._disk.sync_folder(path.parent)
            except OSError as error:
                if linked:
                    raise OutcomeUnknownError(
                        f"{key} was written, but the disk failed to make it durable ({error.strerror}): check the disk, then look"
                    ) from error
                raise

    def _make_durable(self, folder: Path) -> None:
        """Make `folder`, and every folder from the root to it, and sync the entry of each in its parent.

        That one exists does not say that it is durable: another process may have made it a moment ago and not have synced it yet.
        """
        if folder == self.root or (folder in self._durable and folder.is_dir()):
            return
        self._make_durable(folder.parent)
        self._disk.make_folder(folder)
        self._disk.sync_folder(folder.parent)
        self._durable.add(folder)

    def _entry(self, path: Path) -> Entry:
        found = path.stat(follow_symlinks=False)
        return Entry(path.relative_to(self.root).as_posix(), found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def store_error(action: str, key: str, error: OSError) -> StoreError:
    """The error of the registry for one of the system."""
    kind, advice = _KINDS.get(error.errno or 0, (StoreError, error.strerror or str(error)))
    return kind(f"cannot {action} {key}: {advice}")


def _apart(chunks: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except OSError as error:
        raise _SourceError(error) from error


def _parts(file: FileIO, key: str) -> Iterator[bytes]:
    with file:
        try:
            while part := file.read(_CHUNK):
                yield part
        except OSError as error:
            raise store_error("read", key, error) from error


def _read(descriptor: int) -> bytes:
    part = os.read(descriptor, _SMALL)
    if len(part) < _SMALL:  # a file, so that fewer bytes than asked for are the last
        return part
    parts = [part]
    while part := os.read(descriptor, _CHUNK):
        parts.append(part)
    return b"".join(parts)


def _is_value(name: str) -> bool:
    return not name.startswith(TEMPORARY)


def _raise_unless_absent(error: OSError) -> None:
    with contextlib.suppress(FileNotFoundError):
        raise error
