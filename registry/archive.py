"""One version as one file: a tar of its manifest and its files, to carry to another registry. What may be registered, `registry` says.

    bundle.json      the header: format, model, version, sha256 of the manifest
    manifest.json    the manifest as it was registered, with its signature if it has one
    files/<name>     the files of the bundle

The same version gives the same bytes, whoever exports it and whenever.
"""

import io
import os
import secrets
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from registry import canonical, manifest
from registry.canonical import JsonObject
from registry.errors import CorruptError, FormatError, StoreError
from registry.fields import integer, reading, text
from registry.local_store import store_error
from registry.manifest import Digest, File, Manifest
from registry.names import check_digest, check_name
from registry.registry import Registry
from registry.store import TEMPORARY

if TYPE_CHECKING:
    from registry.blobs import Content
    from registry.signing import Trust

FORMAT = "tidegate.bundle/1"
HEADER, MANIFEST, FILES = "bundle.json", "manifest.json", "files/"
MAX_JSON = 16 << 20
"""Bytes a header or a manifest may have: they are read whole."""
_CHUNK = 1 << 20
_DAMAGED = (tarfile.TarError, EOFError, ValueError, OverflowError)
"""What tarfile raises at an archive that is none, or no longer."""


@dataclass(frozen=True)
class Archive:
    """An archive whose members were hashed and found to be those of its manifest."""

    path: Path
    manifest: Manifest
    digest: str
    """sha256 of the manifest"""


def export(registry: Registry, model: str, version: int, target: Path) -> int:
    """Write one version to `target`, which must not exist, and return its size in bytes.

    Raises:
        ModelUnknownError, VersionUnknownError: if it is not registered.
        CorruptError: if a file of it is missing or is not as registered.
        StoreError: if `target` exists or cannot be written.
    """
    known = registry.manifest(model, version)
    raw = registry.raw_manifest(model, version)
    header: JsonObject = {"format": FORMAT, "model": model, "version": version, "manifest": canonical.digest(raw)}
    part = target.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    if target.exists():
        raise StoreError(f"{target} exists: an export does not overwrite; name another file")
    try:
        with part.open("xb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, HEADER, canonical.encode(header))
                _add(tar, MANIFEST, raw)
                for name in sorted(known.files):
                    _stream(tar, name, known.files[name], registry.blobs.open(known.files[name].sha256))
            file.flush()
            os.fsync(file.fileno())
        _name(part, target)
    except FileExistsError as error:
        raise StoreError(f"{target} exists: an export does not overwrite; name another file") from error
    except OSError as error:
        raise store_error("write", str(target), error) from error
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


def read(path: Path, trust: "Trust | None" = None) -> Archive:
    """Read an archive and check every byte of it against its manifest.

    Raises:
        FormatError: if it is no archive of a format this release knows, or has members it should not have.
        CorruptError: if a member is missing or not what the manifest says.
        SignatureError: if `trust` is given and its manifest is not signed by one of its keys.
        StoreError: if it cannot be read.
    """
    with _opened(path) as tar:
        raw = _small(tar, MANIFEST)
        header = canonical.expect_format(canonical.decode(_small(tar, HEADER), HEADER), FORMAT, HEADER)
        found = manifest.parse(raw)
        _check_header(header, raw, found)
        if trust:
            trust.check(found.to_json(), f"the manifest in {path.name}")
        expected = {HEADER, MANIFEST, *(FILES + name for name in found.files)}
        if (names := sorted(_names(tar))) != sorted(expected):
            odd = sorted({*names} ^ expected) or names
            raise FormatError(f"{path.name} is not the archive of a version: {odd[0][:100]!r} is missing, twice there, or does not belong")
        for name, file in found.files.items():
            for _ in _checked(tar, name, file):
                pass
    return Archive(path, found, canonical.digest(raw))


def register(registry: Registry, archive: Archive, model: str, *, actor: str, reason: str) -> int:
    """Register the version of an archive as the next version of `model`; returns its number.

    Its facts then say where it came from, under `imported_from`. Raises as `Registry.register`.
    """
    # Every byte is held against the manifest once more as it is registered: the file may have been exchanged since it was read.
    files: Mapping[str, Content] = {name: partial(_member, archive.path, name, file) for name, file in archive.manifest.files.items()}
    return registry.register(model, files, {**archive.manifest.facts, "imported_from": source(archive)}, actor=actor, reason=reason)


def source(archive: Archive) -> JsonObject:
    """Where the version of an archive comes from, as its new facts say it."""
    return {"model": archive.manifest.model, "version": archive.manifest.version, "manifest": archive.digest}


def _name(part: Path, target: Path) -> None:
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as that of a memory stick
        if target.exists():
            raise FileExistsError from None
        part.rename(target)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_info(name, len(content)), io.BytesIO(content))


