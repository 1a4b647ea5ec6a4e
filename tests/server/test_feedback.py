"""Labels that came are on disk before they are acknowledged, wrong ones are refused with a reason, and no label is lost without a word."""

import math
import threading
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bundle import Signature
from server.errors import FeedbackNotStoredError, FeedbackOffError, InputMismatchError, ModelLoadingError, ModelUnknownError, SettingsError
from server.feedback import AHEAD_SECONDS, MAX_ID_BYTES, MAX_LABELS, LabelRule, check
from server.feedback_calls import MAX_REFUSALS, Feedback
from server.feedback_log import FeedbackLog, open_feedback_log
from server.loaded_version import LoadedVersion
from server.log_files import LogFiles
from server.onnx_engine import OnnxEngine
from server.routing import RoutingTable, ServedModel
from tests import models
from tests.daemons import wait_until
from tidegate_protos import monitoring_pb2 as monitoring

NOW = 1_780_000_000.5
CLASSES = LabelRule(("no", "yes"), numeric=False)
NUMBERS = LabelRule((), numeric=True)
ENGINE = OnnxEngine(models.scaled(2.0), threads=1)
Label = monitoring.Label


def served(*classes: tuple[str, ...]) -> ServedModel:
    """A model with a version for each of these classes."""
    versions = {
        number: LoadedVersion("m", number, "0" * 64, Signature((), (), names, names[-1] if names else ""), ENGINE, None, 0.1)
        for number, names in enumerate(classes, start=1)
    }
    return ServedModel(MappingProxyType(versions), MappingProxyType({"production": 1}), tuple(versions))


def feedback(store: FeedbackLog | None, **serving: ServedModel) -> Feedback:
    made = Feedback(store, lambda: NOW)
    made.install(RoutingTable(MappingProxyType(serving), complete=True))
    return made


def record(to: Feedback, *labels: monitoring.Label, model: str = "m") -> monitoring.RecordFeedbackResponse:
    request = monitoring.RecordFeedbackRequest(model=model, labels=labels)
    call = to.calls()["/tidegate.v1.MonitoringService/RecordFeedback"]
    return monitoring.RecordFeedbackResponse.FromString(call(request.SerializeToString()))


def counted(of: Feedback) -> dict[tuple[str, str], int]:
    return {key: number for key, number in of.counts().items() if number}


