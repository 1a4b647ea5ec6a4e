"""Daemons and a control plane over one registry with one model that has a profile, and traffic for it. No test lives here."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import numpy as np

from clients.demo.programs import running
from registry import bundle, canonical
from registry.drift_limits import DEFAULT_LIMITS, Limits
from registry.location import create_registry
from tests import models
from tests.daemons import Daemon, daemon
from tidegate_client import Client

MODEL = "approval"
REFERENCE = np.random.default_rng(3).normal(size=(1000, 3)).astype(np.float32)
TEXTS = ["red"] * 700 + ["green"] * 300
EVALUATION: canonical.JsonObject = {"rows": 400, "positives": 200, "metrics": {"auc": {"value": 0.8, "low": 0.75, "high": 0.85}}}


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
def fleet(folder: Path, daemons: int, limits: Limits = DEFAULT_LIMITS, logs: Mapping[str, str] = MappingProxyType({})) -> Iterator[Fleet]:
    """So many daemons and a control plane that asks them all, on free ports; what they print goes to `folder`.

    Drift of the model is judged by `limits`; `logs` are the flags of daemons and control plane for predictions and labels.
    """
    registry = create_registry(str(folder / "registry"))
    models.register_classifier(registry, MODEL, 2.0, REFERENCE, TEXTS, limits, {bundle.EVALUATION: canonical.encode(EVALUATION)})
    registry.promote(MODEL, 1, to="production", actor="test", reason="first")
    flags = {"registry": str(folder / "registry"), **logs}
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(daemon(folder / str(place), flags)) for place in range(daemons)]
        for serving in served:
            serving.wait_for(MODEL)
        addresses = ",".join(serving.address for serving in served)
        own = {"http-address": "127.0.0.1:0", "daemon": addresses, "quality-mature": "0s"}
        program = stack.enter_context(running("control_plane", {**flags, **own}, folder / "control.log"))
        url = re.findall(r"http://\S+", program.announcement)[0]
        http = stack.enter_context(httpx.Client(base_url=url, timeout=20, trust_env=False))
        yield Fleet(flags["registry"], served, http)
