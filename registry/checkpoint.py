"""A checkpoint: the state of a model at a commit, so that a read never replays the whole log. No I/O here.

One JSON object that names the groups of versions by their digests; the groups are blobs, shared by all checkpoints in which they did not
change. Kept elsewhere, it is a statement of what the log was: it has the digest of the newest commit, so that commits cut off or rewritten
afterwards are found.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeAlias

from registry import canonical, sealing
from registry.canonical import JsonObject
from registry.fields import integer, items, mapping, reading, record, text
from registry.names import check_digest, check_name
from registry.route import Route, parse_route
from registry.sealing import Sign, unsigned
from registry.state import ModelState
from registry.times import format_time, parse_time
from registry.version import Group, Versions

FORMAT = "tidegate.checkpoint/1"
EVERY = 128
"""Commits between two checkpoints: reading so many takes about 4 ms, and a checkpoint is written with one commit of so many."""

Load: TypeAlias = Callable[[int, str], bytes]
"""Gives the bytes of a group of versions: its place, and the sha256 that they must have."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says, as it was written: the state but for the versions, of which it has the digests."""

    model: str
    seq: int
    head: str
    """sha256 of commit `seq`"""
    updated: datetime
    staging: int | None
    routes: tuple[Route, ...]
    count: int
    newest: int
    groups: Mapping[int, str]
    """sha256 of every group of versions, by place"""
    raw: bytes

    @property
    def value(self) -> JsonObject:
        """All fields: what a signature covers."""
        return canonical.decode(self.raw, "a checkpoint")

    def state(self, load: Load) -> ModelState:
        """The state it was taken of; groups of versions are loaded when one of them is asked for."""
        groups = {place: Group(digest=digest, load=partial(load, place, digest)) for place, digest in self.groups.items()}
        versions = Versions(groups, self.count, self.newest)
        return ModelState(self.model, self.seq, self.head, versions, self.staging, self.routes, self.updated)

    def agrees(self, state: ModelState) -> bool:
        """Whether it says exactly what `state` is."""
        return self.state(_nothing) == state and (self.count, self.newest) == (len(state.versions), state.versions.newest)


def encode(state: ModelState, sign: Sign = unsigned) -> bytes:
    """The bytes of a checkpoint of `state`, which is at commit 1 or later; the groups it names are to be stored before it.

    Raises:
        ValueError: if the state is at no commit.
    """
    if state.head is None or state.updated is None:
        raise ValueError("nothing was committed yet")
    value: JsonObject = {
        "format": FORMAT,
        "model": state.model,
        "seq": state.seq,
        "head": state.head,
        "updated": format_time(state.updated),
        "staging": state.staging,
        "routes": [route.to_json() for route in state.routes],
        "versions": {
            "count": len(state.versions),
            "newest": state.versions.newest,
            "groups": {str(place): digest for place, digest in state.versions.digests().items()},
        },
    }
    return sealing.seal(sign(value))


def parse(raw: bytes) -> Checkpoint:
    """Read a checkpoint; `parse(encode(state)).agrees(state)`.

    Raises:
        FormatError: if it is not one of a format this release knows, or its bytes changed.
    """
    value = sealing.unseal(raw, FORMAT, "a checkpoint")
    with reading("a checkpoint"):
        versions = record(value, "versions")
        return Checkpoint(
            model=check_name(text(value, "model")),
            seq=integer(value, "seq", 1),
            head=check_digest(text(value, "head")),
            updated=parse_time(text(value, "updated")),
            staging=None if value["staging"] is None else integer(value, "staging", 1),
            routes=tuple(parse_route(route) for route in items(value, "routes", dict)),
            count=integer(versions, "count", 0),
            newest=integer(versions, "newest", 0),
            groups={int(place): check_digest(digest) for place, digest in mapping(versions, "groups", str).items()},
            raw=raw,
        )


def _nothing(_place: int, _digest: str) -> bytes:
    return b""
