"""Training registers one whole version per candidate, which answers as scikit-learn does, or nothing."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry import bundle, canonical, profile
from registry.errors import NotARegistryError
from registry.location import open_registry
from tests.training.conftest import EXAMPLE, Run, only_the_first_candidate, without_tables
from training import pipeline
from training.dataset import Rows
from training.errors import TrackingError, TrainingError
from training.onnx_export import OnnxModel


def _json(run: Run, version: int, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(run.registry.read("mortgage-denial", version, name))
    return value


def test_one_version_per_candidate_in_the_order_of_the_spec(run: Run) -> None:
    assert [(trained.model, trained.version, trained.algorithm) for trained in run.versions] == [
        ("mortgage-denial", 1, "logistic-regression"),
        ("mortgage-denial", 2, "gradient-boosting"),
    ]
    assert list(run.registry.state("mortgage-denial").versions) == [1, 2]


@pytest.mark.parametrize("version", [1, 2])
def test_the_registered_model_answers_as_the_reference_on_every_held_out_row(run: Run, version: int) -> None:
    trained = run.versions[version - 1]
    labels, probabilities = OnnxModel(run.registry.read("mortgage-denial", version, bundle.MODEL)).run(trained.holdout)
    expected, reference = trained.reference(trained.holdout)
    assert len(labels) == 714
    assert (labels == expected).all()
    np.testing.assert_allclose(probabilities, reference, atol=1e-5, rtol=0)


def test_the_models_have_learned_something(run: Run) -> None:
    for trained in run.versions:
        auc = trained.evaluation.metric("auc")
        assert 0.75 < auc.value < 0.9
        assert auc.low < auc.value < auc.high


@pytest.mark.parametrize("version", [1, 2])
def test_every_json_file_is_canonical_and_says_its_format(run: Run, version: int) -> None:
    files = run.registry.manifest("mortgage-denial", version).files
    assert set(files) == {
        bundle.MODEL,
        bundle.PROFILE,
        bundle.GOLDEN,
        bundle.EVALUATION,
        bundle.FAIRNESS,
        bundle.TRAINING,
        bundle.DATA_CARD,
        bundle.MODEL_CARD,
        bundle.SIGNATURE,
    }
    for name in files:
        if name.endswith(".json"):
            raw = run.registry.read("mortgage-denial", version, name)
            assert canonical.encode(json.loads(raw)) == raw
            assert json.loads(raw)["format"] == f"tidegate.{name.removesuffix('.json')}/1"


def test_the_signature_names_columns_classes_and_the_positive_class(run: Run) -> None:
    signature = bundle.parse_signature(run.registry.read("mortgage-denial", 1, bundle.SIGNATURE))
    assert signature == run.versions[0].signature
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in signature.inputs] == [
        ("numeric", "FP32", (-1, 6)),
        ("categorical", "BYTES", (-1, 6)),
    ]
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in signature.outputs] == [
        ("label", "BYTES", (-1,)),
        ("probabilities", "FP32", (-1, 2)),
    ]
    assert (signature.classes, signature.positive) == (("no", "yes"), "yes")
    assert "afam" not in str(signature)


@pytest.mark.parametrize("version", [1, 2])
def test_golden_rows_need_no_pickle_and_are_reproduced_bit_by_bit(run: Run, version: int) -> None:
    golden = np.load(io.BytesIO(run.registry.read("mortgage-denial", version, bundle.GOLDEN)), allow_pickle=False)
    assert {name: golden[name].shape for name in golden.files} == {
        "input.numeric": (32, 6),
        "input.categorical": (32, 6),
        "output.label": (32,),
        "output.probabilities": (32, 2),
    }
    assert np.isnan(golden["input.numeric"][-2:]).any(axis=1).all()
    assert "never-seen-in-training" in golden["input.categorical"][-1]
    rows = Rows(golden["input.numeric"], golden["input.categorical"].astype(object), np.zeros(32, np.int64), np.full(32, "", object))
    labels, probabilities = OnnxModel(run.registry.read("mortgage-denial", version, bundle.MODEL)).run(rows)
    assert labels.tolist() == golden["output.label"].tolist()
    np.testing.assert_array_equal(probabilities, golden["output.probabilities"])


@pytest.mark.parametrize("version", [1, 2])
def test_the_profile_counts_every_training_row_once_per_feature(run: Run, version: int) -> None:
    found = profile.parse(run.registry.read("mortgage-denial", version, bundle.PROFILE))
    assert [feature.name for feature in found.features] == [
        *("pirat", "hirat", "lvrat", "chist", "mhist", "unemp"),
        *("phist", "selfemp", "insurance", "condomin", "single", "hschool"),
        *("score", "class"),
    ]
    assert found.rows == 2380 - 714
    assert {sum(feature.reference) for feature in found.features} == {found.rows}


def test_fairness_is_reported_at_the_threshold_of_the_spec(run: Run) -> None:
    for version, trained in enumerate(run.versions, start=1):
        rows = trained.holdout
        approved = OnnxModel(run.registry.read("mortgage-denial", version, bundle.MODEL)).run(rows)[1][:, 1] < 0.2
        rates = {group: approved[rows.protected == group].mean() for group in ("no", "yes")}
        report = _json(run, version, bundle.FAIRNESS)
        assert report["disparate_impact"] == pytest.approx(rates["yes"] / rates["no"])
        assert report["statistical_parity_difference"] == pytest.approx(rates["yes"] - rates["no"])
        assert {group["group"]: group["rate"] for group in _json(run, version, bundle.EVALUATION)["groups"]} == pytest.approx(rates)


def test_the_card_carries_figures_and_charts_that_load_nothing(run: Run) -> None:
    card = _json(run, 2, bundle.MODEL_CARD)
    assert card["evaluation"]["metrics"]["auc"] == _json(run, 2, bundle.EVALUATION)["metrics"]["auc"]
    assert card["fairness"]["disparate_impact"] == _json(run, 2, bundle.FAIRNESS)["disparate_impact"]
    assert any("four fifths" in limit for limit in card["limits"])
    assert card["packages"]["scikit-learn"]
    assert [chart["title"] for chart in card["charts"]] == ["Scores by group", "Calibration", "Search"]
    for chart in card["charts"]:
        assert chart["svg"].startswith("<svg")
        assert chart["alt"]
        # Namespaces are names, not addresses that anyone opens.
        assert set(re.findall(r"https?://[^\"' ]+", chart["svg"])) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert not re.search(r"<script|<image|@import|url\(", chart["svg"].replace("url(#", ""))


def test_the_data_card_says_what_every_column_is_and_is_for(run: Run) -> None:
    card = _json(run, 1, bundle.DATA_CARD)
    roles = {column["name"]: column["role"] for column in card["columns"]}
    assert len(roles) == 14
    assert (roles["pirat"], roles["phist"], roles["deny"], roles["afam"]) == ("numeric", "categorical", "outcome", "protected")
    assert all(column["meaning"] for column in card["columns"])


def test_the_training_record_tells_how_to_do_it_again(run: Run) -> None:
    record = _json(run, 2, bundle.TRAINING)
    assert record["seed"] == 20
    assert re.fullmatch(r"[0-9a-f]{64}", record["dependency_digest"])
    assert record["data_digest"] == canonical.digest((EXAMPLE / "hmda.csv").read_bytes())
    assert record["code_commit"] is None or re.fullmatch(r"[0-9a-f]{40}", record["code_commit"])
    assert len(record["trials"]) == 2
    assert record["parameters"] == max(record["trials"], key=lambda trial: float(trial["score"]))["parameters"]
    assert str(EXAMPLE) not in json.dumps(record)


def test_the_experiment_is_kept_offline_under_its_key(run: Run) -> None:
    assert len(list(run.tracker_dir.iterdir())) == 2
    for version in (1, 2):
        key = _json(run, version, bundle.TRAINING)["comet_experiment"]
        messages = zipfile.ZipFile(run.tracker_dir / f"{key}.zip").read("messages.json").decode()
        assert '"auc"' in messages
        assert "env_details" not in messages


def test_progress_is_told_from_nothing_to_all(run: Run) -> None:
    for algorithm in ("logistic-regression", "gradient-boosting"):
        steps = [(done, total) for what, done, total in run.progress if what == algorithm]
        assert steps == [(done, steps[-1][1]) for done in range(steps[-1][1] + 1)]


def test_the_same_spec_and_seed_make_the_same_model(run: Run, tmp_path: Path) -> None:
    again = pipeline.train(
        EXAMPLE / "spec.toml", str(tmp_path / "registry"), trials=2, actor="test", tracker_dir=tmp_path / "comet", progress=_ignore
    )
    registry = open_registry(str(tmp_path / "registry"))
    for trained in again:
        for name in set(registry.manifest(trained.model, trained.version).files) - {bundle.TRAINING}:
            assert registry.read(trained.model, trained.version, name) == run.registry.read(trained.model, trained.version, name), name


def test_a_spec_without_text_columns_and_without_a_protected_attribute_trains_too(spec_file: Callable[..., Path], tmp_path: Path) -> None:
    path = only_the_first_candidate(without_tables(spec_file(), "fairness", "data.columns"))
    path.write_text(re.sub(r"categorical = .*\n", "", path.read_text()))
    trained = _train(path, tmp_path)[0]
    assert (trained.fairness, trained.evaluation.groups) == (None, ())
    assert [tensor.name for tensor in trained.signature.inputs] == ["numeric"]
    assert bundle.FAIRNESS not in open_registry(str(tmp_path / "registry")).manifest("mortgage-denial", 1).files


def test_a_spec_without_numeric_columns_and_a_favourable_positive_class_trains_too(spec_file: Callable[..., Path], tmp_path: Path) -> None:
    path = only_the_first_candidate(spec_file({'positive = "yes"': 'positive = "no"'}))
    path.write_text(re.sub(r"numeric = .*\n", "", without_tables(path, "data.columns").read_text()))
    trained = _train(path, tmp_path)[0]
    assert [tensor.name for tensor in trained.signature.inputs] == ["categorical"]
    assert (trained.signature.classes, trained.signature.positive) == (("no", "yes"), "no")
    # P(not denied) >= 0.2 is nearly everyone.
    assert all(group.rate > 0.9 for group in trained.evaluation.groups)


@pytest.mark.parametrize("change", [{"numeric =": "numric ="}, {'"hmda.csv"': '"none.csv"'}, {'"pirat", ': '"pirate", '}])
def test_what_is_refused_leaves_no_file(spec_file: Callable[..., Path], tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(TrainingError):
        _train(without_tables(spec_file(change), "data.columns"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"spec.toml", "hmda.csv"}


def test_a_candidate_that_fails_late_registers_nothing(spec_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "comet").write_text("a file where the folder for experiments should be")
    with pytest.raises(TrackingError, match="cannot write the experiment"):
        _train(spec_file(), tmp_path)
    assert open_registry(str(tmp_path / "registry")).models() == []


def test_a_folder_that_is_no_registry_is_refused_before_the_search(spec_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "thesis.txt").write_text("do not overwrite")
    with pytest.raises(NotARegistryError):
        _train(spec_file(), tmp_path)
    assert [path.name for path in (tmp_path / "registry").iterdir()] == ["thesis.txt"]


def _train(path: Path, root: Path) -> list[pipeline.TrainedVersion]:
    return pipeline.train(path, str(root / "registry"), trials=1, actor="test", tracker_dir=root / "comet", progress=_ignore)


def _ignore(_what: str, _done: int, _total: int) -> None:
    pass
