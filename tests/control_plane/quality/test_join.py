"""Which label a row has is decided when it is asked for, from files alone, whatever order they came in and whatever else lies there."""

import datetime as dt
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.errors import LogUnreadableError, ScoreMissingError, TooManyRowsError
from control_plane.quality import join
from control_plane.quality.join import FOREIGN, NEGATIVE, POSITIVE, UNLABELLED, JoinedRows, LabelCounts, Logs, count_labels, read_rows
from registry.bundle import Signature, TensorSpec
from server.prediction_table import Privacy
from tests.control_plane.quality.conftest import DAY, MODEL, NOON, Writer, signature

LONG_AGO, FAR_AHEAD = NOON - 1000 * DAY, NOON + 1000 * DAY


def read(writer: Writer, version: int = 1, made: Signature | None = None, model: str = MODEL) -> JoinedRows:
    return read_rows(writer.logs, model, version, signature() if made is None else made, LONG_AGO, FAR_AHEAD)


def outcomes(writer: Writer) -> list[int]:
    return list(map(int, read(writer).outcome))


def test_rows_find_their_labels_by_prediction_id_and_row(writer: Writer) -> None:
    writer.predict("a", [0.25, 0.5, 0.75])
    writer.predict("b", [0.125], at=NOON - DAY)
    writer.labels([("a", 2, "yes"), ("a", 0, "no")])
    found = read(writer)
    assert found.score.tolist() == [0.125, 0.25, 0.5, 0.75]
    assert found.outcome.tolist() == [UNLABELLED, NEGATIVE, UNLABELLED, POSITIVE]
    assert found.asked.tolist() == [int(at.timestamp() * 1000) for at in (NOON - DAY, NOON, NOON, NOON)]
    assert (found.repeated, found.early) == (0, 0)


def test_of_several_labels_the_one_observed_last_holds_whenever_it_came(writer: Writer) -> None:
    writer.predict("a", [0.5])
    writer.label("a", "yes", observed=NOON + 3 * DAY, received=NOON + 3 * DAY)
    writer.label("a", "no", observed=NOON + 2 * DAY, received=NOON + 9 * DAY)
    assert outcomes(writer) == [POSITIVE]


def test_of_labels_observed_at_once_the_one_received_last_holds(writer: Writer) -> None:
    writer.predict("a", [0.5])
    writer.label("a", "no", received=NOON + 3 * DAY)
    writer.label("a", "yes", received=NOON + 2 * DAY)
    assert outcomes(writer) == [NEGATIVE]


