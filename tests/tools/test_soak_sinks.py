"""What the soak keeps elsewhere is compared with the log: each kind of wrong is found."""

from copy import deepcopy
from typing import Any

import pytest

from tools.soak.checker import Verdict
from tools.soak.log import Document
from tools.soak.schedule import chosen as chosen_faults
from tools.soak.sinks.fold import Folded, check_places, check_rows, fold
from tools.soak.sinks.plan import AMOUNTS, JOBS, SINKS, chosen

Records = list[tuple[tuple[str, int], str]]


def commit(stream: str, first: int, *events: tuple[str, Document]) -> Document:
    held = [{"name": name, "schema": 1, "data": data} for name, data in events]
    return {"_id": f"{stream}/{first}", "stream": stream, "first": first, "events": held}


COMMITS = [
    commit("job-a", 1, ("JobPosted", {"title": "Baker"}), ("JobRevised", {"title": "Cook"})),
    commit("job-b", 1, ("JobPosted", {"title": "Night"})),
    commit("job-b", 2, ("JobArchived", {})),
    commit("purse-p", 1, ("PurseOpened", {"balance": 9}), ("MoneyCame", {"amount": 5})),
    commit("purse-q", 1, ("MoneyCame", {"amount": 5})),
]
ROWS: dict[str, Any] = {
    JOBS: {"a": {"title": "Cook", "revisions": 1}},
    AMOUNTS: {"5": {"times": 2, "total": 10}},
}
RECORDS: Records = [
    (("job-a", 1), "a1"),
    (("job-a", 2), "a2"),
    (("job-b", 1), "b1"),
    (("job-b", 2), "b2"),
    (("purse-p", 1), "p1"),
    (("purse-p", 2), "p2"),
    (("purse-q", 1), "q1"),
]


@pytest.fixture
def folded() -> Folded:
    return fold(COMMITS)


def rows(folded: Folded, what: str, key: str, **fields: Any) -> Verdict:
    """What is said of a store in which one row is otherwise; without fields, it is not there."""
    stored, verdict = deepcopy(ROWS), Verdict()
    stored[what].pop(key, None)
    if fields:
        stored[what][key] = fields
    check_rows(folded, {"postgresql": stored}, verdict)
    return verdict


def test_rows_that_are_as_the_log_says_are_right(folded: Folded) -> None:
    verdict = Verdict()
    check_rows(folded, {"postgresql": ROWS, "opensearch": ROWS}, verdict)
    assert verdict.problems == []
    assert verdict.documents == 4


def test_rows_that_are_behind_beyond_missing_or_too_many_are_told(folded: Folded) -> None:
    assert len(rows(folded, AMOUNTS, "5", times=1, total=10).lost) == 1
    assert len(rows(folded, AMOUNTS, "5", times=3, total=10).twice) == 1
    assert len(rows(folded, JOBS, "a").lost) == 2
    assert len(rows(folded, JOBS, "a", title="Baker", revisions=1).others) == 1
    assert "jobs in postgresql b: title is 'Night'" in str(
        rows(folded, JOBS, "b", title="Night", revisions=0).problems
    )


def topic(folded: Folded, records: Records, *, emptied: bool = False) -> tuple[Verdict, int]:
    verdict = Verdict()
    return verdict, check_places(folded, records, verdict, emptied=emptied)


def test_repeats_in_a_topic_are_counted_and_nothing_else(folded: Folded) -> None:
    verdict, repeats = topic(folded, [*RECORDS[:2], *RECORDS[:2], *RECORDS[2:]])
    assert (verdict.problems, repeats) == ([], 2)


def test_what_a_topic_lacks_has_out_of_order_or_by_another_id_is_told(folded: Folded) -> None:
    lost, _ = topic(folded, RECORDS[:-1])
    assert lost.lost == ["the topic lacks purse-q at 1"]
    disordered, _ = topic(folded, [RECORDS[1], RECORDS[0], *RECORDS[1:]])
    assert disordered.problems == ["the topic has job-a at 2 after 0"]
    another, _ = topic(folded, [*RECORDS, (("job-a", 1), "other")])
    assert another.twice == ["the topic has job-a at 1 as a1 and as other"]
    strange, _ = topic(folded, [*RECORDS, (("job-a", 3), "a3")])
    assert strange.others == ["the log lacks job-a at 3"]


def test_a_topic_that_was_emptied_may_begin_anywhere_and_is_filled_from_the_start(
    folded: Folded,
) -> None:
    begun = [RECORDS[1], *RECORDS]
    assert topic(folded, begun, emptied=True)[0].problems == []
    assert topic(folded, begun[:1] + begun[2:], emptied=True)[0].lost == [
        "the topic lacks job-a at 1",
        "the topic lacks job-a at 2",
    ]


def test_faults_of_sinks_are_drawn_where_there_are_sinks_alone() -> None:
    assert not any("sink" in name or "fed" in name for name in chosen_faults("all"))
    in_sql = chosen_faults("all", sinks=["postgresql"])
    assert {"sink_kill", "worker_frozen"} <= in_sql.keys()
    assert not {"fed_kill", "restore"} & in_sql.keys()
    assert "fed_kill" in chosen_faults("all", sinks=["kafka"])
    with pytest.raises(ValueError, match="fed_kill needs --sinks kafka"):
        chosen_faults("fed_kill", sinks=["mariadb"])
    with pytest.raises(ValueError, match="restore is not for a run with --sinks"):
        chosen_faults("restore", sinks=["mariadb"])


def test_the_stores_are_all_or_those_that_are_named() -> None:
    assert chosen("all") == SINKS
    assert chosen("kafka,postgresql") == ("postgresql", "kafka")
    with pytest.raises(ValueError, match="there is no sink 'redis'"):
        chosen("redis")
