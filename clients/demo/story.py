"""The story, chapter by chapter. Each chapter takes values and returns values; how it is told is `narration`'s."""

import json
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import training
from clients.demo.narration import Narration
from clients.demo.settings import Places
from clients.demo.traffic import Background, Reference, Rows, Tally, send_all
from tidegate_client import Client
from training import progress as training_progress
from training.pipeline import TrainedVersion, train

SPEC = Path(training.__file__).parent / "examples" / "mortgage" / "spec.toml"
ACTOR = "demo"
SETTLE_SECONDS = 0.5


class StoryError(Exception):
    """The story did not go as it must: a wrong answer, a failed request. The text says which."""


@dataclass(frozen=True)
class Swap:
    """One change of the production route under load: seconds from the REST call to the first answer of the version that took over."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Endpoint:
    """Where the running programs were really bound."""

    grpc: str
    metrics: str
    http: str


def train_versions(narration: Narration, places: Places) -> Sequence[TrainedVersion]:
    """Chapter one: every candidate of the spec, trained, checked and registered."""
    narration.chapter("Training the candidates of training/examples/mortgage/spec.toml")
    with training_progress.on(sys.stdout) as progress:
        versions = train(SPEC, places.registry.resolve().as_uri(), actor=ACTOR, tracker_dir=places.folder / "comet", progress=progress)
    for version in versions:
        narration.say(f"registered {version.model} version {version.version}: {version.algorithm}, AUC {auc(version)}")
    return versions


def send_every_row(narration: Narration, endpoint: Endpoint, model: str, rows: Rows, reference: Reference) -> Mapping[int, Tally]:
    """Chapter three: all held-out rows, alone and in batches of 64, each answer compared with scikit-learn's; tallies by request size."""
    narration.chapter("Sending the held-out rows by gRPC and comparing every answer with scikit-learn's")
    tallies = {1: Tally(), 64: Tally()}
    with Client(endpoint.grpc) as client:
        for size, tally in tallies.items():
            progress = send_all(client, model, rows, reference, size, tally)
            for _ in narration.track(progress, f"{size} to a request", -(-len(rows) // size)):
                pass
            check(tally)
            narration.say(f"{tally.requests} requests of {size}: {tally.rows} rows, all equal to scikit-learn's; {latency(tally)}")
    return tallies


def swap_under_load(narration: Narration, endpoint: Endpoint, model: str, rows: Rows, reference: Reference) -> tuple[Sequence[Swap], Tally]:
    """Chapter four: promote version 2 and roll back by REST while a client keeps sending."""
    narration.chapter("Promoting version 2 and rolling back, while a client keeps sending")
    swaps: list[Swap] = []
    changes = (
        ("promotion of version 2", 2, "promotions", {"version": 2, "to": "production", "reason": "the demo shows a promotion"}),
        ("rollback to version 1", 1, "rollbacks", {"reason": "the demo shows a rollback"}),
    )
    with Background(endpoint.grpc, model, rows, reference) as background:
        background.first_answer_after(time.perf_counter(), 1)
        for what, version, path, body in changes:
            time.sleep(SETTLE_SECONDS)
            begin = time.perf_counter()
            post(f"{endpoint.http}/api/v1/models/{model}/{path}", body)
            swaps.append(Swap(what, background.first_answer_after(begin, version)))
            narration.say(f"{what}: first answer of version {version} after {swaps[-1].seconds * 1000:.0f} ms")
        time.sleep(SETTLE_SECONDS)
    check(background.tally)
    answers = ", ".join(f"{number} of version {version}" for version, number in sorted(background.tally.versions.items()))
    narration.say(f"{background.tally.requests} requests meanwhile, none failed: {answers}, each equal to its version's reference")
    return swaps, background.tally


def wait_ready(client: Client, model: str, attempts: int = 500) -> None:
    """Return once the model answers.

    Raises:
        StoryError: if it does not within some seconds.
    """
    for _ in range(attempts):
        if client.ready(model):
            return
        time.sleep(0.02)
    raise StoryError(f"{model} did not become ready: see the daemon's log")


def check(tally: Tally) -> None:
    """Stop the story at the first lie.

    Raises:
        StoryError: if a request failed or an answer differs from the reference of the version that gave it.
    """
    if tally.failures:
        raise StoryError(f"{len(tally.failures)} of {tally.requests} requests failed; the first: {tally.failures[0]}")
    if tally.wrong:
        raise StoryError(f"{tally.wrong} of {tally.requests} answers differ from the reference of the version that gave them")


def auc(version: TrainedVersion) -> str:
    """The held-out AUC with its bootstrap interval."""
    metric = version.evaluation.metric("auc")
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"


def latency(tally: Tally) -> str:
    """Median and tail of a tally."""
    return f"p50 {tally.milliseconds(50):.2f} ms, p99 {tally.milliseconds(99):.2f} ms"


def post(url: str, body: Mapping[str, object]) -> None:
    """POST JSON, as any REST client would.

    Raises:
        StoryError: if the control plane refuses.
    """
    headers = {"Content-Type": "application/json", "X-Tidegate-Actor": ACTOR}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 -- our own control plane on loopback
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 -- the same
            pass
    except OSError as error:
        raise StoryError(f"POST {url}: {error}") from error
