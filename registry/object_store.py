"""Object storage as a store: S3, Google Cloud Storage and Azure, through obstore, which only this module imports. Knows nothing of models.

A value is created by one conditional request, `If-None-Match: *`: the whole value, or, if it is large, the copy of what was uploaded under
a temporary name before. A value that is not whole never has its name. Memory for one put: `_WHOLE` and a few `_PART`s, however large.
"""

import contextlib
import hashlib
import itertools
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeAlias

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from registry import object_errors
from registry.errors import NotARegistryError, OutcomeUnknownError, StoreError
from registry.object_errors import CONFLICT, Failure
from registry.store import TEMPORARY, Entry

_Handle: TypeAlias = obstore.store.ObjectStore
_Digest: TypeAlias = Callable[[], bytes | None]

_WHOLE = 8 << 20
"""Up to this a value is held in memory and sent in one request: one round trip instead of seven."""
_PART, _PARTS_AT_ONCE = 8 << 20, 2
"""S3 allows 10,000 parts: 78 GiB in all, of which it copies no more than 5 GiB at once."""
_READ_PART = 1 << 20
_READS_AT_ONCE = 16
_MANY = 8
"""From so many keys on it pays to list first which of them there are."""
_PAGE = 1000  # what every object store lists in one answer
_ATTEMPTS = 4
"""How often a write is tried, and a read. Three refusals in a row are no accident: more would only keep a person waiting."""

_ADDRESS = re.compile(r"(?P<scheme>s3|gs|az)://(?P<bucket>[a-z0-9][a-z0-9._-]*)(?:/(?P<prefix>[^/?#][^?#]*)?)?", re.IGNORECASE)
_CLOUDS: dict[str, Callable[..., _Handle]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


@dataclass(frozen=True)
class Patience:
    """How many seconds the storage may take; what takes longer has failed. A read reports a dead endpoint within 12 seconds."""

    connect: float = 3
    silence: float = 5
    """For a read, until the answer begins, and between its parts."""
    reads: float = 8
    """After which a read is not tried again."""
    write: float = 30
    """For one attempt: `_WHOLE` at 2.2 Mbit/s."""
    part: float = 60
    copy: float = 300
    """The store is silent while it copies: 2 GiB, the largest ONNX file, at 7 MiB/s."""
    writes: float = 20
    """After which a write is not tried again."""
    pause: float = 0.1
    """Before the second attempt; it doubles. Together less than a second, which a store that spreads its load needs."""


PATIENCE = Patience()


def open_bucket(url: str, patience: Patience = PATIENCE) -> "ObjectStore":
    """The store of a bucket, or of a prefix in it: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`. Sends nothing.

    Credentials and endpoint are those in the environment: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`,
    `AZURE_STORAGE_ACCOUNT_NAME` and so on, as obstore reads them.

    Raises:
        NotARegistryError: if `url` is not such an address.
        StoreError: if what the environment says cannot be used.
    """
    address = _ADDRESS.fullmatch(url)
    if not address:
        raise NotARegistryError(f"{url!r} is no address of a bucket: use s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")
    scheme, prefix = address["scheme"].lower(), (address["prefix"] or "").strip("/")
    for name in _ENDPOINTS[scheme]:
        # obstore panics at the first request, with an exception that `except Exception` does not catch.
        if not re.match(r"https?://\w", os.environ.get(name, "https://x")):
            raise StoreError(f"{name} is not a URL: write it as https://host:port")
    connect = partial(_CLOUDS[scheme], address["bucket"], prefix=prefix or None)
    try:
        # Listing from a key on: Azure's service cannot, and directory buckets of S3 list in no order.
        in_order = scheme != "az" and not address["bucket"].endswith("--x-s3") and "AWS_S3_EXPRESS" not in os.environ
        return ObjectStore(_clients(connect, scheme, patience), patience, in_order=in_order)
    except ValueError as error:
        raise NotARegistryError(f"{url!r} is no address of a bucket: its prefix must not have empty parts, '.' or '..'") from error
    except BaseError as error:
        raise object_errors.examine(error).error("open", url) from error


@dataclass(frozen=True)
class _Clients:
    """The same bucket four times, since obstore knows timeouts and retries of a client only, and not of a request.

    What creates a value is never tried again by obstore: after an error that came when the value had landed, it would be told that the
    value exists, and report our own write as another's.
    """

    reads: _Handle
    writes: _Handle
    uploads: _Handle
    copies: _Handle


def _clients(connect: Callable[..., _Handle], scheme: str, patience: Patience) -> _Clients:
    # S3 copies only if absent through an upload of parts; other makers of S3 have a header for it, which the variable then names.
    copying = {"copy_if_not_exists": "multipart"} if scheme == "s3" and "AWS_COPY_IF_NOT_EXISTS" not in os.environ else {}

    def client(retries: int, retrying: float, **limits: float) -> _Handle:
        backoff = {"init_backoff": timedelta(seconds=patience.pause), "max_backoff": timedelta(seconds=1), "base": 2}
        # Not as client_options: given those, obstore no longer reads AWS_ALLOW_HTTP and its like from the environment.
        config = {name: f"{round(seconds * 1000)}ms" for name, seconds in limits.items()}
        return connect(
            config=config | {"connect_timeout": f"{round(patience.connect * 1000)}ms"} | copying,
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=retrying), "backoff": backoff},
        )

    return _Clients(
        reads=client(_ATTEMPTS - 1, patience.reads, read_timeout=patience.silence, timeout=86_400),
        writes=client(0, 0, timeout=patience.write),
        uploads=client(_ATTEMPTS - 1, patience.part, timeout=patience.part),
        copies=client(0, 0, timeout=patience.copy),
    )


