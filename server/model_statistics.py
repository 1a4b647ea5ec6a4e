"""What a transport has counted, as Triton's ModelStatistics has it. Pure; nothing is counted here."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from server.counts import Counters, Histogram, VersionCounts, VersionKey
from server.loaded_version import LoadedVersion
from tidegate_protos import inference_pb2 as pb

_Answered: TypeAlias = tuple[int, int]
"""Requests that succeeded, and that failed."""


def describe(counters: Counters, versions: Iterable[LoadedVersion]) -> list[pb.ModelStatistics]:
    """The statistics of each of `versions`, in order; one that has had no request has zeros."""
    answered = _answered(counters.requests)
    keys = [version.key for version in versions]
    return [_statistics(key, counters.versions.get(key), answered.get((key[0], str(key[1])), (0, 0))) for key in keys]


def _answered(requests: Mapping[tuple[str, str, str, str], int]) -> dict[tuple[str, str], _Answered]:
    answered: dict[tuple[str, str], _Answered] = {}
    for (model, version, _, code), number in requests.items():
        success, fail = answered.get((model, version), (0, 0))
        answered[model, version] = (success + number, fail) if code == "OK" else (success, fail + number)
    return answered


def _statistics(key: VersionKey, counts: VersionCounts | None, answered: _Answered) -> pb.ModelStatistics:
    model, number = key
    if counts is None:
        return pb.ModelStatistics(name=model, version=str(number), inference_stats=pb.InferStatistics())
    success, fail = answered
    failed = counts.failed_seconds
    return pb.ModelStatistics(
        name=model,
        version=str(number),
        last_inference=int(counts.last_answer * 1000),
        inference_count=round(counts.batch_rows.total),
        execution_count=sum(counts.batch_rows.counts),
        inference_stats=pb.InferStatistics(
            success=_spent(success, counts.request_seconds.total - failed),
            fail=_spent(fail, failed),
            queue=_duration(counts.queue_seconds),
            compute_infer=_duration(counts.compute_seconds),
        ),
    )


def _spent(number: int, seconds: float) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=number, ns=max(0, round(seconds * 1e9)) if number else 0)


def _duration(histogram: Histogram) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=sum(histogram.counts), ns=round(histogram.total * 1e9))
