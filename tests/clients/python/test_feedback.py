"""Labels go to the server as they are meant, or are refused here with the place of the one that cannot be sent."""

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import grpc
import numpy as np
import pytest

from tests.clients.python.stranger import Refusal, Stranger
from tidegate_client import ConflictError, InputError, Label, Receipt, RefusedLabel
from tidegate_protos import monitoring_pb2 as monitoring


def test_labels_are_sent_and_the_receipt_is_told(client: Any, stranger: Stranger) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    receipt = client.feedback("credit", [Label("a", "yes"), Label("b", np.float32(0.5), row=7, observed=at), Label("c", 3, observed=1.5)])
    assert receipt == Receipt(2, 2, 1, (RefusedLabel(1, "no such class"),))
    (request,) = stranger.feedback
    assert request.model == "credit"
    assert list(request.labels) == [
        monitoring.Label(prediction_id="a", class_name="yes"),
        monitoring.Label(prediction_id="b", row=7, value=0.5, observed=at.timestamp()),
        monitoring.Label(prediction_id="c", value=3, observed=1.5),
    ]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (Label("b", None), "the name of a class or a number, not None"),  # type: ignore[arg-type]
        (Label("b", True), "not True"),  # noqa: FBT003 -- what is refused
        (Label("b", 1j), "not 1j"),  # type: ignore[arg-type]
        (Label("b", "yes", row=1 << 31), "out of range"),
        (Label("b", "yes", observed=datetime(2026, 3, 1)), "has no time zone"),  # noqa: DTZ001 -- what is refused
        (Label(7, "yes"), "text, not 7"),  # type: ignore[arg-type]
        (("b", "yes"), "prediction_id"),
    ],
)
def test_a_label_that_cannot_be_sent_is_named_by_its_place(client: Any, stranger: Stranger, label: Any, words: str) -> None:
    with pytest.raises(InputError, match="label 1: ") as caught:
        client.feedback("credit", [Label("a", Fraction(1, 2)), label])
    assert words in str(caught.value)
    assert stranger.feedback == []


def test_labels_are_sent_again_when_the_disk_was_full_for_a_moment(client: Any, stranger: Stranger) -> None:
    stranger.refusals.append(Refusal(grpc.StatusCode.UNAVAILABLE, reason="FEEDBACK_NOT_STORED", retry_after=0.01))
    client.feedback("credit", [Label("a", "yes")])
    assert len(stranger.feedback) == 2


def test_a_server_that_keeps_no_labels_is_a_conflict(client: Any, stranger: Stranger) -> None:
    stranger.refusals.append(Refusal(grpc.StatusCode.FAILED_PRECONDITION, "start it with --feedback-log DIR", "FEEDBACK_OFF"))
    with pytest.raises(ConflictError, match="--feedback-log DIR"):
        client.feedback("credit", [Label("a", "yes")])
    assert len(stranger.feedback) == 1
