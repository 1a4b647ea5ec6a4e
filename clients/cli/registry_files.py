"""The parts of `tidegate registry` that carry a version from one registry to another as one file: export, import."""

from pathlib import Path
from typing import Annotated

import typer

from clients.cli import options, output
from clients.cli.actor import user_name
from clients.cli.errors import InputError
from clients.cli.options import AsJson, Model, Reason, RegistryUrl, SigningKey, TrustedKeys, Version
from registry import archive
from registry.location import Keys, create_registry, open_registry, trust_of


def add_to(app: typer.Typer) -> None:
    """Give `app` the commands of this module."""
    app.command("export")(export_version)
    app.command("import")(import_version)


def export_version(
    model: Model,
    version: Version,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: MODEL-VERSION.tidegate", show_default=False)] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Write a version as one file (a tar), with its manifest and every file, to carry to another registry.

    \b
    Example:
      tidegate registry export churn 2 --out churn-2.tidegate
    """
    target = out or Path(f"{model}-{version}.tidegate")
    if not target.name:
        raise InputError(f"--out {str(out)!r} is no file: name one, e.g. {model}-{version}.tidegate")
    size = archive.export(open_registry(registry, keys=Keys(trusted_keys=trusted_keys)), model, version, target)
    if as_json:
        output.write_json({"file": str(target), "bytes": size})
    else:
        output.write_line(f"{target}: {size} bytes")


def import_version(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote.", show_default=False)],
    reason: Reason,
    model: Annotated[str | None, typer.Option("--as", metavar="MODEL", help="Name it so here; else as it was.", show_default=False)] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Register the version of an exported file as the next version; an absent registry is created.

    Every byte is checked against its manifest before anything is written, and with --trusted-keys its manifest must be signed.

    \b
    Example:
      tidegate registry import churn-2.tidegate --reason "from the training cluster"
    """
    if not file.is_file():
        raise InputError(f"{file} is no file")
    keys = Keys(signing_key, trusted_keys)
    found = archive.read(file, trust_of(keys))
    opened = create_registry(registry, keys=keys)
    name = model or found.manifest.model
    version = archive.register(opened, found, name, actor=user_name(), reason=reason)
    if as_json:
        output.write_json({"model": name, "version": version, "imported_from": archive.source(found)})
    else:
        output.write_line(f"{name}: registered version {version}, which was version {found.manifest.version} of {found.manifest.model}")
