"""Predictions and their late labels through daemon, logs and control plane: the quality told is that of the same rows in scikit-learn."""

import datetime as dt
import json
import random
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from clients.cli.main import main
from clients.demo.programs import running
from control_plane.quality.join import LabelCounts, Logs, count_labels
from control_plane.quality.measures import Outcomes, Scores
from registry.location import create_registry
from tests import models
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value
from tidegate_client import Client, ConflictError, InputError, Label

SEED = 17
ROWS = 600
REFERENCE = np.random.default_rng(3).normal(size=(500, 3)).astype(np.float32)
MODEL = "approval"


@dataclass(frozen=True)
class Both:
    """A daemon that keeps both logs, a control plane that reads them, and their folders."""

    serving: Daemon
    url: str
    folder: Path

    def get(self, path: str) -> Any:
        return self._send(urllib.request.Request(self.url + path))  # noqa: S310 -- a loopback URL of ours

    def page(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as response:  # noqa: S310 -- the same
            return str(response.read(), "utf-8")

    def post(self, path: str, body: object) -> Any:
        headers = {"Content-Type": "application/json"}
        return self._send(urllib.request.Request(self.url + path, json.dumps(body).encode(), headers))  # noqa: S310 -- the same

    def _send(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 -- the same
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("feedback")
    registry = create_registry(str(folder / "registry"))
    models.register_classifier(registry, MODEL, 1.0, REFERENCE, ["x", "y"] * 250)
    registry.promote(MODEL, 1, to="production", actor="test", reason="first")
    common = {"registry": str(folder / "registry")}
    logs = {"prediction-log": str(folder / "predictions"), "feedback-log": str(folder / "labels")}
    with daemon(folder, {**common, **logs, "prediction-log-seconds": "0.1"}) as serving:
        serving.wait_for(MODEL)
        flags = {**common, **logs, "daemon": serving.address, "http-address": "127.0.0.1:0", "quality-mature": "0s"}
        with running("control_plane", flags, folder / "control.log") as program:
            match = re.search(r"http://\S+", program.announcement)
            assert match
            yield Both(serving, match[0], folder)


@dataclass(frozen=True)
class Truth:
    """What was predicted and what became true: `known` says of which rows a label was sent."""

    ids: list[tuple[str, int]]
    scores: Scores
    positive: Outcomes
    known: Outcomes

    @property
    def judged(self) -> tuple[Scores, Outcomes]:
        return self.scores[self.known], self.positive[self.known]


@pytest.fixture(scope="module")
def truth(both: Both) -> Truth:
    """Rows predicted in requests of three, and labels of two thirds of them: out of order, twice, corrected, and of unknown predictions."""
    chance, shuffled = np.random.default_rng(SEED), random.Random(SEED)  # noqa: S311 -- no secret
    rows = chance.normal(size=(ROWS, 3)).astype(np.float32)
    now = dt.datetime.now(dt.UTC)
    with Client(both.serving.address) as client:
        answers = [client.predict(MODEL, {"numeric": rows[start : start + 3], "categorical": [["x"]] * 3}) for start in range(0, ROWS, 3)]
        ids = [(answer.id, row) for answer in answers for row in range(3)]
        scores = np.concatenate([answer["probabilities"][:, 1] for answer in answers]).astype(np.float64)
        positive, known = chance.random(ROWS) < scores, chance.random(ROWS) < 2 / 3
        labels = []
        for place in np.flatnonzero(known):
            name, row = ids[place]
            right, wrong = ("yes", "no") if positive[place] else ("no", "yes")
            labels.append(Label(name, right, row, now))
            if place % 5 == 0:  # corrected later, though the correction may arrive first
                labels.append(Label(name, wrong, row, now - dt.timedelta(hours=1)))
            if place % 7 == 0:
                labels.append(Label(name, right, row, now))
        labels += [Label(f"nobody {number}", "yes") for number in range(10)]
        shuffled.shuffle(labels)
        for start in range(0, len(labels), 100):
            receipt = client.feedback(MODEL, labels[start : start + 100])
            assert receipt.recorded + receipt.duplicate == len(labels[start : start + 100])
    wait_until(lambda: both.get(f"/api/v1/models/{MODEL}/quality?mature=0s")["total"]["rows"] == ROWS, "not logged")
    return Truth(ids, scores, positive, known)


def test_quality_is_scikit_learns_on_the_rows_that_have_labels(both: Both, truth: Truth) -> None:
    found = both.get(f"/api/v1/models/{MODEL}/quality?mature=0s")
    scores, positive = truth.judged
    total = found["total"]
    assert (found["version"], found["positive"]) == (1, "yes")
    assert (total["rows"], total["labelled"], total["judged"], total["positives"]) == (ROWS, len(scores), len(scores), int(positive.sum()))
    assert total["coverage"] == pytest.approx(len(scores) / ROWS)
    assert total["auc"]["value"] == pytest.approx(roc_auc_score(positive, scores))
    assert total["log_loss"]["value"] == pytest.approx(log_loss(positive, scores))
    assert total["brier"]["value"] == pytest.approx(brier_score_loss(positive, scores))
    assert total["accuracy"]["value"] == pytest.approx(accuracy_score(positive, scores > 0.5))
    assert all(total[name]["low"] < total[name]["value"] < total[name]["high"] for name in ("auc", "log_loss", "brier", "accuracy"))
    assert sum(one["rows"] for one in found["bins"]) == len(scores)
    assert found["labels"]["unknown"] == 10
    assert found["labels"]["replaced"] == sum(place % 5 == 0 for place in np.flatnonzero(truth.known))
    assert total["estimate"]["estimate"] is True
    assert total["estimate"]["auc"] == pytest.approx(roc_auc_score(truth.positive, truth.scores), abs=0.06)


def test_the_page_of_the_model_shows_the_same_quality_in_pictures_and_in_words(both: Both, truth: Truth) -> None:
    found = both.get(f"/api/v1/models/{MODEL}/quality?mature=0s")
    text = both.page(f"/models/{MODEL}")
    quality = text[text.index('<h2 id="quality">') : text.index('<h2 id="alerts">')]
    total = found["total"]
    words = "{value:.3f} [{low:.3f}, {high:.3f}]".format_map(total["auc"])
    assert f"{total['labelled']} labels for {len(truth.ids)} rows" in quality
    assert f"AUC {words}; without labels it is estimated as {total['estimate']['auc']:.3f}" in quality
    by_day, bins = (ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", quality, re.DOTALL))  # noqa: S314 -- our own
    for drawing, points in ((by_day, len(found["cohorts"])), (bins, len(found["bins"]))):
        assert len(drawing.findall("g")) == points
        assert [element.attrib["id"] for element in drawing[:2]] == drawing.attrib["aria-labelledby"].split()
        assert drawing.attrib["role"] == "img"
    assert f"The last is {found['cohorts'][-1]['day']}: {words}" in quality
    assert f"The mean miss is {found['calibration_error']:.3f}." in quality
    assert "<script" not in text
    assert "There is no quality to show: model &#39;approval&#39; has no version in staging" in both.page(
        f"/models/{MODEL}?version=staging"
    )


def test_rows_that_are_too_young_are_not_judged(both: Both, truth: Truth) -> None:
    found = both.get(f"/api/v1/models/{MODEL}/quality")
    assert (found["total"]["rows"], found["total"]["immature"]) == (0, len(truth.ids))
    assert found["total"]["auc"]["value"] is None
    assert found["total"]["estimate"]["rows"] == len(truth.ids)


def test_labels_by_rest_reach_the_daemons_log(both: Both, truth: Truth) -> None:
    (name, row), before = truth.ids[0], both.get(f"/api/v1/models/{MODEL}/quality")["labels"]["lines"]
    body = {
        "model": MODEL,
        "labels": [
            {"prediction_id": name, "row": row, "label": "maybe"},
            {"prediction_id": "elsewhere", "label": "yes", "observed": "2026-03-01T12:00:00+02:00"},
            {"prediction_id": name, "row": row, "label": 1},
        ],
    }
    answer = both.post("/api/v1/feedback", body)
    assert (answer["recorded"], answer["duplicate"], answer["refused"]) == (1, 0, 2)
    assert [refusal["index"] for refusal in answer["refusals"]] == [0, 2]
    assert both.get(f"/api/v1/models/{MODEL}/quality")["labels"]["lines"] == before + 1
    assert both.post("/api/v1/feedback", {**body, "model": "nobody"})["reason"] == "MODEL_UNKNOWN"
    assert both.post("/api/v1/feedback", {"model": MODEL, "labels": []})["reason"] == "INPUT_MISMATCH"
    for wrong in ({"label": True}, {"label": "yes", "row": -1}, {"label": "yes", "observed": "2026-03-01T12:00:00"}, {"label": None}):
        refused = both.post("/api/v1/feedback", {"model": MODEL, "labels": [{"prediction_id": "a", **wrong}]})
        assert refused["status"] == 422, refused


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("version=9", 404),
        ("version=staging", 404),
        ("version=latest", 422),
        ("from=yesterday", 422),
        ("until=1-2-3", 422),
        ("until=0001-01-02", 422),
        ("mature=1w", 422),
        ("mature=999999d", 422),
        ("from=2026-03-02&until=2026-03-01", 422),
    ],
)
def test_wrong_questions_are_refused(both: Both, query: str, status: int) -> None:
    assert both.get(f"/api/v1/models/{MODEL}/quality?{query}")["status"] == status
    assert both.get("/api/v1/models/nobody/quality")["status"] == 404


def test_quality_of_production_is_scraped_and_the_scrape_does_not_wait_for_it(both: Both, truth: Truth) -> None:
    def scraped() -> bool:
        return any(sample.name == "tidegate_quality_auc" for sample in scrape(f"{both.url}/metrics"))

    wait_until(scraped, "no quality in the metrics")
    samples = scrape(f"{both.url}/metrics")
    scores, positive = truth.judged
    of = {"model": MODEL, "version": "1"}
    labelled = value(samples, "tidegate_quality_labelled_rows", **of)
    if labelled == len(scores):  # else judged before the labels came: a later scrape tells
        assert value(samples, "tidegate_quality_auc", **of) == pytest.approx(roc_auc_score(positive, scores))
    assert 0 <= value(samples, "tidegate_quality_coverage", **of) <= 1


def test_labels_are_counted_by_what_became_of_them(both: Both, truth: Truth) -> None:
    del truth
    before = scrape(both.serving.metrics_url)
    with Client(both.serving.address) as client:
        label = Label("once", "yes", observed=1.0)
        client.feedback(MODEL, [label, label, Label("once", "maybe")])
        with pytest.raises(InputError, match="10001 labels in one call"):
            client.feedback(MODEL, [label] * 10_001)
    after = scrape(both.serving.metrics_url)
    for result, number in (("recorded", 1), ("duplicate", 1), ("refused", 1 + 10_001), ("failed", 0)):
        of = {"model": MODEL, "result": result}
        assert value(after, "tidegate_feedback_total", **of) - value(before, "tidegate_feedback_total", **of) == number


def test_the_command_tells_the_same_quality_from_the_logs_as_from_the_control_plane(
    both: Both, truth: Truth, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: object) -> Any:
        assert main(["quality", MODEL, "--mature", "0s", "--json", *map(str, arguments)]) == 0
        return json.loads(capsys.readouterr().out)

    folders = ("--predictions", both.folder / "predictions", "--feedback", both.folder / "labels", "--registry", both.folder / "registry")
    read = told(*folders)
    assert read["total"] == told("--control", both.url)["total"]
    assert read["total"]["judged"] == int(truth.known.sum())


def test_without_logs_the_flags_that_are_missing_are_named(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_classifier(registry, MODEL, 1.0, REFERENCE, ["x", "y"] * 250)
    registry.promote(MODEL, 1, to="production", actor="test", reason="first")
    flags = {"registry": str(tmp_path / "registry")}
    with daemon(tmp_path, flags) as serving, Client(serving.address) as client:
        serving.wait_for(MODEL)
        with pytest.raises(ConflictError, match="--feedback-log DIR"):
            client.feedback(MODEL, [Label("a", "yes")])
        with running("control_plane", {**flags, "http-address": "127.0.0.1:0"}, tmp_path / "control.log") as program:
            match = re.search(r"http://\S+", program.announcement)
            assert match
            refused = Both(serving, match[0], tmp_path).get(f"/api/v1/models/{MODEL}/quality")
            assert (refused["status"], refused["type"]) == (409, "urn:tidegate:problem:logs-off")
            assert "--prediction-log DIR" in refused["detail"]


def test_labels_that_were_acknowledged_outlive_a_daemon_that_is_killed(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    (tmp_path / "predictions").mkdir()
    with daemon(tmp_path, {"registry": str(tmp_path / "registry"), "feedback-log": str(tmp_path / "labels")}) as serving:
        serving.wait_for("scaled")
        with Client(serving.address) as client:
            for number in range(5):
                assert client.feedback("scaled", [Label(f"{number}", 0.5), Label(f"{number}", "yes", 1)]).recorded == 1
        serving.program.process.kill()
    assert count_labels(Logs(tmp_path / "predictions", tmp_path / "labels"), "scaled") == LabelCounts(lines=5, unknown=5)
