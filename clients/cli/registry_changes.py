"""The parts of `tidegate registry` that commit: register a folder, attach evidence, approve, sign off, override, retire, note."""

from collections.abc import Callable
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
from registry.registry import Registry

if TYPE_CHECKING:
    from registry.blobs import Content


def add_to(app: typer.Typer) -> None:
    """Give `app` the commands of this module."""
    for command in (register, attach, note):
        app.command()(command)
    for name, decision in _DECISIONS.items():
        app.command(name)(decision)


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


def _decision(act: Callable[[Registry, str, int, str, str], Commit], line: str, text: str) -> Callable[..., None]:
    """The command of a decision about a version; `line` is what it says afterwards, `text` its help."""

    def command(
        model: Model,
        version: Version,
        reason: Reason,
        registry: RegistryUrl = options.DEFAULT_REGISTRY,
        signing_key: SigningKey = None,
        trusted_keys: TrustedKeys = None,
        as_json: AsJson = False,  # noqa: FBT002 -- a flag
    ) -> None:
        opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
        commit = act(opened, model, version, user_name(), reason)
        _write(commit, line.format(model=model, version=version, actor=commit.change.actor), as_json=as_json)

    command.__doc__ = text
    return command


def _decision_on(
    what: str, example: str, act: Callable[[Registry, str, int, str, str, str], Commit], line: str, text: str
) -> Callable[..., None]:
    """The command of a decision about `what` (a gate, an item) of a version."""

    def command(
        model: Model,
        version: Version,
        name: Annotated[str, typer.Argument(metavar=what.upper(), help=example, show_default=False)],
        reason: Reason,
        registry: RegistryUrl = options.DEFAULT_REGISTRY,
        signing_key: SigningKey = None,
        trusted_keys: TrustedKeys = None,
        as_json: AsJson = False,  # noqa: FBT002 -- a flag
    ) -> None:
        opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
        commit = act(opened, model, version, name, user_name(), reason)
        _write(commit, line.format(model=model, version=version, name=name, actor=commit.change.actor), as_json=as_json)

    command.__doc__ = text
    return command


_DECISIONS = {
    "approve": _decision(
        lambda it, model, version, actor, reason: it.approve(model, version, actor=actor, reason=reason),
        "{model}: version {version} is approved by {actor}",
        "Record that you approve of a version.",
    ),
    "sign-off": _decision_on(
        "item",
        "The item of the checklist, e.g. data-privacy.",
        lambda it, model, version, name, actor, reason: it.sign_off(model, version, name, actor=actor, reason=reason),
        "{model}: {name} of version {version} is signed off by {actor}",
        "Record that you answer for an item of a version's checklist.",
    ),
    "override": _decision_on(
        "gate",
        "The gate that refuses it, e.g. fairness.",
        lambda it, model, version, name, actor, reason: it.override(model, version, name, actor=actor, reason=reason),
        "{model}: gate {name} is overridden for version {version}",
        "Record that a version may pass a gate that refuses it, and why.",
    ),
    "retire": _decision(
        lambda it, model, version, actor, reason: it.retire(model, version, actor=actor, reason=reason),
        "{model}: version {version} is retired",
        "Take a version out of use for good; its files and its history stay.",
    ),
}


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