def _info(name: str, size: int) -> tarfile.TarInfo:
    # Owner, mode and time of nobody: the same version gives the same bytes.
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def _stream(tar: tarfile.TarFile, name: str, file: File, parts: Iterator[bytes]) -> None:
    try:
        tar.addfile(_info(FILES + name, file.size), _Reader(parts))
    except OSError as error:
        if error.errno is None:  # tarfile's own: the parts ended too early
            raise CorruptError(f"blob {file.sha256} is shorter than its manifest says: run verify") from error
        raise
    for _ in parts:  # to its end, where it is known whether the digest is right
        raise CorruptError(f"blob {file.sha256} is longer than its manifest says: run verify")


class _Reader:
    """Parts as a file that can be read once."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        found = []
        while size and (self._rest or self._more()):
            piece, self._rest = self._rest[:size], self._rest[size:]
            found.append(piece)
            size -= len(piece)
        return b"".join(found)

    def _more(self) -> bool:
        self._rest = memoryview(next(self._parts, b""))
        return bool(self._rest)


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except _DAMAGED as error:
        raise FormatError(f"{path} is not the archive of a version: tidegate registry export makes one") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def _names(tar: tarfile.TarFile) -> list[str]:
    try:
        return tar.getnames()
    except _DAMAGED as error:
        raise CorruptError("the archive is cut off or damaged: copy it again") from error


def _small(tar: tarfile.TarFile, name: str) -> bytes:
    return b"".join(_content(tar, name, MAX_JSON))


def _member(path: Path, name: str, file: File) -> Iterator[bytes]:
    with _opened(path) as tar:
        yield from _checked(tar, name, file)


def _content(tar: tarfile.TarFile, name: str, limit: int | None) -> Iterator[bytes]:
    try:
        member = tar.getmember(name)
        if member.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or member.issparse():
            raise FormatError(f"{name} in the archive is no plain file")
        if limit is not None and member.size > limit:
            raise FormatError(f"{name} in the archive has {member.size} bytes; at most {limit}")
        source = tar.extractfile(member)
        while source and (chunk := source.read(_CHUNK)):
            yield chunk
    except KeyError as error:
        raise FormatError(f"this is not the archive of a version: it has no {name}") from error
    except _DAMAGED as error:
        raise CorruptError(f"the archive is cut off or damaged at {name}: copy it again") from error
    except OSError as error:
        raise StoreError(f"cannot read {name} in the archive: {error.strerror or error}") from error


def _check_header(header: JsonObject, raw: bytes, found: Manifest) -> None:
    with reading(HEADER):
        named = (check_name(text(header, "model")), integer(header, "version", 1), check_digest(text(header, "manifest")))
    if named != (found.model, found.version, canonical.digest(raw)):
        raise CorruptError(f"{HEADER} and {MANIFEST} of the archive contradict each other: it was changed after it was exported")


def _checked(tar: tarfile.TarFile, name: str, file: File) -> Iterator[bytes]:
    """The bytes of a file of the bundle; that they are not what the manifest says is known, and raised, at the end."""
    digest = Digest()
    yield from digest.over(_content(tar, FILES + name, None))
    if digest.file() != file:
        raise CorruptError(f"{name} in the archive is not what its manifest says: it was changed after it was exported")
