"""The soak's plan comes from its seed, and its ledger survives whoever writes it."""

from itertools import islice
from pathlib import Path

import pytest

from tools.soak.account import account
from tools.soak.faults import KINDS
from tools.soak.ledger import Ledger, Progress, lines, mark_backup, mark_gone, progress
from tools.soak.log import LOGS, MONGODB, SQL
from tools.soak.plan import Plan
from tools.soak.processes import could_not_start
from tools.soak.schedule import Needs, chosen, needed, schedule
from tools.soak.script import script
from tools.soak.tail import Tail


def drawn(seed: int) -> list[tuple[str, float]]:
    plan = Plan(seed, 1.0, chosen("all"))
    return [(fault.kind.name, fault.draw.random()) for fault in islice(schedule(plan), 200)]


def test_a_seed_draws_the_same_faults_and_commands_again_and_another_seed_others() -> None:
    assert drawn(1) == drawn(1) != drawn(2)
    assert list(script(1, 5)) == list(script(1, 5)) != list(script(2, 5))


def test_a_fault_that_is_unknown_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="no fault 'wire'; there are wire_cut, "):
        chosen("wire")


def test_the_faults_say_what_they_need() -> None:
    everything = needed(chosen("all"))
    assert (everything.nodes, everything.members) == (1, 1)
    assert needed(chosen("leader_kill=2,primary_kill")) == Needs(3, 3, frozenset(), False)
    assert needed(chosen("none")) == Needs(1, 1, frozenset(), False)
    assert needed(chosen("store_password_rotated")).wires == {"store"}


def test_a_slow_log_has_a_wire_of_its_own_unless_it_is_beside_the_documents() -> None:
    assert needed(chosen("log_slow"), MONGODB).wires == {"store"}
    for log in SQL:
        assert needed(chosen("log_slow,store_wire_cut", log), log).wires == {"log", "store"}


def test_each_log_has_the_faults_that_it_can_have() -> None:
    of_each = {log: {name for name in chosen("all", log) if name.startswith("log")} for log in LOGS}
    assert of_each[MONGODB] >= {"log_kill", "log_stop", "log_freeze", "log_slow"}
    for log in SQL:
        assert of_each[log] > of_each[MONGODB] | {"log_read_only", "log_connections_ended"}
        with pytest.raises(ValueError, match=f"restore is for --log mongodb, not for {log}"):
            chosen("wire_cut,restore", log)
    with pytest.raises(ValueError, match="log_locked is for --log postgresql or mariadb"):
        chosen("log_locked")


@pytest.mark.parametrize(
    "last",
    [
        "StoreUnavailable: MongoDB is away",
        "ConfigurationError: MongoDB does not allow it: Authentication failed.",
        "bus.errors.ConfigurationError: MongoDB does not allow it: Authentication failed.",
        "bus.errors.ConfigurationError: PostgreSQL does not allow it: invalid_password (28P01)",
    ],
)
def test_what_could_not_start_since_a_database_was_away_or_let_nobody_in_may_start_again(
    last: str,
) -> None:
    assert could_not_start(f"Traceback:\n{last}\n".encode())


def test_what_ended_otherwise_may_not_start_again() -> None:
    assert not could_not_start(b"")
    assert not could_not_start(b"ConfigurationError: MongoDB does not allow it\nKeyError: 'a'\n")
    assert not could_not_start(b"worker_started\nStoreUnavailable: MongoDB is away\n")


def test_a_ledger_tells_what_is_done_and_what_has_no_outcome(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.intend("0.1", "PostJob", "t0.1")
        ledger.accepted("0.1", {"job-j0": 1}, 0.1)
        ledger.finished(0)
        ledger.intend("1.1", "PostJob", "t1.1")
        ledger.accepted("1.1", {"job-j1": 1}, 0.1)
        ledger.intend("1.2", "ReviseJob", "t1.2")
        ledger.unknown("1.2", "OutcomeUnknown: no answer", 0.1, "t1.2")
    assert progress(path) == Progress(2, {1: frozenset({"1.1"})})
    found = account(lines(path))
    assert found.unsettled == {"1.2"}
    assert found.unknown == {"OutcomeUnknown": 1}
    assert found.said == {}


def test_after_a_backup_was_restored_a_load_does_again_what_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        for author in range(3):
            for step in (f"{author}.1", f"{author}.2"):
                ledger.intend(step, "ReviseJob", step)
                ledger.accepted(step, {"job-j0": 1}, 0.1)
            ledger.finished(author)
    mark_backup(path)
    mark_gone(path, held={"0.1", "0.2", "1.1"})
    assert list(lines(path))[-2:] == [{"backup": True}, {"gone": ["1.2", "2.1", "2.2"]}]
    assert progress(path) == Progress(3, {1: frozenset({"1.1"}), 2: frozenset()})
    with Ledger(path) as ledger:
        ledger.accepted("1.2", {"job-j1": 2}, 0.1)
        ledger.finished(1)
    assert progress(path) == Progress(3, {2: frozenset()})


def test_a_kind_that_comes_so_often_at_most_comes_no_more() -> None:
    plan = Plan(1, 1.0, {"restore": 100.0, "poison": 1.0})
    names = [fault.kind.name for fault in islice(schedule(plan), 50)]
    assert names.count("restore") == KINDS["restore"].most == 2
    assert len(list(schedule(plan._replace(faults={"restore": 1.0})))) == 2


def test_a_ledger_tells_which_tries_ended_in_the_word_that_nothing_was_stored(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.intend("0.1", "PostJob", "first")
        ledger.unknown("0.1", "StoreUnavailable: away", 0.1, "first")
        ledger.intend("0.1", "PostJob", "second")
        ledger.unknown("0.1", "OutcomeUnknown: no answer", 0.1, "second")
        ledger.intend("0.1", "PostJob", "third")
        ledger.refused("0.1", "Taken", expected=True, seconds=0.1, attempt="third")
    assert account(lines(path)).said == {
        "first": ("0.1", "StoreUnavailable: away"),
        "third": ("0.1", "Taken"),
    }


def test_a_line_that_a_kill_tore_off_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.intend("0.1", "PostJob", "t0.1")
    with path.open("ab") as file:
        file.write(b'{"accepted":"0.')
    assert len(list(lines(path))) == 1
    with Ledger(path) as ledger:
        ledger.intend("0.1", "PostJob", "t0.1")
        ledger.accepted("0.1", {"job-j0": 1}, 0.1)
    assert account(lines(path)).accepted == {"0.1": {"job-j0": 1}}


def test_a_tail_counts_each_accepted_command_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    tail = Tail(path)
    assert tail.accepted == 0
    path.write_bytes(b'{"accepted":"1"}\n{"accep')
    assert tail.accepted == 1
    with path.open("ab") as file:
        file.write(b'ted":"2"}\n')
    assert tail.accepted == 2
