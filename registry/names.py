"""What things in the registry may be called, and the checks every name from outside passes. No I/O here."""

import re

from registry.errors import InvalidNameError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT_KEY = re.compile(rf"models/({_NAME.pattern})/log/([0-9]{{20}})\.json")
_CHECKPOINT_KEY = re.compile(rf"models/({_NAME.pattern})/checkpoints/([0-9]{{20}})\.json")
_MANIFEST_KEY = re.compile(rf"models/({_NAME.pattern})/versions/([1-9][0-9]*)/manifest\.json")

MARKER = "registry.json"
"""The key that makes a place a registry."""
MARKER_FORMAT = "tidegate.registry/1"

MODELS = "models/"
"""The prefix of everything about models."""
TRASH = "trash/"
"""The prefix of what is being removed: set aside first, so that it can still be put back."""

MAX_VERSION = 10**12
"""Far more than anyone trains, and short enough for every file system."""

STAGING = "staging"
PRODUCTION = "production"
STAGES = (STAGING, PRODUCTION)


def check_name(name: str, what: str = "model") -> str:
    """Return `name` if it may name a model or a bundle file: `[a-z0-9][a-z0-9._-]{0,62}`.

    Raises:
        InvalidNameError: for anything else, among it every path separator, `..`, NUL and look-alike letter.
    """
    if not is_name(name):
        raise InvalidNameError(
            f"{what} name {name[:80]!r} is not allowed: use 1 to 63 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
        )
    return name


def is_name(name: str) -> bool:
    """Whether `name` may name a model or a bundle file."""
    return _NAME.fullmatch(name) is not None


def check_version(version: int) -> int:
    """Return `version` if it is a version number: 1, 2, 3 ...

    Raises:
        InvalidNameError: for anything else.
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InvalidNameError(f"version {version!r} is not allowed: versions are 1, 2, 3 ...")
    return version


def check_stage(stage: str) -> str:
    """Return `stage` if it is one of the stages.

    Raises:
        InvalidNameError: for anything else.
    """
    if stage not in STAGES:
        raise InvalidNameError(f"stage {stage[:80]!r} is not allowed: use {' or '.join(STAGES)}")
    return stage


def check_digest(digest: str) -> str:
    """Return `digest` if it is 64 lower-case hexadecimal digits.

    Raises:
        InvalidNameError: for anything else.
    """
    if not _DIGEST.fullmatch(digest):
        raise InvalidNameError(f"{digest[:80]!r} is not a sha256")
    return digest


def blob_key(digest: str) -> str:
    """The key under which the file with this sha256 is stored."""
    return f"blobs/sha256/{check_digest(digest)[:2]}/{digest}"


def manifest_key(model: str, version: int) -> str:
    """The key of a version's manifest."""
    return f"{MODELS}{check_name(model)}/versions/{check_version(version)}/manifest.json"


def trash_key(key: str) -> str:
    """Where the value of `key` is set aside before it is removed."""
    return TRASH + key


def log_prefix(model: str) -> str:
    """The prefix of all entries of a model's log."""
    return f"{MODELS}{check_name(model)}/log/"


def commit_key(model: str, seq: int) -> str:
    """The key of one commit; 20 digits, so that names sort as numbers do."""
    return f"{log_prefix(model)}{seq:020d}.json"


def commit_keys(model: str, seqs: range) -> list[str]:
    """The keys of several commits."""
    prefix = log_prefix(model)
    return [f"{prefix}{seq:020d}.json" for seq in seqs]


def checkpoint_prefix(model: str) -> str:
    """The prefix of all checkpoints of a model."""
    return f"{MODELS}{check_name(model)}/checkpoints/"


def checkpoint_key(model: str, seq: int) -> str:
    """The key of the checkpoint taken at commit `seq`."""
    return f"{checkpoint_prefix(model)}{seq:020d}.json"


def parse_checkpoint_key(key: str) -> tuple[str, int] | None:
    """The model and the commit of a checkpoint; None if `key` is not the key of one. The inverse of `checkpoint_key`."""
    return _place(_CHECKPOINT_KEY, key)


def parse_commit_key(key: str) -> tuple[str, int] | None:
    """The model and the number of a commit; None if `key` is not the key of one. `parse_commit_key(commit_key(m, n)) == (m, n)`."""
    return _place(_COMMIT_KEY, key)


def parse_manifest_key(key: str) -> tuple[str, int] | None:
    """The model and the version of a manifest; None if `key` is not the key of one. `parse_manifest_key(manifest_key(m, v)) == (m, v)`."""
    return _place(_MANIFEST_KEY, key)


def parse_blob_key(key: str) -> str | None:
    """The sha256 of a blob; None if `key` is not the key of one. `parse_blob_key(blob_key(d)) == d`."""
    digest = key.rpartition("/")[2]
    return digest if _DIGEST.fullmatch(digest) and key == blob_key(digest) else None


def _place(pattern: re.Pattern[str], key: str) -> tuple[str, int] | None:
    found = pattern.fullmatch(key)
    return (found[1], int(found[2])) if found and int(found[2]) else None
