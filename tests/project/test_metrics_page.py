"""docs/telemetry.md names every metric that there is, as the catalogue has it, and no other."""

import re
from pathlib import Path

from bus.telemetry.metrics.catalogue import CATALOGUE, Metric

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "telemetry.md").read_text()
SECTION = PAGE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
UNITS = {"": "-", "s": "seconds", "By": "bytes"}
WHO = {"process": "each", "service": "one"}


def rows() -> list[list[str]]:
    """The cells of the table of metrics, but for the last one."""
    lines = [line for line in SECTION.splitlines() if line.startswith("| `bus_")]
    return [line.strip("| ").split(" | ")[:5] for line in lines]


def as_told(metric: Metric) -> list[str]:
    labels = " ".join(f"`{label}`" for label in metric.labels) or "-"
    return [f"`{metric.exposed}`", metric.kind, UNITS[metric.unit], labels, WHO[metric.of]]


def test_the_page_has_every_metric_with_its_type_unit_and_labels() -> None:
    assert rows() == [as_told(metric) for metric in CATALOGUE]


def test_the_page_names_no_metric_that_there_is_not() -> None:
    named = set(re.findall(r"`(bus_[a-z_]+)`", PAGE))
    assert named <= {metric.exposed for metric in CATALOGUE}


def test_each_metric_is_said_what_it_means() -> None:
    meanings = [
        line.split(" | ")[5].strip(" |") for line in SECTION.splitlines() if "| `bus_" in line
    ]
    assert len(meanings) == len(CATALOGUE)
    assert all(len(meaning) > 10 for meaning in meanings)
