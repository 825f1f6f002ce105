"""Conversations in which something is missing, or is longer than a stack is deep."""

from datetime import timedelta
from typing import Any

from bus import DeadLetter, TraceEntry
from bus.common import clock
from bus.operate.conversation import traced
from bus.stores.event_log import Commit, Outgoing, Recorded

NOW = clock.now()


def commit(id: str, *events: str, cause: str = "", message: str = "Do", **more: Any) -> Commit:
    recorded = tuple(Recorded(name, 1, {}) for name in events)
    return Commit(
        id, f"job-{id}", "job", 1, recorded, NOW, "talk", cause or id, message=message, **more
    )


def letter(message_id: str, **fields: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "id": f"bank.mails/{message_id}", "kind": "message", "group": "g", "queue": "bank.mails",
        "handler": "bank.mails", "message": "Posted", "error": "Reject", "reason": "no address",
        "frames": (), "attempts": 1, "first_seen": NOW, "last_seen": NOW,
        "message_id": message_id,
    }  # fmt: skip
    return DeadLetter(**(given | fields))


def shown(rows: list[TraceEntry]) -> list[str]:
    return [f"{'  ' * one.depth}{one.name} {one.id} {one.note}".rstrip() for one in rows]


def test_nothing_is_nothing() -> None:
    assert traced([], []) == []


def test_what_another_log_began_is_told_by_what_followed_it_here() -> None:
    sent = (Outgoing("k", "Close", 1, {}),)
    rows = traced([commit("h", cause="far:1", message="Posted", outgoing=sent)], [])
    assert shown(rows) == ["Posted far:1 not in this log", "  Close k not carried out"]
    assert [one.kind for one in rows] == ["event", "command"]


def test_a_message_that_left_nothing_but_its_dead_letter_is_told() -> None:
    event = letter("far:1", stream="job-1", version=3)
    rows = traced([], [event, letter("c", message="Close")])
    assert shown(rows) == [
        "Posted far:1 not in this log",
        "  bank.mails bank.mails/far:1 Reject: no address",
        "Close c not carried out",
        "  bank.mails bank.mails/c Reject: no address",
    ]
    assert [one.kind for one in rows if not one.depth] == ["event", "command"]


def test_a_fault_of_a_message_of_which_nothing_else_is_left() -> None:
    rows = traced([commit("fault-1", "Fault", cause="c", message="Fault")], [])
    assert shown(rows) == ["? c not in this log", "  Fault fault-1:1"]


def test_several_streams_of_one_command_are_beneath_it() -> None:
    rows = traced([commit("c", "Opened"), commit("c/2", "Noted", "Closed", cause="c")], [])
    assert shown(rows) == ["Do c", "  Opened c:1", "  Noted c/2:1", "  Closed c/2:2"]


def test_events_behind_the_one_that_a_stream_is_parked_at_wait() -> None:
    parked = letter("", id="views/job-c", kind="stream", stream="job-c", version=2)
    rows = traced([commit("c", "A", "B", "C")], [parked])
    assert [one for one in shown(rows) if "views" in one] == [
        "    bank.mails views/job-c Reject: no address",
        "    bank.mails views/job-c waits behind version 2",
    ]
    elsewhere = parked._replace(stream="job-d")
    assert len(traced([commit("c", "A")], [elsewhere])) == 2


def test_a_conversation_of_many_turns_is_told_whole() -> None:
    turns = [
        commit(f"c{n}", outgoing=(Outgoing(f"c{n + 1}", "Do", 1, {}),))._replace(
            time=NOW + timedelta(seconds=n)
        )
        for n in range(3000)
    ]
    rows = traced(turns, [])
    assert [one.depth for one in rows] == [*range(3001)]
    assert rows[-1].note == "not carried out"


def test_ids_that_name_each_other_as_cause_are_told_once() -> None:
    """Nobody makes them; the log is not to be trusted to be a tree."""
    one = commit("a", cause="b", outgoing=(Outgoing("a", "Do", 1, {}),))
    two = commit("b", cause="a", outgoing=(Outgoing("b", "Do", 1, {}),))
    assert len(traced([one, two], [])) <= 2
