"""Which files a version has, by digest, and the facts about them. No I/O here."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from registry import canonical
from registry.canonical import JsonObject
from registry.errors import NotFoundError
from registry.fields import integer, reading, record, text, unknown
from registry.names import check_digest, check_name
from registry.sealing import Sign, unsigned
from registry.times import format_time, parse_time

FORMAT = "tidegate.manifest/1"
_FIELDS = ("format", "model", "version", "created", "files", "facts")


@dataclass(frozen=True)
class File:
    """One file of a bundle: its sha256 and its size in bytes."""

    sha256: str
    size: int


class Digest:
    """Tells the sha256 and the size of what passes through."""

    def __init__(self) -> None:
        self._digest, self._size = hashlib.sha256(), 0

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """`chunks`, taken note of."""
        for chunk in chunks:
            self._digest.update(chunk)
            self._size += len(chunk)
            yield chunk

    def file(self) -> File:
        """What passed so far, as a file."""
        return File(self._digest.hexdigest(), self._size)


@dataclass(frozen=True)
class Manifest:
    """The files of one version, by name, and the facts its trainer states (algorithm, metrics, data digest)."""

    model: str
    version: int
    created: datetime
    files: Mapping[str, File]
    facts: JsonObject
    unknown: JsonObject = field(default_factory=dict)
    """the signature, and fields a later release added"""

    def to_json(self) -> JsonObject:
        """All fields: what a signature covers."""
        return {
            **self.unknown,
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            "created": format_time(self.created),
            "files": {name: {"sha256": file.sha256, "size": file.size} for name, file in self.files.items()},
            "facts": self.facts,
        }

    def encode(self, sign: Sign = unsigned) -> bytes:
        """Canonical bytes; `parse(manifest.encode()) == manifest`."""
        return canonical.encode(sign(self.to_json()))

    def file(self, name: str) -> File:
        """The file of this name.

        Raises:
            NotFoundError: if the bundle has no such file.
        """
        if name not in self.files:
            raise NotFoundError(f"version {self.version} of {self.model!r} has no {name}; it has {', '.join(sorted(self.files))}")
        return self.files[name]


def parse(raw: bytes) -> Manifest:
    """Read a manifest from its bytes.

    Raises:
        FormatError: if it is not a manifest of a format this release knows.
    """
    value = canonical.expect_format(canonical.decode(raw, "a manifest"), FORMAT, "a manifest")
    with reading("a manifest"):
        files = record(value, "files")
        return Manifest(
            model=check_name(text(value, "model")),
            version=integer(value, "version", 1),
            created=parse_time(text(value, "created")),
            files={check_name(name, "file"): _file(record(files, name)) for name in files},
            facts=record(value, "facts"),
            unknown=unknown(value, _FIELDS),
        )


def _file(value: JsonObject) -> File:
    return File(check_digest(text(value, "sha256")), integer(value, "size", 0))
