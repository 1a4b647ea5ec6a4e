"""Waiting for a log to grow: inotify on a local folder under Linux, looking again and again elsewhere.

A watcher says only that something may have changed; what changed is read from the registry, as `new_commits` does. No change between making
a watcher and its first `wait` is lost: make the watcher, read, wait, read, wait ...
"""

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from registry.commit import Commit
from registry.errors import AccessDeniedError, StoreError
from registry.local_store import LocalStore
from registry.location import open_store
from registry.log import checkpoints_of, model_names
from registry.names import commit_key
from registry.registry import Registry
from registry.store import TEMPORARY, Store, get_one

POLL_SECONDS = 1.0
_ALIVE_SECONDS = 60.0
_LOG_PATH = ("models", None, "log")
"""Where logs are, below the root; None stands for any model."""


class Watcher(Protocol):
    """Tells one thread that a log may have grown; any thread may close it."""

    def wait(self, timeout: float) -> bool:
        """True as soon as something may have changed since the wait before; False after `timeout` seconds, or when closed."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        ...

    def close(self) -> None:
        """End a wait in progress, in whatever thread, and release what is held; waits from now on return False at once."""
        ...


def watch(url: str) -> Watcher:
    """A watcher of the registry at `url`, by inotify where there is one.

    Raises:
        NotARegistryError: if there is none.
        StoreError: if it cannot be read.
    """
    return watcher_of(open_store(url))


def watcher_of(store: Store) -> Watcher:
    """A watcher of the registry on `store`, by inotify where there is one.

    Raises:
        StoreError: if it cannot be read.
    """
    if sys.platform == "linux" and isinstance(store, LocalStore):
        # The limits on inotify are per user and low: when they are used up, polling still works.
        with contextlib.suppress(OSError):
            return InotifyWatcher(store.root)
    return PollingWatcher(store)


def follow(registry: Registry, model: str | None = None, after: int | None = None) -> Generator[Commit, None, None]:
    """Every commit (of `model`, or of all models) from now on, or behind number `after` of each log, as it comes, until it is closed.

    Raises:
        ModelUnknownError: if there is no such model.
        CorruptError, FormatError, StoreError: as `new_commits`.
    """
    # First watch, then look: what comes in between is seen by one of the two.
    with contextlib.closing(watcher_of(registry.store)) as watcher:
        names = [model] if model else registry.models()
        newest = {name: registry.state(name).seq for name in names}
        known = newest if after is None else dict.fromkeys(names, after)
        yield from new_commits(registry, watcher, known, model)


def new_commits(registry: Registry, watcher: Watcher, after: Mapping[str, int], model: str | None = None) -> Iterator[Commit]:
    """Every commit (of `model`, or of all models) behind number `after` of its log, as it comes; ends when the watcher is closed.

    Each commit is given once; those of one model in order. `after` names where to begin: a model that is not in it begins with commit 1.

    Raises:
        CorruptError, FormatError: where a log is not whole.
        StoreError: if the storage refuses.
    """
    seen = dict(after)
    while True:
        for name in [model] if model else registry.models():
            for entry in registry.log(name, after=seen.get(name, 0)):
                seen[name] = entry.seq
                yield entry
        while not watcher.wait(_ALIVE_SECONDS):
            if watcher.closed:
                return


class PollingWatcher:
    """Asks for the next commit of every model each `interval` seconds; works on every store, at two requests a model."""

    def __init__(self, store: Store, interval: float = POLL_SECONDS) -> None:
        self._store = store
        self._interval = interval
        self._closed = threading.Event()
        self._last: dict[str, int] = {}
        self._seen = self._look()

    @property
    def closed(self) -> bool:
        """See `Watcher.closed`."""
        return self._closed.is_set()

    def wait(self, timeout: float) -> bool:
        """See `Watcher.wait`."""
        deadline = time.monotonic() + timeout
        while not self._closed.is_set():
            seen, self._seen = self._seen, self._look()
            if seen != self._seen:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._closed.wait(min(left, self._interval))
        # A storage that does not answer counts as a change, once in a `timeout`: whoever reads then gets the error, and can say so.
        return self._seen is None and not self._closed.is_set()

    def close(self) -> None:
        """See `Watcher.close`."""
        self._closed.set()

    def _look(self) -> Mapping[str, int] | None:
        """The number of the newest commit of every model; None if the storage does not answer."""
        try:
            self._last = {name: self._newest(name, self._last.get(name, 0)) for name in model_names(self._store)}
        except StoreError:
            return None
        return self._last

    def _newest(self, model: str, last: int) -> int:
        try:
            return self._end(model, last)
        except AccessDeniedError:
            return last  # nobody is to miss the commits of the others for it

    def _end(self, model: str, last: int) -> int:
        if last == 0 or get_one(self._store, commit_key(model, last)) is None:
            # Not seen before, or not the log that was seen: begin where its newest checkpoint is.
            last = max(checkpoints_of(self._store, model), default=0)
        while get_one(self._store, commit_key(model, last + 1)) is not None:
            last += 1
        return last


class InotifyWatcher:
    """Watches the root, `models/`, every model and every log of a local folder; a model made later is watched as soon as it appears.

    Raises:
        OSError: if the system's limits on inotify are used up.
    """

    def __init__(self, root: Path) -> None:
        # The import asks the system for its C library, which other platforms may not have.
        from inotify_simple import INotify, flags  # noqa: PLC0415

        self._root = root
        self._mask = flags.CREATE | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
        self._folders: dict[int, Path] = {}
        self._polling: PollingWatcher | None = None
        self._in_use = threading.Lock()
        self._closing = threading.Lock()
        self._closed = threading.Event()
        self._inotify = INotify()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._inotify.fileno(), select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        try:
            self._cover(root)
        except OSError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """See `Watcher.closed`."""
        return self._closed.is_set()

    def wait(self, timeout: float) -> bool:
        """See `Watcher.wait`."""
        deadline = time.monotonic() + timeout
        with self._in_use:
            while not self._closed.is_set():
                if self._polling:
                    return self._polling.wait(deadline - time.monotonic())
                left = max(0.0, deadline - time.monotonic())
                self._poll.poll(left * 1000)
                if self._closed.is_set():
                    break
                if self._changed():
                    return True
                if left == 0:
                    break
        return False

    def close(self) -> None:
        """See `Watcher.close`."""
        with self._closing:
            if self._closed.is_set():
                return
            self._closed.set()
            os.eventfd_write(self._wake, 1)
            if polling := self._polling:
                polling.close()
            # Not before the wait has ended: a descriptor closed under it might by then be someone else's.
            with self._in_use:
                self._inotify.close()
                os.close(self._wake)

    def _changed(self) -> bool:
        changed = False
        for event in self._inotify.read(timeout=0):
            folder = self._folders.get(event.wd)
            if folder is None or not event.name:
                # The queue overflowed, or a watched folder went away: look at everything again.
                self._folders.pop(event.wd, None)
                self._recover(self._root)
                changed = True
            elif self._depth(folder) == len(_LOG_PATH):
                changed = changed or not event.name.startswith(TEMPORARY)
            else:
                changed = self._recover(folder / event.name) or changed
        return changed

    def _recover(self, folder: Path) -> bool:
        with contextlib.suppress(OSError):
            if self._cover(folder) or folder != self._root:
                return self._may_hold_logs(folder)
        # At the system's limit, or without a root to watch: from now on look again and again.
        self._polling = PollingWatcher(LocalStore(self._root))
        return True

    def _cover(self, folder: Path) -> bool:
        """Watch `folder` and what is below it; False if it is not there, or may not be read. Raises OSError at the system's limit."""
        if not self._may_hold_logs(folder):
            return False
        try:
            # First watch, then look: what appears in between is seen by one of the two.
            self._folders[self._inotify.add_watch(folder, self._mask)] = folder
            below = [] if self._depth(folder) == len(_LOG_PATH) else [entry.name for entry in os.scandir(folder)]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        for name in below:
            self._cover(folder / name)
        return True

    def _may_hold_logs(self, folder: Path) -> bool:
        parts = folder.relative_to(self._root).parts
        return len(parts) <= len(_LOG_PATH) and all(wanted in {None, part} for wanted, part in zip(_LOG_PATH, parts, strict=False))

    def _depth(self, folder: Path) -> int:
        return len(folder.relative_to(self._root).parts)
