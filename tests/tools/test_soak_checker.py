"""The soak's checker finds each kind of wrong that it looks for, and nothing where all is right."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tools.demo.fold import fold
from tools.soak.account import Account, account
from tools.soak.checker import Verdict, check
from tools.soak.log import Document
from tools.soak.observer import Sequence
from tools.soak.purses import check_purses
from tools.soak.service import FIRST_BALANCE

TIME = datetime(2026, 1, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)
JOB: Document = {"job_id": "j0", "title": "Baker", "description": "At night."}
APPLICATION: Document = {
    "application_id": "a0",
    "job_id": "j0",
    "job_title": "Baker",
    "applicant": "Ada",
    "letter": "",
}


def commit(id: str, stream: str, first: int, message: str, name: str, data: Document) -> Document:
    return {
        "_id": id,
        "stream": stream,
        "category": stream.partition("-")[0],
        "first": first,
        "time": TIME,
        "message": message,
        "events": [{"name": name, "schema": 1, "data": data}],
    }


def accepted(commits: list[Document]) -> list[Mapping[str, Any]]:
    return [
        line
        for one in commits
        for line in (
            {"intended": one["_id"], "command": one["message"]},
            {"accepted": one["_id"], "versions": {one["stream"]: one["first"]}, "seconds": 0.1},
        )
    ]


class Run:
    """What is left of a run in which nothing went wrong, to be damaged by a test."""

    def __init__(self) -> None:
        self.commits = [
            commit("0.3", "application-a0", 1, "Submit", "ApplicationSubmitted", APPLICATION),
            commit("0.1", "job-j0", 1, "PostJob", "JobPosted", JOB),
            commit("0.2", "job-j0", 2, "ReviseJob", "JobRevised", JOB | {"title": "Night baker"}),
        ]
        self.lines = accepted(self.commits)
        self.stored = {
            name: {key: {"_id": key, **document} for key, document in documents.items()}
            for name, documents in fold(self.commits).collections.items()
        }
        self.observed = Sequence()

    @property
    def account(self) -> Account:
        return account(self.lines)

    def check(self) -> Verdict:
        return check(self.account, self.commits, self.stored, self.observed)


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_run_in_which_all_is_right_has_no_problems(run: Run) -> None:
    verdict = run.check()
    assert verdict.problems == []
    assert (verdict.events, verdict.documents, verdict.wrong_documents) == (3, 4, 0)


def test_an_accepted_command_whose_event_is_not_in_the_log_is_lost(run: Run) -> None:
    del run.commits[2]
    assert any("0.2 was accepted" in one for one in run.check().lost)


def test_a_document_that_is_missing_or_behind_the_log_is_lost(run: Run) -> None:
    del run.stored["job_replicas"]["j0"]
    run.stored["job_board"]["j0"]["version"] = 1
    verdict = run.check()
    assert {one.partition(":")[0] for one in verdict.lost} == {"job_replicas j0", "job_board j0"}
    assert verdict.wrong_documents == 2


def test_a_count_beyond_the_log_was_applied_twice(run: Run) -> None:
    run.stored["job_board"]["j0"]["applications"] = 2
    verdict = run.check()
    assert len(verdict.twice) == 1
    assert (verdict.lost, verdict.wrong_documents) == ([], 1)


def test_an_effect_that_a_stream_can_have_once_is_found_twice(run: Run) -> None:
    run.commits.insert(
        1, commit("x", "application-a0", 2, "Submit", "ApplicationSubmitted", APPLICATION)
    )
    assert any("ApplicationSubmitted 2 times" in one for one in run.check().twice)


def test_what_was_accepted_after_a_backup_is_rightly_gone_once_that_was_restored(
    run: Run,
) -> None:
    later = commit("0.4", "job-j0", 3, "ReviseJob", "JobRevised", JOB)
    run.lines += [{"backup": True}, *accepted([later]), {"gone": ["0.4"]}]
    assert run.check().problems == []
    assert run.account.gone == {"0.4"}
    again = commit("0.4", "job-j0", 3, "ReviseJob", "JobRevised", JOB)
    run.lines += accepted([again])
    assert run.check().lost == ["0.4 was accepted with job-j0 at 3: not in the log"]


def test_what_was_accepted_before_a_backup_is_lost_if_a_restored_log_lacks_it(run: Run) -> None:
    later = commit("0.4", "job-j0", 3, "ReviseJob", "JobRevised", JOB)
    run.lines += [*accepted([later]), {"backup": True}, {"gone": ["0.4"]}]
    assert run.check().lost == ["0.4 was accepted with job-j0 at 3: not in the log"]


def test_what_is_gone_and_comes_back_unasked_is_found(run: Run) -> None:
    run.lines = [{"backup": True}, *run.lines, {"gone": ["0.2"]}]
    assert run.check().others == ["0.2 is in the log, and nobody sent it"]


def test_a_gap_in_a_stream_is_out_of_order(run: Run) -> None:
    run.commits[2]["first"] = 3
    assert any("job-j0: 3 after 1" in one for one in run.check().out_of_order)


def test_a_version_that_goes_backwards_is_out_of_order_and_one_written_again_comes_twice(
    run: Run,
) -> None:
    for version in (1, 3, 2, 2):
        run.observed.note({"collection": "job_board", "key": "j0", "changed": {"version": version}})
    verdict = run.check()
    assert verdict.out_of_order == ["job_board j0: version 2 after 3"]
    assert verdict.twice == ["job_board j0: version 2 was written twice"]


def test_each_collection_of_a_projection_has_an_order_of_its_own() -> None:
    observed = Sequence()
    for collection in ("job_replicas", "job_replicas__v1r2"):
        observed.note({"collection": collection, "key": "j0", "inserted": {"_version": 1}})
    assert (observed.changes, observed.backwards, observed.twice) == (2, [], [])


def test_after_a_restored_backup_versions_begin_anew() -> None:
    observed = Sequence()
    for version in (5, 1):
        observed.note({"collection": "job_board", "key": "j0", "changed": {"version": version}})
        observed.forget()
    assert (observed.changes, observed.backwards) == (2, [])


def test_a_field_that_says_something_else_makes_a_wrong_document(run: Run) -> None:
    run.stored["applicant_history"]["a0"]["status"] = "closed"
    verdict = run.check()
    assert verdict.wrong_documents == 1
    assert len(verdict.others) == 1


def test_a_refused_command_that_is_in_the_log_is_found(run: Run) -> None:
    run.lines[1] = {"refused": "0.3", "error": "JobIsClosed", "expected": True, "seconds": 0.1}
    assert "0.3 was refused, and is in the log" in run.check().others


def test_a_refusal_that_its_command_does_not_deserve_is_found(run: Run) -> None:
    run.lines.append({"intended": "0.4", "command": "ReviseJob"})
    run.lines.append(
        {"refused": "0.4", "error": "AggregateNotFound: j0", "expected": False, "seconds": 0.1}
    )
    assert run.check().others == ["unexpected: 0.4: AggregateNotFound: j0"]


def test_a_command_without_an_outcome_and_an_event_that_nobody_sent_are_found(run: Run) -> None:
    run.lines.append({"intended": "0.5", "command": "ReviseJob"})
    run.lines = [line for line in run.lines if "0.3" not in line.values()]
    others = run.check().others
    assert "0.5 never got an outcome" in others
    assert "0.3 is in the log, and nobody sent it" in others


def test_a_repeat_that_gets_another_receipt_was_applied_twice(run: Run) -> None:
    run.lines.append({"accepted": "0.2", "versions": {"job-j0": 3}, "seconds": 0.1})
    assert any("0.2: the receipt was" in one for one in run.check().twice)


def test_an_application_left_open_for_an_archived_job_is_found(run: Run) -> None:
    archived = commit("0.4", "job-j0", 3, "ArchiveJob", "JobArchived", {"job_id": "j0"})
    run.commits.append(archived)
    run.lines += accepted([archived])
    for name, documents in fold(run.commits).collections.items():
        run.stored[name] = dict(documents)
    assert run.check().problems == ["a0 is not closed, and its job is archived"]


def test_an_error_that_says_nothing_was_stored_is_compared_with_the_log(run: Run) -> None:
    for number, error in (("0.2", "StoreUnavailable: away"), ("0.1", "OutcomeUnknown: away")):
        run.lines.append({"unknown": number, "error": error, "try": number, "seconds": 0.1})
    assert run.check().problems == []  # a later try may have stored it
    for one in run.commits:
        one["headers"] = {"soak-try": one["_id"]}
    assert run.check().problems == [
        "0.2 ended in StoreUnavailable: away: and job-j0 has it",
    ]


def moved(id: str, *streams: tuple[str, int, str]) -> list[Document]:
    """A command's commits of purses: (stream, first, name) each."""
    return [
        commit(
            id if place == 0 else f"{id}/{place + 1}",
            stream,
            first,
            "MoveMoney",
            name,
            {"balance": FIRST_BALANCE} if name == "PurseOpened" else {"amount": 5},
        )
        for place, (stream, first, name) in enumerate(streams)
    ]


