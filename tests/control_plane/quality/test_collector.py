"""Quality in the metrics: of what answers production traffic, found in the background, and only what is defined."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.samples import Sample

from control_plane.quality.collector import QualityCollector
from control_plane.quality.desk import QualityDesk
from control_plane.registry_pool import RegistryPool
from registry.location import create_registry
from registry.registry import Registry
from registry.route import Target
from tests import models
from tests.control_plane.quality.conftest import MODEL, Writer
from tests.daemons import wait_until

REFERENCE = np.random.default_rng(3).normal(size=(100, 3)).astype(np.float32)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
AUC, ESTIMATE, COVERAGE, LABELLED = (f"tidegate_quality_{name}" for name in ("auc", "auc_estimate", "coverage", "labelled_rows"))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Three versions, the first in production."""
    made = create_registry(str(tmp_path / "registry"))
    for weight in (1.0, 2.0, 3.0):
        models.register_classifier(made, MODEL, weight, REFERENCE, ["x"] * 100)
    made.promote(MODEL, 1, to="production", actor="test", reason="first")
    return made


@pytest.fixture
def collector(registry: Registry, tmp_path: Path, writer: Writer) -> QualityCollector:
    del registry
    desk = QualityDesk(writer.logs.predictions, writer.logs.feedback)
    return QualityCollector(desk, RegistryPool(str(tmp_path / "registry")), timedelta(0))


def samples(collector: QualityCollector) -> list[Sample]:
    return [sample for family in collector.collect() for sample in family.samples]


def found(collector: QualityCollector) -> dict[tuple[str, str, str], float]:
    """What is told once the first judgement is done."""
    samples(collector)
    wait_until(lambda: bool(samples(collector)), "nothing judged")
    return {(sample.labels["model"], sample.labels["version"], sample.name): sample.value for sample in samples(collector)}


def predict(writer: Writer, version: int) -> None:
    writer.predict(f"v{version}", [0.2, 0.6, 0.4, 0.9], at=YESTERDAY, version=version, arm="canary" if version > 1 else "stable")


def label(writer: Writer, version: int) -> None:
    writer.labels([(f"v{version}", row, outcome) for row, outcome in enumerate(["no", "no", "yes"])], received=YESTERDAY)


def test_versions_that_answer_production_are_told_and_others_not(collector: QualityCollector, registry: Registry, writer: Writer) -> None:
    registry.route(MODEL, Target(1, {1: 90, 2: 10}), actor="test", reason="try")
    for version in (1, 2, 3):
        predict(writer, version)
        label(writer, version)
    told = found(collector)
    assert {version for _, version, _ in told} == {"1", "2"}
    for told_of in ("1", "2"):
        assert told[MODEL, told_of, AUC] == 0.5
        assert told[MODEL, told_of, COVERAGE] == 0.75
        assert told[MODEL, told_of, LABELLED] == 3


def test_without_labels_only_the_estimate_is_told(collector: QualityCollector, writer: Writer) -> None:
    predict(writer, 1)
    told = found(collector)
    assert (MODEL, "1", AUC) not in told
    assert 0.5 < told[MODEL, "1", ESTIMATE] < 1
    assert (told[MODEL, "1", COVERAGE], told[MODEL, "1", LABELLED]) == (0, 0)


def test_a_model_that_cannot_be_judged_does_not_hide_the_others(collector: QualityCollector, registry: Registry, writer: Writer) -> None:
    models.register_scaled(registry, "a-regression", 2.0)
    registry.promote("a-regression", 1, to="production", actor="test", reason="first")
    predict(writer, 1)
    assert {model for model, _, _ in found(collector)} == {MODEL}


def test_the_first_scrape_tells_nothing_and_does_not_wait(collector: QualityCollector, writer: Writer) -> None:
    predict(writer, 1)
    assert samples(collector) == []


def test_what_was_judged_is_told_again_until_it_is_due(collector: QualityCollector, writer: Writer) -> None:
    predict(writer, 1)
    assert found(collector)[MODEL, "1", LABELLED] == 0
    label(writer, 1)
    assert found(collector)[MODEL, "1", LABELLED] == 0


def test_without_logs_nothing_is_ever_judged(registry: Registry, tmp_path: Path) -> None:
    del registry
    pool = RegistryPool(str(tmp_path / "registry"))
    idle = QualityCollector(QualityDesk(None, None), pool, timedelta(0))
    assert samples(idle) == samples(idle) == []
    assert [family.name for family in idle.describe()] == [family.name for family in idle.collect()]
