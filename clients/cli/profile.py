"""`tidegate profile`: the drift profile of a model that is there already, from data of any size. The arithmetic is `training`'s."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clients.cli import output
from clients.cli.errors import InputError
from clients.cli.options import AsJson
from registry import bundle

if TYPE_CHECKING:
    from registry.profile import Profile


def profile(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With model.onnx and signature.json.", show_default=False)],
    spec: Annotated[Path, typer.Option("--spec", metavar="SPEC.toml", help="Columns, times and [drift] limits.", show_default=False)],
    data: Annotated[Path | None, typer.Option("--data", metavar="FILE", help="Parquet or CSV, instead of the spec's.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where it goes [default: profile.json in FOLDER]")] = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Bin the reference rows of a model, and what it predicts for them, in one pass and bounded memory.

    Training makes a profile itself, of the rows it trained on; this is for a reference that memory does not hold. Register the folder then.

    \b
    Example:
      tidegate profile ./export --spec spec.toml --data all-of-2025.parquet
    """
    found, target = _made(folder, spec, data), out or folder / bundle.PROFILE
    try:
        target.write_bytes(found.encode())
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    facts: dict[str, str | int] = {"file": str(target), "rows": found.rows, "features": len(found.features)}
    if as_json:
        output.write_json({**facts})
    else:
        output.write_facts({**facts})


def _made(folder: Path, spec: Path, data: Path | None) -> "Profile":
    # Imported here: pandas and ONNX Runtime take seconds, which `profile --help` and a misspelt flag need not wait for.
    from training import dataset, drift_profile, onnx_export, progress  # noqa: PLC0415
    from training import spec as spec_file  # noqa: PLC0415
    from training.errors import TrainingError  # noqa: PLC0415

    try:
        raw, signature = (folder / bundle.MODEL).read_bytes(), bundle.parse_signature((folder / bundle.SIGNATURE).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}; name the folder that model.onnx is in") from error
    try:
        loaded = spec_file.load(spec)
        model = onnx_export.load(raw, signature)
        with progress.on(sys.stderr) as report:
            chunks = dataset.chunks(loaded, data or spec.parent / loaded.data.path, lambda done, total: report("profile", done, total))
            return drift_profile.of_chunks(loaded, model, signature, chunks)
    except TrainingError as error:
        raise InputError(str(error)) from error