@settings(max_examples=10)  # each writes nine files, and every one of them to the disk itself
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_files_does_not_matter(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- no secret
    folder = tmp_path_factory.mktemp("logs")
    logs = [Logs(folder, folder / name) for name in ("one", "other")]
    Writer(logs[0]).predict("a", [0.5, 0.5])
    labels = [(chance.choice([0, 1]), chance.choice(["no", "yes"]), chance.randrange(3), chance.randrange(3)) for _ in range(4)]
    for writer, order in ((Writer(logs[0]), labels), (Writer(logs[1]), labels[::-1])):
        for row, label, observed, received in order:
            writer.label("a", label, row, observed=NOON + observed * DAY, received=NOON + received * DAY)
    first, second = (read(Writer(one)).outcome.tolist() for one in logs)
    assert first == second


def test_labels_twice_replaced_and_of_unknown_predictions_are_counted(writer: Writer) -> None:
    writer.predict("a", [0.5])
    writer.predict("shadowed", [0.5], version=2, arm="shadow")
    for _ in range(3):
        writer.label("a", "yes")
    writer.label("a", "no", observed=NOON + 2 * DAY)
    writer.label("a", "no", row=1)
    writer.label("nobody", "no")
    writer.label("shadowed", "no")
    assert count_labels(writer.logs, MODEL) == LabelCounts(lines=7, duplicate=2, replaced=1, unknown=2)
    assert outcomes(writer) == [NEGATIVE]


def test_labels_of_a_model_without_predictions_are_all_unknown(writer: Writer) -> None:
    assert count_labels(writer.logs, MODEL) == LabelCounts()
    writer.label("a", "yes")
    assert count_labels(writer.logs, MODEL) == LabelCounts(lines=1, unknown=1)
    assert len(read(writer).asked) == 0


def test_only_production_traffic_of_the_version_is_read(writer: Writer) -> None:
    for arm, score in (("stable", 0.1), ("canary", 0.2), ("shadow", 0.3), ("direct", 0.4)):
        writer.predict(arm, [score], arm=arm)
    writer.predict("other", [0.5], version=2)
    writer.predict("a", [0.6], model="else")
    assert sorted(read(writer).score) == pytest.approx([0.1, 0.2])


def test_a_label_is_its_own_models(writer: Writer) -> None:
    writer.predict("a", [0.5])
    writer.label("a", "yes", model="else")
    assert outcomes(writer) == [UNLABELLED]


def test_a_class_that_is_gone_and_a_number_are_no_outcome(writer: Writer) -> None:
    writer.predict("a", [0.5, 0.5, 0.5])
    writer.labels([("a", 0, "perhaps"), ("a", 1, 1.0), ("a", 2, "no")])
    assert outcomes(writer) == [FOREIGN, FOREIGN, NEGATIVE]


def test_a_score_that_is_no_probability_is_none(writer: Writer) -> None:
    writer.predict("a", [float("nan"), float("inf"), -0.5, 1.5, 0.0, 1.0])
    assert np.isnan(read(writer).score).tolist() == [True, True, True, True, False, False]


def test_labels_older_than_their_prediction_are_used_and_counted(writer: Writer) -> None:
    writer.predict("a", [0.5, 0.5])
    writer.label("a", "yes", observed=NOON - DAY)
    writer.label("a", "no", row=1, observed=NOON)
    found = read(writer)
    assert (found.outcome.tolist(), found.early) == ([POSITIVE, NEGATIVE], 1)


def test_of_a_row_answered_twice_under_one_id_the_first_answer_counts(writer: Writer) -> None:
    writer.predict("a", [0.9], at=NOON + DAY)
    writer.predict("a", [0.1])
    writer.label("a", "yes")
    found = read(writer)
    assert (found.score.tolist(), found.outcome.tolist(), found.repeated) == (pytest.approx([0.1]), [POSITIVE], 1)


def test_rows_are_taken_from_the_start_and_before_the_end(writer: Writer) -> None:
    for place, hours in enumerate((0, 1, 12, 24)):
        writer.predict(str(place), [place / 10], at=NOON + dt.timedelta(hours=hours))
    found = read_rows(writer.logs, MODEL, 1, signature(), NOON + dt.timedelta(hours=1), NOON + dt.timedelta(hours=24))
    assert found.score.tolist() == pytest.approx([0.1, 0.2])
    assert len(read_rows(writer.logs, MODEL, 1, signature(), NOON, dt.datetime.max.replace(tzinfo=dt.UTC)).asked) == 4


def test_probabilities_in_one_tensor_are_read_by_the_place_of_the_class(writer: Writer) -> None:
    made = signature(named=False, classes=("a", "b", "c"))
    writer.predict("a", [0.25, 0.5], made=made)
    writer.labels([("a", 0, "c"), ("a", 1, "a")])
    found = read(writer, made=made)
    assert (found.score.tolist(), found.outcome.tolist()) == ([0.25, 0.5], [POSITIVE, NEGATIVE])


def test_classes_may_be_called_anything(writer: Writer) -> None:
    made = signature(classes=("no", 'yes" FROM x; --'))
    writer.predict("a", [0.25], made=made, model="a/b%20*")
    writer.label("a", made.positive, model="a/b%20*")
    found = read(writer, made=made, model="a/b%20*")
    assert (found.score.tolist(), found.outcome.tolist()) == ([0.25], [POSITIVE])


def test_files_with_other_columns_are_read_together(writer: Writer) -> None:
    writer.predict("a", [0.25])
    writer.predict("b", [0.5], at=NOON + DAY, privacy=Privacy(frozenset({"age", "label"})))
    writer.predict("c", [0.75], at=NOON + 2 * DAY, privacy=Privacy(frozenset({"probabilities"})))
    assert read(writer).score.tolist() == pytest.approx([0.25, 0.5, np.nan], nan_ok=True)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "privacy", [Privacy(drop=frozenset({"probabilities"})), Privacy(hashed=frozenset({"probabilities"}), key=b"k" * 16)]
)
def test_a_score_that_may_not_be_logged_is_an_error_that_says_so(writer: Writer, privacy: Privacy, named: bool) -> None:  # noqa: FBT001
    made = signature(named=named)
    writer.predict("a", [0.25], made=made, privacy=privacy)
    with pytest.raises(ScoreMissingError, match="--prediction-log-drop"):
        read(writer, made=made)


