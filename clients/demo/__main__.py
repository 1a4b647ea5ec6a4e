"""`python -m clients.demo`: wires the story together, ends what it started, and prints the table at the end."""

import argparse
import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence

from clients.demo import story
from clients.demo.narration import Narration
from clients.demo.programs import Program, ProgramError, start
from clients.demo.settings import Places, PortTakenError, check_free, from_environment
from clients.demo.story import Endpoint, StoryError, Swap
from clients.demo.traffic import Reference, Rows, Tally
from registry.errors import RegistryError
from registry.location import open_registry
from tidegate_client import Client, Drift
from training.errors import TrainingError
from training.pipeline import TrainedVersion


def main(argv: Sequence[str] | None = None) -> int:
    """Tell the story; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description="Train, promote, serve, swap and roll back on real data.")
    parser.add_argument("--keep", action="store_true", help="leave the daemon and the control plane running (make demo KEEP=1)")
    keep = parser.parse_args(argv).keep
    places = from_environment()
    try:
        with contextlib.ExitStack() as programs:
            narration = Narration()
            running = tell(narration, places, programs)
            pids = " ".join(str(program.process.pid) for program in running)
            if keep:
                programs.pop_all()
                narration.say(f"still running; end them with: kill {pids}")
            else:
                narration.say(f"ran as processes {pids} and ends them now; make demo KEEP=1 leaves them running")
    except (PortTakenError, ProgramError, StoryError, TrainingError, RegistryError, TimeoutError) as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def tell(narration: Narration, places: Places, programs: contextlib.ExitStack) -> Sequence[Program]:
    """The whole story; returns the programs that run, which `programs` ends."""
    check_free({"HTTP": places.http, "GRPC": places.grpc, "METRICS": places.metrics})
    if places.folder.exists():
        shutil.rmtree(places.folder)
    versions = story.train_versions(narration, places)
    model = versions[0].model
    rows, reference = held_out(versions)
    running, endpoint = start_programs(narration, places, model, programs)
    tallies = story.send_every_row(narration, endpoint, model, rows, reference)
    with Client(endpoint.grpc) as client:
        drift = client.drift(model)
    swaps, meanwhile = story.swap_under_load(narration, endpoint, model, rows, reference)
    narration.table("What happened", table(places, endpoint, versions, tallies, meanwhile, swaps, drift))
    return running


def held_out(versions: Sequence[TrainedVersion]) -> tuple[Rows, Reference]:
    """The rows that no candidate was trained on, and what scikit-learn says of them, by version."""
    holdout = versions[0].holdout
    return Rows(holdout.numeric, holdout.categorical), Reference({version.version: version.reference(holdout)[1] for version in versions})


def start_programs(narration: Narration, places: Places, model: str, programs: contextlib.ExitStack) -> tuple[Sequence[Program], Endpoint]:
    """Chapter two: version 1 goes to production, then the daemon and the control plane start."""
    narration.chapter("Promoting version 1, starting the daemon and the control plane")
    open_registry(str(places.registry)).promote(model, 1, to="production", actor=story.ACTOR, reason="the first version")
    registry = ["--registry", places.registry.resolve().as_uri()]
    daemon = start("server", [*registry, "--grpc-address", places.grpc, "--metrics-address", places.metrics], places.folder / "daemon.log")
    programs.callback(daemon.stop)
    grpc_address, metrics_address = daemon.addresses
    control = start(
        "control_plane", [*registry, "--http-address", places.http, "--daemon", grpc_address], places.folder / "control_plane.log"
    )
    programs.callback(control.stop)
    for program in (daemon, control):
        narration.say(program.announcement)
    with Client(grpc_address) as client:
        story.wait_ready(client, model)
    return (daemon, control), Endpoint(grpc_address, metrics_address, f"http://{control.addresses[0]}")


def table(
    places: Places,
    endpoint: Endpoint,
    versions: Sequence[TrainedVersion],
    tallies: Mapping[int, Tally],
    meanwhile: Tally,
    swaps: Sequence[Swap],
    drift: Drift,
) -> list[tuple[str, str]]:
    """What the story came to, line by line."""
    requests = sum(tally.requests for tally in (*tallies.values(), meanwhile))
    rows = sum(tally.rows for tally in (*tallies.values(), meanwhile))
    worst = max(drift.features, key=lambda feature: feature.psi)
    model = versions[0].model
    return [
        *((f"version {version.version}", f"{version.algorithm}, AUC {story.auc(version)}") for version in versions),
        *((f"approved by version {version.version}", approval_rates(version)) for version in versions),
        ("requests", f"{requests} with {rows} rows; 0 failed, 0 differ from scikit-learn"),
        *((f"latency, {size} to a request", story.latency(tally)) for size, tally in tallies.items()),
        *((swap.what, f"first answer after {swap.seconds * 1000:.0f} ms") for swap in swaps),
        ("drift", f"{drift.rows} rows; highest PSI {worst.psi:.3f} ({worst.name}); drifted: {drifted(drift)}"),
        ("control plane", f"{endpoint.http}/"),
        ("model card", f"{endpoint.http}/api/v1/models/{model}/versions/1/model-card?format=html"),
        ("metrics", f"http://{endpoint.metrics}/metrics"),
        ("files", f"{places.folder}: registry, logs, Comet archives"),
    ]


def approval_rates(version: TrainedVersion) -> str:
    """How many of each group the version would approve."""
    return ", ".join(f"afam {group.group}: {group.rate:.2f}" for group in version.evaluation.groups)


def drifted(drift: Drift) -> str:
    """The names of the features beyond the limits."""
    return ", ".join(feature.name for feature in drift.features if feature.drifted) or "none"


if __name__ == "__main__":
    sys.exit(main())