def rows(folder: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    query = f"SELECT {columns} FROM read_parquet('{folder}/**/*.parquet', union_by_name=true) ORDER BY prediction_id, row"  # noqa: S608
    found: list[tuple[Any, ...]] = duckdb.connect().execute(query).fetchall()
    return found


@pytest.fixture
def log(tmp_path: Path) -> FeedbackLog:
    return open_feedback_log(tmp_path / "log")


def test_labels_are_in_a_file_when_the_answer_comes(log: FeedbackLog, tmp_path: Path) -> None:
    to = feedback(log, m=served(("no", "yes")), n=served(()))
    answer = record(to, Label(prediction_id="b", class_name="yes", observed=12.25), Label(prediction_id="a", row=3, class_name="no"))
    assert (answer.recorded, answer.duplicate, answer.refused) == (2, 0, 0)
    assert record(to, Label(prediction_id="c", value=-1.5), model="n").recorded == 1
    columns = "prediction_id, row, model, class, value, epoch_us(observed), epoch_us(received)"
    now = int(NOW * 1e6)
    assert rows(tmp_path / "log", columns) == [
        ("a", 3, "m", "no", None, now, now),
        ("b", 0, "m", "yes", None, 12_250_000, now),
        ("c", 0, "n", None, -1.5, now, now),
    ]
    folders = {path.parent.relative_to(tmp_path / "log").as_posix() for path in tmp_path.rglob("*.parquet")}
    assert folders == {"model=m/date=2026-05-28", "model=n/date=2026-05-28"}


@pytest.mark.parametrize(
    ("label", "rule", "words"),
    [
        (Label(class_name="yes"), CLASSES, "prediction_id is empty"),
        (Label(prediction_id="i" * (MAX_ID_BYTES + 1), class_name="yes"), CLASSES, "more than 1024 bytes"),
        (Label(prediction_id="i", row=-1, class_name="yes"), CLASSES, "row is -1"),
        (Label(prediction_id="i"), CLASSES, "no label; expected one of the classes 'no', 'yes' as text"),
        (Label(prediction_id="i", class_name="maybe"), CLASSES, "'maybe'; expected one of the classes"),
        (Label(prediction_id="i", class_name=""), CLASSES, "label is ''"),
        (Label(prediction_id="i", value=1.0), CLASSES, "the number 1; expected one of the classes"),
        (Label(prediction_id="i", class_name="1"), NUMBERS, "label is '1'; expected a finite number"),
        (Label(prediction_id="i", value=math.nan), NUMBERS, "the number nan; expected a finite"),
        (Label(prediction_id="i", value=math.inf), NUMBERS, "the number inf"),
        (Label(prediction_id="i", value=1.0, observed=-1), NUMBERS, "seconds since 1970"),
        (Label(prediction_id="i", value=1.0, observed=math.nan), NUMBERS, "seconds since 1970"),
        (Label(prediction_id="i", value=1.0, observed=NOW * 1000), NUMBERS, "a day ahead"),
    ],
)
def test_a_wrong_label_is_refused_and_told_why(label: monitoring.Label, rule: LabelRule, words: str) -> None:
    checked = check([label], rule, NOW)
    assert not checked.kept
    ((index, reason),) = checked.refused
    assert index == 0
    assert words in reason


def test_one_wrong_label_does_not_harm_its_neighbours(log: FeedbackLog, tmp_path: Path) -> None:
    to = feedback(log, m=served(("no", "yes")))
    good, bad = Label(prediction_id="a", class_name="yes"), Label(prediction_id="b", value=1)
    answer = record(to, bad, good, bad)
    assert (answer.recorded, answer.refused) == (1, 2)
    assert [refusal.index for refusal in answer.refusals] == [0, 2]
    assert rows(tmp_path / "log", "prediction_id") == [("a",)]
    assert counted(to) == {("m", "recorded"): 1, ("m", "refused"): 2}


def test_reasons_are_told_of_the_first_hundred(log: FeedbackLog) -> None:
    answer = record(feedback(log, m=served(("no", "yes"))), *[Label(prediction_id="a", row=row) for row in range(MAX_REFUSALS + 5)])
    assert (answer.refused, len(answer.refusals)) == (MAX_REFUSALS + 5, MAX_REFUSALS)


def test_a_label_that_stands_in_a_batch_twice_is_written_once(log: FeedbackLog, tmp_path: Path) -> None:
    to = feedback(log, m=served(("no", "yes")))
    same = Label(prediction_id="a", class_name="yes", observed=9)
    answer = record(to, same, same, Label(prediction_id="a", class_name="no", observed=9), same)
    assert (answer.recorded, answer.duplicate) == (2, 2)
    assert rows(tmp_path / "log", "class") in ([("yes",), ("no",)], [("no",), ("yes",)])
    assert counted(to)["m", "duplicate"] == 2


def test_labels_are_checked_against_the_classes_of_every_loaded_version(log: FeedbackLog) -> None:
    to = feedback(log, m=served(("no", "yes"), ("no", "perhaps")), mixed=served(("no", "yes"), ()))
    assert record(to, *[Label(prediction_id="a", class_name=name) for name in ("no", "yes", "perhaps")]).recorded == 3
    both = [Label(prediction_id="a", class_name="yes"), Label(prediction_id="a", value=1)]
    assert record(to, *both, model="mixed").recorded == 2


def test_nothing_is_kept_where_it_cannot_be_judged(log: FeedbackLog, tmp_path: Path) -> None:
    label = Label(prediction_id="a", class_name="yes")
    loading = ServedModel(MappingProxyType({}), MappingProxyType({"production": 1}), (1,))
    to = feedback(log, m=served(("no", "yes")), loading=loading)
    for model, count, error in (
        ("nobody", 1, ModelUnknownError),
        ("loading", 1, ModelLoadingError),
        ("m", 0, InputMismatchError),
        ("m", MAX_LABELS + 1, InputMismatchError),
    ):
        with pytest.raises(error):
            record(to, *[label] * count, model=model)
    assert not list((tmp_path / "log").rglob("*.parquet"))
    assert counted(to) == {("", "refused"): 1, ("loading", "refused"): 1, ("m", "refused"): MAX_LABELS + 1}


def test_without_a_log_the_flag_that_is_missing_is_named() -> None:
    to = feedback(None, m=served(("no", "yes")))
    with pytest.raises(FeedbackOffError, match="--feedback-log DIR"):
        record(to, Label(prediction_id="a", class_name="yes"))
    assert counted(to) == {("m", "refused"): 1}


def test_labels_the_disk_does_not_take_are_not_acknowledged_and_can_be_sent_again(log: FeedbackLog, tmp_path: Path) -> None:
    to = feedback(log, m=served(("no", "yes")))
    blocker = tmp_path / "log" / "model=m"
    blocker.touch()
    label = Label(prediction_id="a", class_name="yes")
    with pytest.raises(FeedbackNotStoredError, match="none is kept, send them again"):
        record(to, label)
    blocker.unlink()
    assert record(to, label).recorded == 1
    assert counted(to) == {("m", "failed"): 1, ("m", "recorded"): 1}
    assert not list(tmp_path.rglob(".*.tmp"))


def test_four_threads_lose_no_label(log: FeedbackLog, tmp_path: Path) -> None:
    to = feedback(log, m=served(("no", "yes")))

    def send(thread: int) -> None:
        for number in range(10):
            record(to, *[Label(prediction_id=f"{thread} {number}", row=row, class_name="no") for row in range(5)])

    threads = [threading.Thread(target=send, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(rows(tmp_path / "log", "prediction_id, row"))) == 200
    assert counted(to) == {("m", "recorded"): 200}


def test_a_reader_never_sees_part_of_a_file(log: FeedbackLog, tmp_path: Path) -> None:
    to = feedback(log, m=served(("no", "yes")))
    labels = [Label(prediction_id="a", row=row, class_name="no") for row in range(100)]
    writer = threading.Thread(target=lambda: [record(to, *labels) for _ in range(20)])
    writer.start()
    wait_until(lambda: bool(list(tmp_path.rglob("*.parquet"))), "nothing written")
    while writer.is_alive():
        assert len(rows(tmp_path / "log", "row")) % 100 == 0
    writer.join()
    assert len(rows(tmp_path / "log", "row")) == 2000


def test_counts_begin_at_zero_for_every_model_that_is_served() -> None:
    assert feedback(None, m=served(())).counts() == {("m", result): 0 for result in ("recorded", "duplicate", "refused", "failed")}


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="--feedback-log "):
        open_feedback_log(tmp_path / "file")


@given(
    st.lists(
        st.builds(
            Label,
            prediction_id=st.text(max_size=5),
            row=st.integers(-2, 3),
            class_name=st.sampled_from(["no", "yes", "maybe"]),
            observed=st.floats(allow_nan=True),
        )
    )
)
def test_every_label_is_kept_refused_or_a_duplicate(labels: list[monitoring.Label]) -> None:
    checked = check(labels, CLASSES, NOW)
    assert len(checked.kept) + checked.duplicate + len(checked.refused) == len(labels)
    assert all(label.class_name in CLASSES.classes and 0 < label.observed <= NOW + AHEAD_SECONDS for label in checked.kept)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=20))
def test_what_is_read_is_what_was_written(tmp_path_factory: pytest.TempPathFactory, labels: list[tuple[str, float]]) -> None:
    folder = tmp_path_factory.mktemp("log")
    to = feedback(FeedbackLog(LogFiles(folder)), m=served(()))
    record(to, *[Label(prediction_id=name, row=row, value=value) for row, (name, value) in enumerate(labels)])
    found = {(row[0], row[1]): row[2] for row in rows(folder, "prediction_id, row, value")}
    assert found == {(name, row): value for row, (name, value) in enumerate(labels)}
