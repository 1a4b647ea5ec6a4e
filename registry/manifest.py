"""Which files a version has, by digest, and the facts about them. No I/O here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from registry import canonical
from registry.canonical import JsonObject
from registry.commit import format_time, parse_time
from registry.errors import FormatError, NotFoundError
from registry.names import check_digest, check_name

FORMAT = "tidegate.manifest/1"


@dataclass(frozen=True)
class File:
    """One file of a bundle: its sha256 and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The files of one version, by name, and the facts its trainer states (algorithm, metrics, data digest)."""

    model: str
    version: int
    created: datetime
    files: Mapping[str, File]
    facts: JsonObject

    def encode(self) -> bytes:
        """Canonical bytes; `parse(manifest.encode()) == manifest`."""
        return canonical.encode(
            {
                "format": FORMAT,
                "model": self.model,
                "version": self.version,
                "created": format_time(self.created),
                "files": {name: {"sha256": file.sha256, "size": file.size} for name, file in self.files.items()},
                "facts": self.facts,
            }
        )

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
    try:
        files, facts, version = value["files"], value["facts"], value["version"]
        if not isinstance(files, dict) or not isinstance(facts, dict) or not isinstance(version, int):
            raise TypeError("version, files or facts has the wrong type")
        return Manifest(
            model=check_name(str(value["model"])),
            version=version,
            created=parse_time(str(value["created"])),
            files={check_name(name, "file"): File(check_digest(str(item["sha256"])), int(item["size"])) for name, item in files.items()},
            facts=facts,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"a manifest has a missing or wrong field: {error}") from error
