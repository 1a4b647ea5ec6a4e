"""One version as the log tells it, and all versions of a model as a persistent map that is cheap to extend and to store. No I/O here.

A model that is retrained every hour has tens of thousands of versions, and its state must still be read in milliseconds. So versions are
kept in groups of 64, each of which has a digest: a change copies one group, a checkpoint names groups and stores those that are new, and a
group that a checkpoint named is loaded when one of its versions is asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from types import MappingProxyType

from registry import canonical
from registry.canonical import Json, JsonObject
from registry.errors import FormatError
from registry.fields import integer, mapping, reading, text
from registry.names import check_digest
from registry.times import format_time, parse_time

GROUP = 64


_NOTHING: Mapping[str, int] = MappingProxyType({})
_NO_EVIDENCE: Mapping[str, "Evidence"] = MappingProxyType({})
_DIGITS = 15
"""Of a version's number, at most."""


def _nothing() -> Mapping[str, int]:
    return _NOTHING


def _no_evidence() -> Mapping[str, "Evidence"]:
    return _NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class Evidence:
    """The file that speaks last under a name: the commit that attached it, its sha256 and its size in bytes."""

    seq: int
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version, the commit that made it visible, and what was decided about it since.

    `evidence` gives the newest file of each name; `sign_offs` and `overrides` give, for each checklist's item and each gate, the number of
    the commit that speaks last; `approvals`, for each actor, the number of the commit that approved.
    """

    number: int
    manifest: str
    """sha256 of manifest.json"""
    seq: int
    registered: datetime
    actor: str
    reason: str
    evidence: Mapping[str, Evidence] = field(default_factory=_no_evidence)
    approvals: Mapping[str, int] = field(default_factory=_nothing)
    sign_offs: Mapping[str, int] = field(default_factory=_nothing)
    overrides: Mapping[str, int] = field(default_factory=_nothing)
    retired: int | None = None
    """the commit that retired it"""

    def to_json(self) -> JsonObject:
        """As it stands in a checkpoint; `parse(number, version.to_json()) == version`."""
        decided: dict[str, Json] = {name: dict(getattr(self, name)) for name in _DECIDED if getattr(self, name)}
        if self.evidence:
            decided["evidence"] = {name: asdict(item) for name, item in self.evidence.items()}
        retired = {} if self.retired is None else {"retired": self.retired}
        return {
            "manifest": self.manifest,
            "seq": self.seq,
            "registered": format_time(self.registered),
            "actor": self.actor,
            "reason": self.reason,
            **decided,
            **retired,
        }


_DECIDED = ("approvals", "sign_offs", "overrides")


def evidence(seq: int, value: JsonObject) -> Evidence:
    """What a payload, or a checkpoint, says of a file that commit `seq` attached.

    Raises:
        KeyError, TypeError, InvalidNameError: if a field is missing or wrong.
    """
    return Evidence(seq, check_digest(text(value, "sha256")), integer(value, "size", 0))


def parse(number: int, value: JsonObject) -> Version:
    """A version from its JSON.

    Raises:
        FormatError: if a field is missing or wrong.
    """
    with reading(f"version {number}"):
        return Version(
            number=number,
            manifest=text(value, "manifest"),
            seq=integer(value, "seq", 1),
            registered=parse_time(text(value, "registered")),
            actor=text(value, "actor"),
            reason=text(value, "reason"),
            retired=integer(value, "retired", 1) if "retired" in value else None,
            evidence={
                name: evidence(integer(item, "seq", 1), item) for name, item in mapping({"evidence": {}, **value}, "evidence", dict).items()
            },
            **{name: mapping(value, name, int) for name in _DECIDED if name in value},
        )


class Group:
    """Up to 64 versions with neighbouring numbers: at hand, or named by the sha256 of their canonical JSON and loaded when asked for."""

    __slots__ = ("_digest", "_load", "_raw", "_versions", "stored")

    def __init__(self, versions: Mapping[int, Version] | None = None, digest: str = "", load: Callable[[], bytes] = bytes) -> None:
        self._versions = versions
        self._digest = digest
        self._load = load
        self._raw = b""
        self.stored = bool(digest)
        """whether it came from where groups are stored"""

    @property
    def versions(self) -> Mapping[int, Version]:
        """By number, ascending."""
        if self._versions is None:
            value = canonical.decode_known(self._load(), "a group of versions")
            self._versions = dict(sorted((int(number), parse(int(number), item)) for number, item in _numbered(value)))
        return self._versions

    @property
    def raw(self) -> bytes:
        """Their canonical JSON."""
        self._raw = self._raw or canonical.encode({str(number): version.to_json() for number, version in self.versions.items()})
        return self._raw

    @property
    def digest(self) -> str:
        """The sha256 of `raw`."""
        self._digest = self._digest or canonical.digest(self.raw)
        return self._digest


class Versions(Mapping[int, Version]):
    """All versions of a model by number, ascending; never changes, `with_version` makes another."""

    __slots__ = ("_count", "groups", "newest")

    def __init__(self, groups: Mapping[int, Group] | None = None, count: int = 0, newest: int = 0) -> None:
        self.groups = groups or {}
        """by place: the number of a version divided by 64"""
        self.newest = newest
        """the highest number; 0 if there is none"""
        self._count = count

    def with_version(self, version: Version) -> "Versions":
        """These and `version`, which takes the place of one of the same number."""
        place = version.number // GROUP
        before = self.groups[place].versions if place in self.groups else {}
        added = version.number not in before
        after = {**before, version.number: version}
        if added and version.number < self.newest:
            after = dict(sorted(after.items()))
        return Versions({**self.groups, place: Group(after)}, self._count + added, max(self.newest, version.number))

    def digests(self) -> dict[int, str]:
        """The sha256 of every group, by place."""
        return {place: self.groups[place].digest for place in sorted(self.groups)}

    def __getitem__(self, number: int) -> Version:
        group = self.groups.get(number // GROUP)
        if group is None:
            raise KeyError(number)
        return group.versions[number]

    def __iter__(self) -> Iterator[int]:
        for place in sorted(self.groups):
            yield from self.groups[place].versions

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return self.digests() == other.digests() if isinstance(other, Versions) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._count, self.newest))


def _numbered(value: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for number, item in value.items():
        if not (number.isascii() and number.isdecimal()) or len(number) > _DIGITS or not isinstance(item, Mapping):
            raise FormatError(f"a checkpoint names a version {number[:20]!r}")
        yield number, item