def test_a_version_without_probabilities_is_an_error_that_says_so(writer: Writer) -> None:
    writer.predict("a", [0.25])
    made = Signature((), (TensorSpec("label", "BYTES", (-1,)),), ("no", "yes"), "yes")
    with pytest.raises(ScoreMissingError, match="no output of this version"):
        read(writer, made=made)


def test_half_written_and_foreign_files_are_not_read_and_damaged_ones_are_told(writer: Writer) -> None:
    writer.predict("a", [0.25])
    writer.label("a", "yes")
    (folder,) = {path.parent for path in writer.logs.predictions.rglob("*.parquet")}
    (folder / ".half.tmp").write_bytes(b"PAR1")
    (folder / "notes.txt").write_text("kept here for want of a better place")
    assert outcomes(writer) == [POSITIVE]
    (folder / "z.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(LogUnreadableError, match=r"z\.parquet"):
        read(writer)


def test_a_folder_that_is_not_there_is_no_empty_log(tmp_path: Path) -> None:
    for logs in (Logs(tmp_path / "nowhere", None), Logs(tmp_path, tmp_path / "nowhere")):
        with pytest.raises(LogUnreadableError, match="nowhere cannot be read"):
            read(Writer(logs))
        with pytest.raises(LogUnreadableError, match="nowhere"):
            read(Writer(logs))


def test_without_a_feedback_log_no_row_has_a_label(writer: Writer) -> None:
    writer.predict("a", [0.25])
    only = Writer(Logs(writer.logs.predictions, None))
    assert outcomes(only) == [UNLABELLED]
    assert count_labels(only.logs, MODEL) == LabelCounts()


def test_more_rows_than_memory_is_an_error_that_says_what_to_do(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.predict("a", [0.5] * 200_000)
    monkeypatch.setitem(join._CONFIG, "memory_limit", "4MB")
    with pytest.raises(TooManyRowsError, match="from and until"):
        read(writer)


def test_a_file_that_retention_removes_meanwhile_is_not_missed(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.predict("kept", [0.5])
    writer.predict("gone", [0.5], at=NOON - DAY)
    (old,) = writer.logs.predictions.rglob("date=2026-02-28/*.parquet")
    listed = join._files

    def list_and_lose(*arguments: Any) -> list[str]:
        found = listed(*arguments)
        old.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(join, "_files", list_and_lose)
    assert read(writer).asked.tolist() == [int(NOON.timestamp() * 1000)]


def test_reading_goes_on_while_daemons_write(writer: Writer) -> None:
    def write() -> None:
        for number in range(50):
            writer.predict(str(number), [0.5])

    thread = threading.Thread(target=write)
    thread.start()
    seen = []
    while thread.is_alive():
        seen.append(len(read(writer).asked))
    thread.join()
    assert seen == sorted(seen)
    assert len(read(writer).asked) == 50
