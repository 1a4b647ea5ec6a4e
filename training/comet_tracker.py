"""Experiment tracking by Comet: an archive in a folder, which `comet upload` sends later, or live if the user gives COMET_API_KEY.

The only importer of comet_ml.
"""

import logging
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from training.errors import TrackingError
from training.imports import quietly
from training.tracking import Tracker

# All that Comet would record or watch unasked: source, environment, host, git, output, arguments, and what other libraries do.
_NOTHING_UNASKED = dict.fromkeys(
    (
        "auto_histogram_activation_logging",
        "auto_histogram_gradient_logging",
        "auto_histogram_tensorboard_logging",
        "auto_histogram_weight_logging",
        "auto_log_co2",
        "auto_metric_logging",
        "auto_output_logging",
        "auto_param_logging",
        "log_code",
        "log_env_cpu",
        "log_env_details",
        "log_env_disk",
        "log_env_gpu",
        "log_env_host",
        "log_env_network",
        "log_git_metadata",
        "log_git_patch",
        "log_graph",
        "parse_args",
    ),
    False,
)


class CometTracker:
    """The `Tracker` of one Comet experiment."""

    def __init__(self, experiment: Any) -> None:
        self._experiment = experiment

    def params(self, values: Mapping[str, float | int | str]) -> None:
        """See `Tracker.params`."""
        self._experiment.log_parameters(dict(values))

    def metrics(self, values: Mapping[str, float]) -> None:
        """See `Tracker.metrics`."""
        self._experiment.log_metrics(dict(values))

    def file(self, name: str, content: bytes) -> None:
        """See `Tracker.file`."""
        self._experiment.log_asset(BytesIO(content), file_name=name)

    def end(self) -> str:
        """See `Tracker.end`."""
        self._experiment.end()
        return str(self._experiment.get_key())


def open_tracker(project: str, folder: Path) -> Tracker:
    """A new experiment: in `folder`, created if absent, or online if the environment has COMET_API_KEY.

    Raises:
        TrackingError: if the folder cannot be written or Comet refuses.
    """
    comet = _comet()
    try:
        if key := os.environ.get("COMET_API_KEY"):
            return CometTracker(comet.Experiment(api_key=key, project_name=project, display_summary_level=0, **_NOTHING_UNASKED))
        folder.mkdir(parents=True, exist_ok=True)
        return CometTracker(
            comet.OfflineExperiment(project_name=project, offline_directory=str(folder), display_summary_level=0, **_NOTHING_UNASKED)
        )
    except OSError as error:
        raise TrackingError(f"cannot write the experiment to {folder}: {error.strerror}") from error
    except Exception as error:  # its errors share no base class
        raise TrackingError(f"Comet refused the experiment: {' '.join(str(error).split())[:200]}") from error


def _comet() -> Any:
    # Before the import: it would report to its vendor's error tracker, and patch every library it knows.
    os.environ.setdefault("COMET_ERROR_TRACKING_ENABLE", "false")
    os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")
    with quietly():
        import comet_ml  # noqa: PLC0415 - takes seconds, and only a training run needs it
    logging.getLogger("comet_ml").setLevel(logging.CRITICAL)
    return comet_ml
