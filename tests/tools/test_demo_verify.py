from datetime import UTC, datetime
from typing import Any

import pytest

from tools.demo.fold import COLLECTIONS, fold
from tools.demo.verify import compare

TIME = datetime(2026, 1, 2, tzinfo=UTC)


def commit(stream: str, first: int, *events: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "_id": f"{stream}/{first}",
        "stream": stream,
        "first": first,
        "time": TIME,
        "events": [{"name": name, "schema": 1, "data": data} for name, data in events],
    }


@pytest.fixture
def log() -> list[dict[str, Any]]:
    job = {"job_id": "j", "title": "Baker", "description": "At night."}
    applied = {
        "application_id": "a",
        "job_id": "j",
        "job_title": "Baker",
        "applicant": "Ada",
        "letter": "",
    }
    return [
        commit("application-a", 1, ("ApplicationSubmitted", applied)),
        commit("job-j", 1, ("JobPosted", job)),
        commit("job-j", 2, ("JobRevised", job | {"title": "Night baker"})),
    ]


def test_the_fold_knows_every_collection(log: list[dict[str, Any]]) -> None:
    folded = fold(log).collections
    assert folded["job_board"]["j"]["title"] == "Night baker"
    assert folded["job_board"]["j"]["applications"] == 1
    assert {name: len(folded[name]) for name in COLLECTIONS} == dict.fromkeys(COLLECTIONS, 1)


def test_a_damaged_a_missing_and_a_surplus_document_are_found(log: list[dict[str, Any]]) -> None:
    expected = fold(log).collections
    stored: dict[str, dict[str, Any]] = {
        name: {key: {"_id": key, "_version": 9, **document} for key, document in documents.items()}
        for name, documents in expected.items()
    }
    assert compare(expected, stored) == []
    stored["job_board"]["j"]["applications"] = 2
    stored["job_replicas"].clear()
    stored["applicant_history"]["ghost"] = {"_id": "ghost", "status": "open"}
    found = {(one.collection, one.key, one.field) for one in compare(expected, stored)}
    assert ("job_board", "j", "applications") in found
    assert ("job_replicas", "j", "title") in found
    assert ("applicant_history", "ghost", "status") in found
