"""Daemons and a control plane over one registry with one model that has a profile, and traffic for it. No test lives here."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from clients.demo.programs import running
from registry.drift_limits import DEFAULT_LIMITS, Limits
from registry.location import create_registry
from tests import models
from tests.daemons import Daemon, daemon
from tidegate_client import Client

MODEL = "approval"
REFERENCE = np.random.default_rng(3).normal(size=(1000, 3)).astype(np.float32)
TEXTS = ["red"] * 700 + ["green"] * 300


@dataclass(frozen=True)
class Fleet:
    """Running daemons and a control plane; version 1 of the model is in production."""

    registry: str
    daemons: Sequence[Daemon]
    http: httpx.Client

    @property
    def metrics(self) -> list[str]:
        """HOST:PORT of every /metrics: of the daemons, then of the control plane."""
        urls = [serving.metrics_url for serving in self.daemons]
        return [str(httpx.URL(url).netloc, "ascii") for url in (*urls, str(self.http.base_url))]


def ask(serving: Daemon, times: int = 1, shift: float = 0.0) -> None:
    """Ask a daemon about the reference rows so often, the first column moved by `shift`; 1,000 rows each time."""
    moved = REFERENCE + np.array([shift, 0, 0], np.float32)
    tensors = {"numeric": moved, "categorical": np.array(TEXTS, object).reshape(-1, 1)}
    with Client(serving.address) as client:
        for _ in range(times):
            client.predict(MODEL, tensors)


@contextlib.contextmanager
def fleet(folder: Path, daemons: int, limits: Limits = DEFAULT_LIMITS, **more: str) -> Iterator[Fleet]:
    """So many daemons, with `more` flags, and a control plane that asks them all, on free ports; logs go to `folder`.

    Drift of the model is judged by `limits`.
    """
    registry = create_registry(str(folder / "registry"))
    models.register_classifier(registry, MODEL, 2.0, REFERENCE, TEXTS, limits)
    registry.promote(MODEL, 1, to="production", actor="test", reason="first")
    flags = {"registry": str(folder / "registry")}
    more = {name.replace("_", "-"): value for name, value in more.items()}
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(daemon(folder / str(place), {**flags, **more})) for place in range(daemons)]
        for serving in served:
            serving.wait_for(MODEL)
        own = {"http-address": "127.0.0.1:0", "daemon": ",".join(serving.address for serving in served)}
        program = stack.enter_context(running("control_plane", {**flags, **own}, folder / "control.log"))
        url = re.findall(r"http://\S+", program.announcement)[0]
        http = stack.enter_context(httpx.Client(base_url=url, timeout=20, trust_env=False))
        yield Fleet(flags["registry"], served, http)
