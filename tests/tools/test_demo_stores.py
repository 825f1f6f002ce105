"""What the demo finds wrong in other stores than the service's own."""

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from tools.demo.fold import COUNTS, RECORDS, SEARCHED, Folded, fold
from tools.demo.records import Records
from tools.demo.verify import compare

TIME = datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
TEXT = {"job_id": "j", "title": "Baker", "description": "At night."}
EVENTS = (("JobPosted", TEXT), ("JobRevised", TEXT), ("JobArchived", {"job_id": "j"}))


class Record(NamedTuple):
    """As aiokafka has it."""

    headers: list[tuple[str, bytes]]
    value: bytes


def record(version: int, **other: str) -> Record:
    name, data = EVENTS[version - 1]
    headers = {
        "id": f"c:{version}",
        "name": name,
        "stream": "job-j",
        "version": str(version),
        "time": TIME.isoformat(timespec="milliseconds"),
    }
    told = [(key, text.encode()) for key, text in {**headers, **other}.items()]
    return Record(told, json.dumps(data).encode())


@pytest.fixture
def folded() -> Folded:
    events = [{"name": name, "schema": 1, "data": data} for name, data in EVENTS]
    return fold([{"_id": "c", "stream": "job-j", "first": 1, "time": TIME, "events": events}])


def differences(folded: Folded, *records: Record) -> set[tuple[str, str]]:
    """What a reader of these records finds that the log does not say: in which, and what of it."""
    read = Records("kafka://nowhere:9092", "demo")
    for one in records:
        read.take(one)
    found = compare({RECORDS: folded.elsewhere[RECORDS]}, {RECORDS: read.found})
    return {(one.key, one.field) for one in found}


def test_records_in_order_are_right_however_often_they_come(folded: Folded) -> None:
    every = [record(1), record(2), record(1), record(2), record(3)]
    assert differences(folded, *every) == set()


def test_a_record_before_the_one_before_it_is_told(folded: Folded) -> None:
    found = differences(folded, record(1), record(3), record(2))
    assert found == {("job-j 3", "after"), ("job-j 2", "after")}


def test_a_record_that_is_missing_is_told(folded: Folded) -> None:
    told = {"after", "data", "id", "name", "time"}
    assert differences(folded, record(1), record(2)) == {("job-j 3", field) for field in told}


def test_a_repeat_that_is_another_one_is_told(folded: Folded) -> None:
    every = [record(1), record(2), record(3), record(3, id="another")]
    assert differences(folded, *every) == {("job-j 3", "repeated_as")}


def test_what_a_search_finds_and_what_is_counted_follow_from_the_log(folded: Folded) -> None:
    expected = folded.elsewhere
    assert expected[COUNTS] == {"2026-01-02": {"posted": 1, "archived": 1}}
    job = expected[SEARCHED]["j"]
    assert (job["id"], job["status"], job["version"]) == ("j", "archived", 3)
    stored: dict[str, dict[str, Any]] = {SEARCHED: {"j": {**job, "title": "Cook"}}}
    wrong = compare({SEARCHED: expected[SEARCHED]}, stored)
    assert [(one.key, one.field) for one in wrong] == [("j", "title")]
