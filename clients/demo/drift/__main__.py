"""`python -m clients.demo.drift`: trains on the first quarter of 2013, serves the rest of the year, and shows what drifted when."""

import argparse
import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clients.demo import story
from clients.demo.drift import chart, traffic
from clients.demo.drift.chart import Judged
from clients.demo.drift.months import SERVED, SPEC, months
from clients.demo.narration import Narration
from clients.demo.programs import ProgramError, running
from clients.demo.settings import Places, PortTakenError, check_free, from_environment
from clients.demo.story import StoryError, wait_ready
from registry import bundle, profile
from registry.drift import evaluate
from registry.errors import RegistryError
from registry.location import open_registry
from registry.profile import Profile
from tidegate_client import Client
from tidegate_client.errors import TidegateError
from training import progress as training_progress
from training import spec as spec_file
from training.errors import TrainingError
from training.evaluation import auc
from training.pipeline import TrainedVersion, train

FOLDER = Path(".tidegate/demo-drift")
ROWS_A_MONTH = 6000
FEWEST_ROWS = 100


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
    except (PortTakenError, ProgramError, StoryError, TrainingError, RegistryError, TidegateError) as error:
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
    narration.chapter("Serving April to December, in order, through the daemon")
    with serving(places, version.model) as client:
        judged = list(narration.track(serve(narration, client, version, reference, rows), "months", len(SERVED)))
    narration.table("What each month's rows say of the first quarter's", table(judged), COLUMNS)
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
    flags = {"registry": places.registry.resolve().as_uri(), "grpc-address": places.grpc, "metrics-address": places.metrics}
    with running("server", flags, places.folder / "daemon.log") as daemon, Client(daemon.addresses[0]) as client:
        wait_ready(client, model)
        yield client


def serve(narration: Narration, client: Client, version: TrainedVersion, reference: Profile, rows: int) -> Iterator[Judged]:
    """Send month after month; after each, judge what the daemon counted of it, and the answers by their labels, which came later."""
    before, sent = None, 0
    for month in months(spec_file.load(SPEC), rows):
        scores = np.concatenate(list(traffic.send(client, version.model, version.signature.positive, month.rows)))
        sent += len(month.rows)
        now = traffic.counted(client, version.model, sent)
        drift = evaluate(reference, traffic.since(now, before))
        judged = Judged(month.name, len(month.rows), drift, auc(month.rows.outcome, scores))
        narration.say(f"{month.name}: {len(month.rows)} rows, AUC {judged.auc:.3f}, drifted: {drifted(judged)}")
        before = now
        yield judged


COLUMNS = ("month", "rows", "PSI temp", "KS temp", "PSI hour", "KS hour", "highest PSI", "drifted", "AUC")


def table(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """One row per month, in the order of `COLUMNS`."""
    return [
        (
            month.month,
            str(month.rows),
            *(text for name in ("temp", "hour") for text in (f"{month.of(name).psi:.3f}", f"{month.of(name).ks:.3f}")),
            max((found.psi, f"{found.name} {found.psi:.2f}") for found in month.drift)[1],
            drifted(month),
            f"{month.auc:.3f}",
        )
        for month in judged
    ]


def drifted(month: Judged) -> str:
    """The features beyond the limits, by name."""
    return ", ".join(found.name for found in month.drift if found.drifted) or "none"


if __name__ == "__main__":
    sys.exit(main())