class _AbsentError(Exception):
    """There is no such key."""


class ObjectStore:
    """The `Sweepable` store of one bucket, or of a prefix in it; safe for any number of processes and threads at once."""

    def __init__(self, clients: _Clients, patience: Patience, *, in_order: bool) -> None:
        self._clients = clients
        self._patience = patience
        self._in_order = in_order
        # Threads and not asyncio, since the caller may be in a thread whose event loop runs already. They end with this object.
        self._pool = ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="object-store")

    def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """See `Store.get`."""
        if len(keys) < 2:  # noqa: PLR2004
            return [self._get(key) for key in keys]
        there = self._listed(keys) if len(keys) >= _MANY and self._in_order else None
        asked = [key for key in keys if there is None or key in there]
        found = dict(zip(asked, self._pool.map(self._get, asked), strict=True))
        return [found.get(key) for key in keys]

    def open(self, key: str) -> Iterator[bytes] | None:
        """See `Store.open`."""
        try:
            with _translated("read", key), _absent_apart():
                return _parts(obstore.get(self._clients.reads, key), key)
        except _AbsentError:
            return None

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        """See `Store.put_if_absent`."""
        parts = iter(chunks)
        value = _joined(parts, _WHOLE + 1)
        if len(value) > _WHOLE:
            return self._found(key) is None and self._put_large(key, itertools.chain([value], parts))
        # With use_multipart, obstore takes a mode and ignores it: apache/arrow-rs-object-store#289.
        put = partial(obstore.put, self._clients.writes, key, value, mode="create", use_multipart=False)
        return self._create(key, lambda: hashlib.sha256(value).digest(), put)

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store.list`."""
        with _translated("list", prefix):
            found = obstore.list_with_delimiter(self._clients.reads, prefix or None)
        yield from (f"{folder}/" for folder in found["common_prefixes"])
        for item in found["objects"]:
            name = item["path"].removeprefix(prefix)
            # What a console makes to show an empty folder is listed as the folder's own name, without the `/`.
            if f"{item['path']}/" != prefix and not name.startswith(TEMPORARY):
                yield item["path"]

    def entries(self) -> Iterator[Entry]:
        """See `Sweepable.entries`."""
        with _translated("list", ""):
            for page in obstore.list(self._clients.reads, chunk_size=_PAGE):
                yield from (Entry(item["path"], item["size"], item["last_modified"]) for item in page)

    def move(self, entry: Entry, target: str) -> bool:
        """See `Sweepable.move`. Cannot tell what was relied upon, nor another value of the same size written in the same second."""
        found = self._found(entry.key)
        # The same moment has milliseconds where it is listed, and none where it is looked up.
        if not found or (found["size"], _second(found["last_modified"])) != (entry.size, _second(entry.modified)):
            return False

        def copy() -> None:
            with _absent_apart():
                obstore.copy(self._clients.copies, entry.key, target, overwrite=False)

        try:
            moved = self._create(target, partial(self._digest, entry.key), copy)
        except _AbsentError:
            return False
        if moved:
            self.delete(entry.key)
        return moved

    def delete(self, key: str) -> None:
        """See `Sweepable.delete`."""
        with contextlib.suppress(_AbsentError), _translated("delete", key), _absent_apart():
            obstore.delete(self._clients.reads, key)

    def _listed(self, keys: Sequence[str]) -> set[str] | None:
        """Which of `keys` there are, by one listing; None if they do not stand near each other in one folder.

        Who reads the end of a log asks for many numbers of which most do not exist yet, and pays for each request.
        """
        folder, last = keys[0].rpartition("/")[0], max(keys)
        if any(key.rpartition("/")[0] != folder for key in keys):
            return None
        found: set[str] = set()
        with _translated("list", folder):
            # An offset is what listing begins behind.
            pages = obstore.list(self._clients.reads, folder or None, offset=min(keys)[:-1], chunk_size=_PAGE)
            for item in itertools.chain.from_iterable(pages):
                if item["path"] > last:
                    return found
                found.add(item["path"])
                if len(found) > 2 * len(keys):
                    return None
        return found

    def _get(self, key: str) -> bytes | None:
        try:
            with _translated("read", key), _absent_apart():
                return obstore.get(self._clients.reads, key).bytes().to_bytes()
        except _AbsentError:
            return None

    def _found(self, key: str) -> Any:
        """The size and date of a value; None if there is none."""
        try:
            with _translated("read", key), _absent_apart():
                return obstore.head(self._clients.reads, key)
        except _AbsentError:
            return None

    def _put_large(self, key: str, parts: Iterator[bytes]) -> bool:
        """Upload in parts to a temporary name, and give it its own if that is free."""
        folder, slash, _ = key.rpartition("/")
        temporary = f"{folder}{slash}{TEMPORARY}{secrets.token_hex(8)}"
        digest = self._upload(temporary, key, parts)
        copy = partial(obstore.copy, self._clients.copies, temporary, key, overwrite=False)
        created = self._create(key, lambda: digest, copy)
        # Not after an error: what stays is swept away like the leftovers of a writer that died.
        with contextlib.suppress(StoreError):
            self.delete(temporary)
        return created

    def _upload(self, temporary: str, key: str, parts: Iterator[bytes]) -> bytes:
        """The sha256 of what was uploaded. An upload that fails is aborted by obstore and leaves nothing; what `parts` raises passes."""
        hashed, raised = hashlib.sha256(), []

        def source(reader: ThreadPoolExecutor) -> Iterator[bytes]:
            try:
                # In a thread: obstore asks for parts from inside its runtime, where parts that come through obstore too make it panic.
                while part := reader.submit(_joined, parts, _READ_PART).result():
                    hashed.update(part)
                    yield part
            except Exception as error:
                raised.append(error)
                raise

        upload = partial(
            obstore.put, self._clients.uploads, temporary, use_multipart=True, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE
        )
        try:
            with ThreadPoolExecutor(1) as reader:
                upload(source(reader))
        except (BaseError, OSError, ValueError) as error:
            if error in raised:
                raise
            # Whatever became of the upload, the key was not written.
            raise replace(object_errors.examine(error), sure=True).error("write", key) from error
        return hashed.digest()

    def _create(self, key: str, digest: _Digest, request: Callable[[], object]) -> bool:
        """Make the `request` that creates `key`, again if need be, until it is certain whether it did.

        A request that got no clear answer may have landed. From then on its bytes, of which `digest` gives the sha256, settle whose the
        value is. They tell: every commit has a random nonce, and blobs are the same whoever wrote them.
        """
        doubt, failure = None, CONFLICT
        for _ in self._attempts():
            try:
                request()
            except (AlreadyExistsError, PreconditionError):  # Azure says the latter: apache/arrow-rs-object-store#829
                # Or nothing exists, and S3 asks to try again, since another writer is at work: apache/arrow-rs-object-store#852.
                owned = self._owned(key, digest, doubt)
                if owned is not None:
                    return owned
                failure = CONFLICT
            except (BaseError, FileNotFoundError) as error:
                failure = object_errors.examine(error)
                doubt = doubt if failure.sure else failure
                if not failure.again:
                    break
            else:
                return True
        return self._settled(key, digest, doubt or failure)

    def _attempts(self) -> Iterator[int]:
        end = time.monotonic() + self._patience.writes
        yield 0
        for attempt in range(1, _ATTEMPTS):
            time.sleep(self._patience.pause * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311 -- spreads writers
            if time.monotonic() > end:
                return
            yield attempt

    def _settled(self, key: str, digest: _Digest, failure: Failure) -> bool:
        """Whether the value is ours after all, when no more attempts are made; raises if it is not there."""
        owned = None if failure.sure else self._owned(key, digest, failure)
        if owned is None:
            raise failure.error("write", key) if failure.sure else _unknown(key, failure)
        return owned

    def _owned(self, key: str, digest: _Digest, doubt: Failure | None) -> bool | None:
        """True if the value that exists is ours, False if it is another's, None if there is none."""
        try:
            if doubt is None:
                return False if self._found(key) else None
            found = self._digest(key)
        except StoreError as error:
            raise (_unknown(key, doubt) if doubt else error) from error
        return None if found is None else found == digest()

    def _digest(self, key: str) -> bytes | None:
        parts, hashed = self.open(key), hashlib.sha256()
        if parts is None:
            return None
        for part in parts:
            hashed.update(part)
        return hashed.digest()


def _unknown(key: str, failure: Failure) -> OutcomeUnknownError:
    return OutcomeUnknownError(f"cannot tell whether {key} was written: {failure.what}: look before trying again")


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _joined(parts: Iterator[bytes], size: int) -> bytes:
    """The next parts in one: all that are left, or the fewest that have `size` bytes."""
    taken, length = [], 0
    for part in parts:
        taken.append(part)
        length += len(part)
        if length >= size:
            break
    return b"".join(taken)


def _parts(found: "obstore.GetResult", key: str) -> Iterator[bytes]:
    with _translated("read", key):
        for part in found.stream(min_chunk_size=_READ_PART):
            yield bytes(part)


@contextlib.contextmanager
def _translated(action: str, key: str) -> Iterator[None]:
    """What obstore raises inside, as a StoreError."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        raise object_errors.examine(error).error(action, key) from error


@contextlib.contextmanager
def _absent_apart() -> Iterator[None]:
    """What obstore raises inside as it is, but an _AbsentError if there is no such key."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        if object_errors.examine(error).absent:
            raise _AbsentError from error
        raise
