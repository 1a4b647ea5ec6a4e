"""Reads the Prometheus text format of a running program. No test lives here."""

import urllib.request
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def scrape(url: str) -> list[Sample]:
    """All samples at `url`."""
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 -- a loopback URL of ours
        return list(_samples(response.read().decode()))


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum of all samples of this name that have these labels."""
    found = [sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()]
    assert found, f"no {name} with {labels}"
    return sum(found)


def _samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples
