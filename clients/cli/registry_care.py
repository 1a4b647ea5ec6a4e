"""The parts of `tidegate registry` that look after it: verify, gc, checkpoint, keygen."""

from pathlib import Path
from typing import Annotated

import typer

from clients.cli import options, output
from clients.cli.errors import InputError, RefusedError
from clients.cli.options import AsJson, RegistryUrl, SigningKey, TrustedKeys
from registry import checkpoint as checkpoints
from registry import sweep, views
from registry import verify as verification
from registry.checkpoint import Checkpoint
from registry.errors import RegistryError, StoreError
from registry.location import Keys, open_registry
from registry.times import format_time


def add_to(app: typer.Typer) -> None:
    """Give `app` the commands of this module."""
    for command in (verify, gc, checkpoint, keygen):
        app.command()(command)


def verify(
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    kept: Annotated[
        Path | None,
        typer.Option("--checkpoints", metavar="PATH", help="A checkpoint kept elsewhere, or a folder of them.", show_default=False),
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Hash everything again and name what is flipped, missing, reordered, forked, cut off or not signed.

    From inside a registry nobody can see that its newest commits are gone, together with the checkpoints that name them, or that all of a
    log was written anew. Checkpoints that you keep elsewhere find both; trusted keys find the second.

    \b
    Examples:
      tidegate registry verify
      tidegate registry verify --trusted-keys keys/ --checkpoints /mnt/elsewhere/
    """
    opened = open_registry(registry, keys=Keys(trusted_keys=trusted_keys))
    with output.progress("verifying") as progress:
        report = verification.examine(opened.store, opened.trust, _kept(kept, trusted_keys), progress)
    if as_json:
        output.write_json(views.report(report))
    else:
        for line in verification.describe(report):
            output.write_line(line)
    if report.problems:
        raise RefusedError(f"{registry} is not as it was written: {len(report.problems)} problems, the first in {report.problems[0].key}")


def gc(
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this nothing is changed.")] = False,  # noqa: FBT002 -- a flag
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Say what no commit refers to and is older than an hour; with --delete, remove it.

    That is what writers left that died before their commit, and checkpoints that newer ones replace. On an object store what is removed is
    set aside first and deleted by the next run an hour later.

    \b
    Examples:
      tidegate registry gc
      tidegate registry gc --delete
    """
    opened = open_registry(registry, keys=Keys(trusted_keys=trusted_keys))
    if not delete:
        found = sweep.unused(opened)
        _write_unused(found, f"{_total(found)} would be removed; --delete does", as_json=as_json)
        return
    with output.progress("removing") as progress:
        swept = sweep.sweep(opened, progress)
    if as_json:
        output.write_json(
            {"deleted": views.unused(swept.deleted), "set_aside": views.unused(swept.set_aside), "put_back": list(swept.put_back)}
        )
        return
    _write_unused(swept.deleted, f"{_total(swept.deleted)} removed", as_json=False)
    if swept.set_aside:
        output.write_line(f"{_total(swept.set_aside)} set aside: an hour from now the next gc --delete removes it")


def checkpoint(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only this model.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write a copy to keep elsewhere.", show_default=False)] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """State what the logs are now, signed if you have a key; keep the copies where nobody who can write the registry can.

    `verify --checkpoints` then finds commits that were cut off or rewritten since. A signed checkpoint also vouches for the commits before
    it, which makes it the way to begin with signatures in a registry that had none.

    \b
    Example:
      tidegate registry checkpoint --signing-key ana.key --out /mnt/elsewhere
    """
    opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
    written: list[dict[str, str | int]] = []
    for name in [model] if model else opened.models():
        taken = opened.checkpoint(name)
        written.append({"model": name, "seq": taken.seq, "head": taken.head, "updated": format_time(taken.updated)})
        if out is not None:
            _write_copy(out / f"{name}.{taken.seq:020d}.json", taken.raw)
    if as_json:
        output.write_json([dict(item) for item in written])
    else:
        output.write_table(("model", "seq", "head", "updated"), [list(item.values()) for item in written])


def keygen(
    private: Annotated[
        Path, typer.Argument(metavar="FILE", help="The private key, e.g. ana.key; ana.pub goes beside it.", show_default=False)
    ],
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Make an Ed25519 key pair: sign with the private key, give the public key to those who verify.

    \b
    Example:
      tidegate registry keygen ana.key && mv ana.pub keys/
    """
    from registry import signing  # noqa: PLC0415 -- brings cryptography, which no other command here needs

    public = signing.generate(private)
    fingerprint = signing.load_signer(private).fingerprint
    if as_json:
        output.write_json({"private": str(private), "public": str(public), "fingerprint": fingerprint})
    else:
        output.write_line(f"private key {private}: keep it secret; public key {public}, fingerprint {fingerprint}")


def _kept(path: Path | None, trusted_keys: Path | None) -> list[Checkpoint]:
    if path is None:
        return []
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no checkpoint: tidegate registry checkpoint --out writes them")
    try:
        kept = [checkpoints.parse(file.read_bytes()) for file in files]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error
    except RegistryError as error:
        raise InputError(f"{path}: {error}") from error
    if trusted_keys is not None:
        from registry import signing  # noqa: PLC0415 -- the same

        trust = signing.load_trust(trusted_keys)
        for file, taken in zip(files, kept, strict=True):
            trust.check(taken.value, str(file))
    return kept


def _write_copy(path: Path, raw: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _write_unused(found: tuple[sweep.Unused, ...], summary: str, *, as_json: bool) -> None:
    if as_json:
        output.write_json(views.unused(found))
        return
    if found:
        output.write_table(("what", "bytes", "key"), [(item.what, item.entry.size, item.entry.key) for item in found])
    output.write_line(summary)


def _total(found: tuple[sweep.Unused, ...]) -> str:
    return f"{len(found)} values of {sum(item.entry.size for item in found)} bytes"
