"""The parts of `tidegate registry` that commit: register a folder, attach evidence, approve, sign off, override, retire, note."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clients.cli import options, output
from clients.cli.actor import user_name
from clients.cli.errors import InputError
from clients.cli.options import AsJson, Model, Reason, RegistryUrl, SigningKey, TrustedKeys, Version
from registry import views
from registry.commit import Commit
from registry.location import Keys, create_registry, open_registry

if TYPE_CHECKING:
    from registry.blobs import Content


def add_to(app: typer.Typer) -> None:
    """Give `app` the commands of this module."""
    for command in (register, attach, approve, override, retire, note):
        app.command()(command)
    app.command("sign-off")(sign_off)


def register(
    model: Model,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With model.onnx, signature.json and what else belongs to it.")],
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Register the files of a folder as the next version of a model; an absent registry is created.

    \b
    Example:
      tidegate registry register churn ./export --reason "from the vendor, ticket 812"
    """
    try:
        files: dict[str, Content] = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}; name the folder that model.onnx is in") from error
    opened = create_registry(registry, keys=Keys(signing_key, trusted_keys))
    version = opened.register(model, files, {}, actor=user_name(), reason=reason)
    if as_json:
        output.write_json({"model": model, "version": version})
    else:
        output.write_line(f"{model}: registered version {version} with {', '.join(files)}")


def attach(
    model: Model,
    version: Version,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it shows, e.g. load-test.json; the newest of a name counts.")],
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="The evidence.", show_default=False)],
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Attach a file to a version as evidence, for the gates and for those who approve.

    \b
    Example:
      tidegate registry attach churn 2 load-test.json --file report.json --reason "p99 under load"
    """
    if not file.is_file():
        raise InputError(f"{file} is no file")
    opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
    commit = opened.attach(model, version, name, file, actor=user_name(), reason=reason)
    _write(commit, f"{model}: {name} is evidence about version {version}", as_json=as_json)


def approve(
    model: Model,
    version: Version,
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Record that you approve of a version."""
    opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
    commit = opened.approve(model, version, actor=user_name(), reason=reason)
    _write(commit, f"{model}: version {version} is approved by {commit.change.actor}", as_json=as_json)


def sign_off(
    model: Model,
    version: Version,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The item of the checklist, e.g. data-privacy.", show_default=False)],
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Record that you answer for an item of a version's checklist."""
    opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
    commit = opened.sign_off(model, version, item, actor=user_name(), reason=reason)
    _write(commit, f"{model}: {item} of version {version} is signed off by {commit.change.actor}", as_json=as_json)


def override(
    model: Model,
    version: Version,
    gate: Annotated[str, typer.Argument(metavar="GATE", help="The gate that refuses it, e.g. fairness.", show_default=False)],
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Record that a version may pass a gate that refuses it, and why."""
    opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
    commit = opened.override(model, version, gate, actor=user_name(), reason=reason)
    _write(commit, f"{model}: gate {gate} is overridden for version {version}", as_json=as_json)


def retire(
    model: Model,
    version: Version,
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Take a version out of use for good; its files and its history stay."""
    opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
    commit = opened.retire(model, version, actor=user_name(), reason=reason)
    _write(commit, f"{model}: version {version} is retired", as_json=as_json)


def note(
    model: Model,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="The note.", show_default=False)],
    version: Annotated[int | None, typer.Option("--version", metavar="N", help="The version it is about; else the model.")] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Write a note into a model's log; it changes nothing else.

    \b
    Example:
      tidegate registry note churn --version 2 --reason "retraining was delayed by ticket 951"
    """
    opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
    _write(opened.note(model, version, actor=user_name(), reason=reason), f"{model}: noted", as_json=as_json)


def _write(commit: Commit, line: str, *, as_json: bool) -> None:
    if as_json:
        output.write_json(views.commit(commit))
    else:
        output.write_line(line)
