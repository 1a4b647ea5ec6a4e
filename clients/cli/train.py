"""`tidegate train`: from one spec file to registered versions. All of the fitting is `training`; here are flags, progress and summary."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clients.cli import options, output
from clients.cli.actor import user_name
from clients.cli.errors import InputError, RefusedError
from clients.cli.options import AsJson, RegistryUrl, SigningKey, TrustedKeys
from registry.location import Keys

if TYPE_CHECKING:
    from registry.canonical import JsonObject
    from training.pipeline import TrainedVersion

_TRACKER = Path(".tidegate/experiments")


def train(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="What to train, on which data.", show_default=False)],
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, metavar="N", help="Trials of each search, instead of the spec's.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="Seed of everything random, instead of the spec's.")
    ] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    tracker: Annotated[Path, typer.Option("--experiments", metavar="DIR", help="Where experiments go without COMET_API_KEY.")] = _TRACKER,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Fit, export, check and register one version for each candidate of a spec file.

    An absent registry is created. A version is registered only if ONNX Runtime answers as scikit-learn does on every held-out row.

    \b
    Example:
      tidegate train spec.toml --trials 20 --seed 7
    """
    # Imported here: scikit-learn and pandas take seconds, which `train --help` and a misspelt flag need not wait for.
    from training import pipeline, progress  # noqa: PLC0415
    from training.errors import ParityError, TrainingError  # noqa: PLC0415

    try:
        with progress.on(sys.stderr) as report:
            trained = pipeline.train(
                spec,
                registry,
                trials=trials,
                seed=seed,
                actor=user_name(),
                tracker_dir=tracker,
                progress=report,
                keys=Keys(signing_key, trusted_keys),
            )
    except ParityError as error:
        raise RefusedError(str(error)) from error
    except TrainingError as error:
        raise InputError(str(error)) from error
    _write([_summary(version) for version in trained], as_json=as_json)


def _summary(trained: "TrainedVersion") -> "JsonObject":
    metrics = {metric.name: metric.value for metric in trained.evaluation.metrics}
    return {"model": trained.model, "version": trained.version, "algorithm": trained.algorithm, **metrics}


def _write(summaries: list["JsonObject"], *, as_json: bool) -> None:
    if as_json:
        output.write_json(summaries)
    else:
        output.write_table(list(summaries[0]), [[output.cell(value) for value in row.values()] for row in summaries])
