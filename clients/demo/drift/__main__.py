"""`python -m clients.demo.drift`: trains on the first quarter of 2013, serves the rest of the year, and shows what drifted when."""

import argparse
import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clients.demo import story
from clients.demo.drift import chart, traffic
from clients.demo.drift.chart import Judged
from clients.demo.drift.months import SERVED, SPEC, months
from clients.demo.narration import Narration
from clients.demo.programs import ProgramError, running
from clients.demo.settings import Places, PortTakenError, check_free, from_environment
from clients.demo.story import StoryError, wait_ready
from control_plane.errors import ControlPlaneError
from control_plane.quality.assess import assess
from control_plane.quality.join import Logs
from control_plane.quality.span import Span
from registry import bundle, profile
from registry.drift import FeatureDrift, evaluate
from registry.errors import RegistryError
from registry.location import open_registry
from registry.profile import Profile
from tidegate_client import Client, Label
from tidegate_client.errors import TidegateError
from training import progress as training_progress
from training import spec as spec_file
from training.errors import TrainingError
from training.pipeline import TrainedVersion, train

FOLDER = Path(".tidegate/demo-drift")
ROWS_A_MONTH = 6000
FEWEST_ROWS = 100
PREDICTIONS, FEEDBACK = "predictions", "feedback"


@dataclass(frozen=True)
class Served:
    """A month that was served, from `start` to `end` in UTC, and what its counts say; its labels are not all there yet."""

    name: str
    rows: int
    drift: tuple[FeatureDrift, ...]
    start: datetime
    end: datetime


def main(argv: Sequence[str] | None = None) -> int:
    """Tell the story; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make demo-drift", description="Serve nine months of flights to a model of one winter.")
    parser.add_argument("--rows", type=int, default=ROWS_A_MONTH, metavar="N", help="at most so many rows of each month")
    parser.add_argument("--trials", type=int, metavar="N", help="of the search, instead of the spec's")
    options = parser.parse_args(argv)
    if options.rows < FEWEST_ROWS:
        parser.error(f"--rows {options.rows}: with fewer than {FEWEST_ROWS} a month says nothing")
    places = dataclasses.replace(from_environment(), folder=FOLDER)
    try:
        tell(Narration(), places, options.rows, options.trials)
    except (PortTakenError, ProgramError, StoryError, TrainingError, RegistryError, TidegateError, ControlPlaneError) as error:
        print(f"make demo-drift: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def tell(narration: Narration, places: Places, rows: int, trials: int | None) -> None:
    """The whole story."""
    check_free({"GRPC": places.grpc, "METRICS": places.metrics})
    if places.folder.exists():
        shutil.rmtree(places.folder)
    version = train_winter(narration, places, trials)
    reference = promote(places, version)
    narration.chapter("Serving April to December, in order, through the daemon; the labels of a month come while the next is served")
    with serving(places, version.model) as client:
        served = list(narration.track(serve(narration, client, version, reference, rows), "months", len(SERVED)))
    # The daemon has ended: what it logged is all in files.
    judged = [judge(places, version, month) for month in served]
    narration.table("What each month's rows say of the first quarter's, and what its answers were worth", table(judged), COLUMNS)
    drawing = places.folder / "drift-flights.svg"
    held_out = version.evaluation.metric("auc").value
    drawing.write_text(chart.draw(judged, reference.limits, held_out), encoding="utf-8")
    narration.say(f"chart: {drawing}")


def train_winter(narration: Narration, places: Places, trials: int | None) -> TrainedVersion:
    """Chapter one: the model of January to March."""
    narration.chapter("Training on January to March 2013: training/examples/flights/spec.toml")
    with training_progress.on(sys.stdout) as report:
        (version,) = train(
            SPEC, places.registry.resolve().as_uri(), trials=trials, actor=story.ACTOR, tracker_dir=places.folder / "comet", progress=report
        )
    narration.say(f"registered {version.model} version {version.version}: {version.algorithm}, AUC {story.auc(version)}")
    return version


def promote(places: Places, version: TrainedVersion) -> Profile:
    """Put the version into production; returns its profile, which the daemon will count by."""
    registry = open_registry(str(places.registry))
    registry.promote(version.model, version.version, to="production", actor=story.ACTOR, reason="the model of the first quarter")
    return profile.parse(registry.read(version.model, version.version, bundle.PROFILE))


@contextlib.contextmanager
def serving(places: Places, model: str) -> Iterator[Client]:
    """The daemon, from when it answers to the end of the block."""
    flags = {
        "registry": places.registry.resolve().as_uri(),
        "grpc-address": places.grpc,
        "metrics-address": places.metrics,
        "prediction-log": str(places.folder / PREDICTIONS),
        "feedback-log": str(places.folder / FEEDBACK),
    }
    with running("server", flags, places.folder / "daemon.log") as daemon, Client(daemon.addresses[0]) as client:
        wait_ready(client, model)
        yield client


def serve(narration: Narration, client: Client, version: TrainedVersion, reference: Profile, rows: int) -> Iterator[Served]:
    """Send month after month; after each, judge what the daemon counted of it, and tell it what became of the month before."""
    before, sent, late = None, 0, tuple[Label, ...]()
    for month in months(spec_file.load(SPEC), rows):
        start = datetime.now(UTC)
        ids = list(traffic.send(client, version.model, month.rows))
        sent += len(month.rows)
        now = traffic.counted(client, version.model, sent)
        served = Served(month.name, len(month.rows), evaluate(reference, traffic.since(now, before)), start, datetime.now(UTC))
        narration.say(f"{month.name}: {len(month.rows)} rows, drifted: {drifted(served.drift)}")
        traffic.tell(client, version.model, late)
        before, late = now, tuple(traffic.labels(ids, month.outcome))
        yield served
    traffic.tell(client, version.model, late)


def judge(places: Places, version: TrainedVersion, month: Served) -> Judged:
    """The AUC of a month's answers from both logs, by prediction id.

    Raises:
        StoryError: if a row is not found with its label.
    """
    logs = Logs(places.folder / PREDICTIONS, places.folder / FEEDBACK)
    asked = Span(month.start, month.end, mature_before=month.end)
    found = assess(open_registry(str(places.registry)), logs, version.model, str(version.version), asked).report.total
    if found.judged != month.rows:
        raise StoryError(f"{month.rows} rows of {month.name} were served, and {found.judged} found with their labels")
    return Judged(month.name, month.rows, month.drift, found.auc)


COLUMNS = ("month", "rows", "PSI KS temp", "PSI KS hour", "highest PSI", "drifted", "AUC")


def table(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """One row per month, in the order of `COLUMNS`."""
    return [
        (
            month.month,
            str(month.rows),
            *(f"{month.of(name).psi:.3f} {month.of(name).ks:.3f}" for name in ("temp", "hour")),
            max((found.psi, f"{found.name} {found.psi:.2f}") for found in month.drift)[1],
            drifted(month.drift),
            f"{month.auc.value:.3f} [{month.auc.low:.3f}, {month.auc.high:.3f}]",
        )
        for month in judged
    ]


def drifted(drift: Sequence[FeatureDrift]) -> str:
    """The features beyond the limits, by name."""
    return ", ".join(found.name for found in drift if found.drifted) or "none"


if __name__ == "__main__":
    sys.exit(main())