OPENED = [*moved("1", ("purse-a", 1, "PurseOpened")), *moved("2", ("purse-b", 1, "PurseOpened"))]
MOVED = moved("3", ("purse-a", 2, "MoneyLeft"), ("purse-b", 2, "MoneyCame"))
BALANCES: dict[str, Document] = {
    "a": {"balance": FIRST_BALANCE - 5},
    "b": {"balance": FIRST_BALANCE + 5},
}
NOTED = {"3/2:1": 1}


def test_money_that_moves_as_it_should_is_no_problem() -> None:
    assert check_purses([*OPENED, *MOVED], BALANCES, NOTED, None) == ([], [], [])
    both = {**NOTED, "3:1": 1}
    assert check_purses([*OPENED, *MOVED], BALANCES, both, TIME - SECOND) == ([], [], [])


def test_half_a_move_is_found() -> None:
    lost, _, others = check_purses([*OPENED, MOVED[0]], BALANCES, {}, None)
    assert lost == ["one half of a command is in the log: 3: {'MoneyLeft': 1}"]
    assert "2 purses hold 1995 together" in others


def test_an_event_that_no_handler_noted_is_lost_and_one_noted_again_came_twice() -> None:
    lost, twice, _ = check_purses([*OPENED, *MOVED], BALANCES, {"3:1": 2}, None)
    assert lost == ["3/2:1 was handled by nobody"]
    assert twice == ["3:1 was noted 2 times"]
    lost, _, _ = check_purses([*OPENED, *MOVED], BALANCES, NOTED, TIME - SECOND)
    assert lost == ["3:1 was handled by nobody"]


def test_a_note_of_an_event_that_the_log_lacks_is_wrong() -> None:
    _, _, others = check_purses([*OPENED, *MOVED], BALANCES, {**NOTED, "9:1": 1}, None)
    assert others == ["9:1 was noted, and is not in the log"]


def test_a_balance_that_the_log_does_not_make_is_wrong() -> None:
    _, _, others = check_purses([*OPENED, *MOVED], {**BALANCES, "a": {}}, NOTED, None)
    assert others == ["purse a holds None, and the log says 995"]
