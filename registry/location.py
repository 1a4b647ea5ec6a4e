"""Where a registry is, and how it is opened: the one place that builds a `Registry` from a URL, keys and the clock of this machine."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from registry import canonical
from registry.errors import NotARegistryError
from registry.local_store import LocalStore, store_error
from registry.log import Clock
from registry.names import MARKER, MARKER_FORMAT
from registry.onnx_guard import Guard
from registry.registry import Registry
from registry.sealing import unsigned
from registry.store import TEMPORARY, Store, Sweepable, get_one

if TYPE_CHECKING:
    from registry.signing import Trust


@dataclass(frozen=True)
class Keys:
    """Where keys are.

    Every commit, manifest and checkpoint is signed with `signing_key`; what no key of `trusted_keys` (a public key, or a folder of them)
    signed is refused.
    """

    signing_key: Path | None = None
    trusted_keys: Path | None = None


NO_KEYS = Keys()
OBJECT_STORES = ("s3", "gs", "az")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def open_registry(url: str, clock: Clock | None = None, keys: Keys = NO_KEYS) -> Registry:
    """The registry at `url` (`file:///...`, a path, `s3://`, `gs://`, `az://`), which must exist.

    Raises:
        KeyFileError: if a key cannot be read.
        NotARegistryError: if there is none.
        FormatError: if it is a registry of a format this release does not know.
        StoreError: if it cannot be read.
    """
    return _registry(open_store(url), clock, keys)


def create_registry(url: str, clock: Clock | None = None, keys: Keys = NO_KEYS) -> Registry:
    """The registry at `url`; an absent or empty place becomes one. See `open_registry`.

    Raises:
        NotARegistryError: if the place holds something else.
        StoreError: if it cannot be written.
    """
    return _registry(_create_store(url), clock, keys)


def open_store(url: str) -> Sweepable:
    """The store of a registry.

    Raises:
        NotARegistryError: if there is no registry.
        FormatError: if it is one of a format this release does not know.
        StoreError: if it cannot be read.
    """
    if is_object_store(url):
        from registry.object_store import open_bucket  # noqa: PLC0415 -- obstore is 16 MB that a folder does not need

        bucket = open_bucket(url)
        _check_marker(bucket, f"no registry at {url}: register a version first (tidegate train SPEC.toml), or name another with --registry")
        return bucket
    return open_folder(local_root(url))


def open_folder(root: Path) -> LocalStore:
    """The store of a folder that is a registry. Raises as `open_store`."""
    store = LocalStore(root)
    if get_one(store, MARKER) is None and not root.exists():
        raise NotARegistryError(
            f"no registry at {root}: register a version first (tidegate train SPEC.toml), or name another with --registry"
        )
    _check_marker(store, f"{root} is not a registry: it has no {MARKER}; name another folder with --registry")
    return store


def create_folder(root: Path) -> LocalStore:
    """The store of a folder, made a registry if it is absent or empty.

    Raises:
        NotARegistryError: if it is a file, or a folder that holds something else.
        FormatError: if it is a registry of a format this release does not know.
        StoreError: if it cannot be written.
    """
    store = LocalStore(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        foreign = next((path.name for path in root.iterdir() if not _belongs(path.name)), None)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotARegistryError(f"{root} is a file, not a registry folder") from error
    except OSError as error:
        raise store_error("write", str(root), error) from error
    if get_one(store, MARKER) is None:
        if foreign is not None:
            raise NotARegistryError(f"{root} is not a registry and not empty (it has {foreign}): name another folder with --registry")
        store.sync_above()  # before the marker, so that who finds it may rely on the folders above
        store.put_if_absent(MARKER, [_MARKER])
    return open_folder(root)


def local_root(url: str) -> Path:
    """The folder a registry URL names.

    Raises:
        NotARegistryError: for a scheme this release has no storage for, or what no folder can be called.
    """
    with suppress(ValueError):  # urlsplit's, for a host that is none
        if url and "\0" not in unquote(url):
            if not _SCHEME.match(url):
                return Path(url)
            parts = urlsplit(url)
            if parts.scheme == "file" and parts.netloc in {"", "localhost"} and not parts.query and not parts.fragment:
                return Path(unquote(parts.path))
    schemes = ", ".join(f"{scheme}://" for scheme in OBJECT_STORES)
    raise NotARegistryError(f"{url!r} is no place for a registry: use file:///path, a path, {schemes}")


_MARKER = canonical.encode({"format": MARKER_FORMAT})


def trust_of(keys: Keys) -> "Trust | None":
    """The trust in `trusted_keys`; None without them.

    Raises:
        KeyFileError: if one cannot be read.
    """
    if keys.trusted_keys is None:
        return None
    from registry.signing import load_trust  # noqa: PLC0415 -- brings cryptography, which a registry without keys does not need

    return load_trust(keys.trusted_keys)


def _registry(store: Sweepable, clock: Clock | None, keys: Keys) -> Registry:
    sign, trust, own = unsigned, None, None
    if keys != NO_KEYS:
        from registry import signing  # noqa: PLC0415 -- brings cryptography, which a registry without keys does not need

        if keys.signing_key:
            signer = signing.load_signer(keys.signing_key)
            sign, own = signer.sign, signer.trust()
        trust = trust_of(keys)
    return Registry(store, clock or _utc_now, shared_guard(), sign, trust, own)


def _create_store(url: str) -> Sweepable:
    if not is_object_store(url):
        return create_folder(local_root(url))
    from registry.object_store import open_bucket  # noqa: PLC0415 -- the same

    bucket = open_bucket(url)
    if get_one(bucket, MARKER) is None:
        foreign = next(iter(bucket.list("")), None)
        if foreign is not None:
            raise NotARegistryError(f"{url} is not a registry and not empty (it has {foreign}): name another place with --registry")
        # Once more: a store that ignores the condition would take every second commit of a number for the first.
        if bucket.put_if_absent(MARKER, [_MARKER]) and bucket.put_if_absent(MARKER, [_MARKER]):
            raise NotARegistryError(f"{url} cannot be a registry: its object store overwrites although told not to (If-None-Match: *)")
    _check_marker(bucket, f"{url} is not a registry")
    return bucket


@cache
def shared_guard() -> Guard:
    """The guard of this process: one child looks at the models of every registry that is open."""
    return Guard()


def _check_marker(store: Store, absent: str) -> None:
    marker = get_one(store, MARKER)
    if marker is None:
        raise NotARegistryError(absent)
    canonical.expect_format(canonical.decode(marker, MARKER), MARKER_FORMAT, MARKER)


def _belongs(name: str) -> bool:
    # Temporary files: another process makes the same registry at this moment. lost+found: the root of a fresh volume.
    return name == "lost+found" or name.startswith(TEMPORARY)


def is_object_store(url: str) -> bool:
    """Whether `url` names a bucket rather than a folder."""
    return url.partition("://")[0].lower() in OBJECT_STORES and "://" in url


def _utc_now() -> datetime:
    return datetime.now(UTC)
