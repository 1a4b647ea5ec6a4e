"""Every query of every dashboard finds something in a real Prometheus that scraped real daemons and a control plane."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from deploy.grafana.generate import FOLDER, generated, main, stale
from registry.location import create_registry
from tests.daemons import wait_until
from tests.fleet import MODEL, REFERENCE, TEXTS, Fleet, ask, fleet
from tests.models import register_scaled
from tests.notifications import notice, notification
from tests.prometheus import RULES, Prometheus, prometheus
from tidegate_client import Client, Label
from tidegate_protos import inference_pb2 as pb

VARIABLES = {
    "$model": MODEL,
    "$version": "1",
    "$feature": "a",
    "$window": "1h",
    "$__rate_interval": "30s",
    "$__range": "1h",
}
SECONDS = 90.0


@dataclass(frozen=True)
class Asked:
    """A query of a panel, with the values of the variables put in."""

    panel: str
    expr: str


def queries(dashboard: Mapping[str, Any]) -> list[Asked]:
    """The queries of a dashboard: of its panels, and of its variables for the values to choose from."""
    title = dashboard["title"]
    variables = [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    return [
        *(
            Asked(f"{title}: {panel['title']} {target['refId']}", _filled(target["expr"]))
            for panel in dashboard["panels"]
            for target in panel["targets"]
        ),
        *(Asked(f"{title}: ${variable['name']}", _filled(_values(variable["query"]["query"]))) for variable in variables),
    ]


def _values(query: str) -> str:
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert match, query
    return f"count by ({match[2]}) ({match[1]})"


def _filled(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, f"a variable that this test does not know: {expr}"
    return expr


QUERIES = [asked for path in sorted(FOLDER.glob("*.json")) for asked in queries(json.loads(path.read_text("utf-8")))]


def test_the_dashboards_are_what_their_modules_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_a_dashboard_that_was_edited_by_hand_is_named(tmp_path: Path) -> None:
    files = generated()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert stale(files, tmp_path) == []
    (tmp_path / "drift.json").write_text("{}")
    (tmp_path / "fleet.json").unlink()
    (tmp_path / "other.json").write_text("{}")
    assert stale(files, tmp_path) == ["drift.json", "fleet.json", "other.json"]


def test_every_dashboard_has_panels_which_lie_on_the_grid_and_say_what_they_show() -> None:
    for path in FOLDER.glob("*.json"):
        dashboard = json.loads(path.read_text("utf-8"))
        assert dashboard["uid"] == f"tidegate-{path.stem}"
        assert dashboard["panels"]
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert place["x"] + place["w"] <= 24
            assert not cells & taken
            taken |= cells


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A fleet that had traffic, labels, refusals, alerts and a version that does not load, and a Prometheus that saw it."""
    folder = tmp_path_factory.mktemp("watched")
    _register_broken(folder)
    logs = {"prediction-log": str(folder / "predictions"), "feedback-log": str(folder / "labels")}
    with fleet(folder, daemons=1, logs=logs) as running:
        # First, since quality is judged at the first scrape and not again for a minute.
        _be_labelled(running)
        with prometheus(folder, _scraping(folder, running)) as seen:
            # What happens for the first time makes a series; a rate is seen from the second on.
            for rows in (2000, 3000):
                ask(running.daemons[0])
                _be_refused(running)
                assert running.http.post("/api/v1/alerts", json=notification(notice(MODEL))).status_code == 200
                wait_until(lambda rows=rows: _scraped(seen, rows), "nothing was scraped")  # type: ignore[misc]
            yield seen


@pytest.mark.parametrize("asked", QUERIES, ids=lambda asked: asked.panel)
def test_a_panel_shows_something(watched: Prometheus, asked: Asked) -> None:
    wait_until(lambda: bool(_numbers(watched, asked.expr)), f"empty: {asked.expr}", SECONDS)


def _numbers(seen: Prometheus, expr: str) -> list[float]:
    found = seen.get("query", {"query": expr})["result"]
    values = [float(sample["value"][1]) for sample in found]
    return [value for value in values if not math.isnan(value)]


def _scraped(seen: Prometheus, rows: int) -> bool:
    counted = _numbers(seen, "tidegate_drift_rows_total") == [rows]
    return counted and bool(_numbers(seen, "sum(tidegate_alerts_total) * sum(tidegate_rejected_total)"))


def _register_broken(folder: Path) -> None:
    """A model whose version in production does not load, so that the one before it answers."""
    registry = create_registry(str(folder / "registry"))
    for version, factor in enumerate((2.0, 3.0), 1):
        register_scaled(registry, "broken", factor)
        registry.promote("broken", version, to="production", actor="test", reason="go")
    digest = registry.manifest("broken", 2).file("model.onnx").sha256
    blob = folder / "registry" / "blobs" / "sha256" / digest[:2] / digest
    blob.chmod(0o600)
    blob.write_bytes(b"no model")


def _be_labelled(running: Fleet) -> None:
    """Rows whose labels came, in the logs."""
    tensors = {"numeric": REFERENCE, "categorical": np.array(TEXTS, object).reshape(-1, 1)}
    with Client(running.daemons[0].address) as client:
        answer = client.predict(MODEL, tensors)
        chance = np.random.default_rng(5).random(len(REFERENCE))
        positive = chance < answer["probabilities"][:, 1]
        client.feedback(MODEL, [Label(answer.id, "yes" if true else "no", row) for row, true in enumerate(positive.tolist())])
    wait_until(lambda: _labelled(running) == len(REFERENCE), "the rows are not in the log")


def _labelled(running: Fleet) -> int:
    answer = running.http.get(f"/api/v1/models/{MODEL}/quality", params={"mature": "0s"})
    return int(answer.json()["total"]["labelled"]) if answer.status_code == 200 else 0


def _be_refused(running: Fleet) -> None:
    with pytest.raises(grpc.RpcError):
        running.daemons[0].stub.ModelInfer(pb.ModelInferRequest(model_name=MODEL), timeout=10)


def _scraping(folder: Path, running: Fleet) -> str:
    """Prometheus with the rules that are shipped, all of it twice a second."""
    (folder / "rules").mkdir()
    for path in RULES:
        (folder / "rules" / path.name).write_text(re.sub(r"(?m)^( +interval:) .*$", r"\1 1s", path.read_text("utf-8")))
    *daemons, control = running.metrics
    return f"""
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}
rule_files: [rules/*.yml]
scrape_configs:
  - {{job_name: tidegate-daemon, static_configs: [{{targets: {daemons}}}]}}
  - {{job_name: tidegate-control-plane, static_configs: [{{targets: ["{control}"]}}]}}
"""
