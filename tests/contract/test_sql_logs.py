"""What an event log in SQL promises besides, on each SQL server."""

import asyncio
import json
import math
import random
import string
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa

from bus.errors import ConcurrencyError, ConfigurationError, InvalidMessage
from bus.stores.event_log import Commit, Recorded
from bus.stores.sql import SqlEventLog, queries
from bus.stores.sql.dialects import dialect_for
from bus.stores.sql.engine import Held
from bus.stores.sql.log import PAGE
from bus.stores.sql.rows import sent
from bus.testing.contracts.event_log_contract import commit, events_of, next_of, outcome
from tests.contract.sql_logs import opened, other
from tests.waiting import patience

FAR = datetime(9000, 1, 1, tzinfo=UTC)


@pytest.fixture
async def log(sql_url: str) -> AsyncIterator[SqlEventLog]:
    async with opened(sql_url) as log:
        yield log


def at(log: SqlEventLog, seconds: float = 0) -> datetime:
    return log.now() + timedelta(seconds=seconds)


async def held_open(connection: Any, given: Commit) -> None:
    """Writes a commit in a transaction that stays open."""
    dialect = dialect_for(connection.dialect.name)
    await dialect.insert_all(connection, [sent(given).row], FAR)


async def arrived(log: SqlEventLog, since: datetime) -> set[str]:
    return {one.id async for one in log.arrived(["job"], since)}


# --- what commits late ---------------------------------------------------------------------------


async def test_nothing_that_is_being_written_is_settled(log: SqlEventLog, sql_url: str) -> None:
    assert log.now() - await log.settled() < timedelta(seconds=2)
    late = commit("late", "job-1", time=at(log, -100))
    async with other(sql_url) as connection:
        await held_open(connection, late)
        await log.append([commit("early", "job-2", time=at(log))])
        settled = await log.settled()
        assert late.time - timedelta(seconds=1) <= settled <= late.time
        assert await arrived(log, late.time) == {"early"}
        await connection.commit()
        assert await arrived(log, settled) == {"late", "early"}
    assert await log.settled() > late.time


async def test_what_is_rolled_back_holds_nothing_up(log: SqlEventLog, sql_url: str) -> None:
    async with other(sql_url) as connection:
        await held_open(connection, commit("late", "job-1", time=at(log, -100)))
        await connection.rollback()
    assert log.now() - await log.settled() < timedelta(seconds=2)


async def test_many_that_wait_to_be_published_are_settled(log: SqlEventLog, sql_url: str) -> None:
    many = [commit(f"c{n}", f"job-{n}", time=at(log, -50 - n / 1000)) for n in range(3000)]
    await asyncio.gather(*[log.append([one]) for one in many])
    assert log.now() - await log.settled() < timedelta(seconds=2)
    async with other(sql_url) as connection:
        await held_open(connection, commit("late", "job-late", time=at(log, -40)))
        assert log.now() - await log.settled() >= timedelta(seconds=40)


async def test_a_follower_gets_what_was_begun_early_and_committed_late(
    log: SqlEventLog, sql_url: str
) -> None:
    await log.append([commit("first", "job-0", time=at(log))])
    async with other(sql_url) as connection, aclosing(log.follow(1)) as following:
        await held_open(connection, commit("before", "job-1", time=at(log)))
        assert [one.id for one in await next_of(following, 1)] == ["first"]
        waiting = asyncio.ensure_future(next_of(following, 1))
        await asyncio.sleep(0.1)
        await log.append([commit("early", "job-3", time=at(log))])
        assert [one.id for one in await waiting] == ["early"]
        await connection.commit()
        assert [one.id for one in await next_of(following, 1)] == ["before"]


async def test_a_follower_gets_what_is_committed_while_it_asks_whether_all_is(
    log: SqlEventLog, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "SLACK", timedelta())
    settled = log._queries._settled
    async with other(sql_url) as connection, aclosing(log.follow(1)) as following:
        await held_open(connection, commit("before", "job-1", time=at(log)))
        await log.append([commit("early", "job-2", time=at(log))])
        assert [one.id for one in await next_of(following, 1)] == ["early"]

        async def late() -> datetime:
            await connection.commit()
            return await settled()

        monkeypatch.setattr(log._queries, "_settled", late)
        assert [one.id for one in await next_of(following, 1)] == ["before"]


async def test_a_follower_gets_what_was_begun_many_commits_before_it(
    log: SqlEventLog, sql_url: str
) -> None:
    async with other(sql_url) as connection, aclosing(log.follow(1)) as following:
        await held_open(connection, commit("before", "job", time=at(log)))
        many = [commit(f"c{n}", f"job-{n}", time=at(log)) for n in range(PAGE)]
        await asyncio.gather(*[log.append([one]) for one in many])
        await log.append([commit("last", "job-last", time=at(log, 1))])
        assert [one.id for one in await next_of(following, 1)] == ["last"]
        await connection.commit()
        assert [one.id for one in await next_of(following, 1)] == ["before"]


async def test_a_follower_gets_it_however_many_numbers_are_never_used(
    log: SqlEventLog, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "GAPS_AT_ONCE", 5)
    async with other(sql_url) as connection, other(sql_url) as in_vain:
        await held_open(connection, commit("before", "job", time=at(log)))
        for n in range(12):
            await held_open(in_vain, commit(f"never{n}", f"job-never{n}", time=at(log)))
            await in_vain.rollback()
            await log.append([commit(f"c{n}", f"job-{n}", time=at(log))])
        async with aclosing(log.follow(1)) as following:
            assert [one.id for one in await next_of(following, 1)] == ["c11"]
            waiting = asyncio.ensure_future(next_of(following, 1))
            await log.append([commit("more", "job-more", time=at(log))])
            assert [one.id for one in await waiting] == ["more"]
            await connection.commit()
            assert [one.id for one in await next_of(following, 1)] == ["before"]


async def test_what_comes_too_late_is_not_written(log: SqlEventLog) -> None:
    late = [sent(commit(f"late{n}", f"job-{n}", time=at(log))).row for n in range(3)]
    database = log._database
    async with Held(database).driver() as driver:
        with suppress(pymysql.IntegrityError):  # MySQL's way to refuse them
            assert await database.dialect.insert(driver, late, at(log, -1)) == set()
    assert await log.held(["late0", "late1", "late2"]) == set()


# --- conflicts -----------------------------------------------------------------------------------


async def test_a_place_that_somebody_holds_holds_up_nobody_else(
    log: SqlEventLog, sql_url: str
) -> None:
    async with other(sql_url) as connection:
        await held_open(connection, commit("theirs", "job-1", time=at(log)))
        mixed = [commit(f"c{n}", f"job-{n}", time=at(log)) for n in range(20)]
        tries = [asyncio.ensure_future(outcome(log, [one])) for one in mixed]
        await asyncio.sleep(0)
        later = [outcome(log, [commit(f"d{n}", f"job-d{n}", time=at(log))]) for n in range(20)]
        async with asyncio.timeout(4 * patience()):
            assert await asyncio.gather(*later) == ["stored"] * 20
        async with asyncio.timeout(8 * patience()):
            assert await asyncio.gather(*tries[:1], *tries[2:]) == ["stored"] * 19
        await connection.commit()
        assert await tries[1] == "ConcurrencyError"


async def test_two_processes_on_the_same_streams_lose_and_repeat_nothing(
    log: SqlEventLog, sql_url: str
) -> None:
    async with opened(sql_url) as second:
        won: dict[int, list[str]] = {}

        async def write(own: SqlEventLog, name: str) -> None:
            for place in range(1, 21):
                ids = [f"{name}-{stream}-{place}" for stream in range(8)]
                tries = [
                    own.append([commit(id, f"job-{stream}", first=place, time=at(own))])
                    for stream, id in enumerate(ids)
                ]
                got = await asyncio.gather(*tries, return_exceptions=True)
                for id, result in zip(ids, got, strict=True):
                    if isinstance(result, BaseException):
                        assert isinstance(result, ConcurrencyError), result
                    else:
                        won.setdefault(place, []).append(id)

        await asyncio.gather(write(log, "a"), write(second, "b"))
        for stream in range(8):
            stored = await log.read(f"job-{stream}")
            assert [one.first for one in stored] == [*range(1, 21)]
            assert all(one.id in won[one.first] for one in stored)
        assert sum(map(len, won.values())) == 160


# --- data ----------------------------------------------------------------------------------------


async def test_identifiers_are_compared_byte_by_byte(log: SqlEventLog) -> None:
    names = ["a", "A", "a ", " a", "ä", "ａ", "𝒳", "😀", "a\u0301", "á", "~", "z\uffff"]
    streams = [f"job-{name}" for name in names]
    for number, stream in enumerate(streams):
        await log.append([commit(f"id {number}", stream, time=at(log))])
        await log.append([commit(stream, f"other-{number}", time=at(log))])
    for number, stream in enumerate(streams):
        assert [one.id for one in await log.read(stream)] == [f"id {number}"]
        assert [one.stream for one in await log.find(stream)] == [f"other-{number}"]
    assert await log.heads(streams) == dict.fromkeys(streams, 1)
    pages = log.scan_streams("job")
    assert [one.stream async for page in pages for one in page] == sorted(streams)
    middle = sorted(streams)[4]
    rest = [one.stream async for page in log.scan_streams("job", middle) for one in page]
    assert rest == sorted(streams)[5:]


async def test_every_field_comes_back_as_it_was(log: SqlEventLog) -> None:
    texts = [
        "'",
        "\\",
        "\\'",
        "'\\",
        '"',
        "a\n\r\x1ab",
        "%s %%",
        "', 1); --",
        "{0}",
        "\\\\",
        "NULL",
        "𝒳",
    ]
    given = [
        commit(
            f"{text} {number}",
            f"job-{text} {number}",
            time=at(log),
            correlation_id=text,
            causation_id=text,
            message=text,
            digest=text,
            headers={text: text},
        )
        for number, text in enumerate(texts)
    ]
    await asyncio.gather(*[log.append([one]) for one in given])
    for one in given:
        assert await log.read(one.stream) == await log.find(one.id) == [one]


VALUES: dict[str, Any] = {
    "floats": [0.1, -0.0, 1.0, 1e22, 1e-300, 5e-324, 1.7976931348623157e308, 2.5, 123456789.123456],
    "integers": [0, 2**63 - 1, -(2**63), 2**53 + 1],
    "texts": ["1e400", "NaN", "\0", "a\0b", "\u2028", "𝒳😀", "'\"\\", "%s %(a)s :b $1", "", " "],
    "names": {"$a.b": 1, "": 2, " ": 3, "é": 4, "%": 5, "a'b": 6},
    "others": [True, False, None, [], {}, [[]]],
}


def shown(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


async def test_data_comes_back_as_it_was(log: SqlEventLog) -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    data = {**VALUES, "deep": deep}
    given = commit("a", events=(Recorded("JobPosted", 1, data),), result=data, time=at(log))
    await log.append([given])
    (found,) = await log.read("job-1")
    assert shown(found.events[0].data) == shown(found.result) == shown(data)
    assert math.copysign(1, found.result["floats"][1]) == -1
    assert type(found.result["floats"][2]) is float
    ((_, event),) = await events_of(log, "job-1")
    assert shown(event.data) == shown(data)


async def test_a_commit_as_large_as_may_be_is_stored(log: SqlEventLog) -> None:
    """15 MB of characters that are sent as one; MariaDB takes 16 MB by default."""
    large = commit("large", result="x" * 15_000_000, time=at(log))
    assert await log.append([large]) == [large]
    assert await log.find("large") == [large]


async def test_an_analyst_can_ask_for_fields(log: SqlEventLog, sql_url: str) -> None:
    data = {"title": "Cook"}
    await log.append([commit("a", events=(Recorded("JobPosted", 1, data),), time=at(log))])
    asked = (
        "SELECT events->0->'data'->>'title' FROM bus_commits"
        if sql_url.startswith("postgresql")
        else "SELECT JSON_VALUE(events, '$[0].data.title') FROM bus_commits"
    )
    async with other(sql_url) as connection:
        assert (await connection.execute(sa.text(asked))).scalar_one() == "Cook"


async def test_an_id_that_is_too_long_is_refused_alone(log: SqlEventLog) -> None:
    good = [commit(f"good{n}", f"good-{n}", time=at(log)) for n in range(5)]
    long = "".join(random.choices(string.ascii_letters, k=10_000))  # PostgreSQL packs keys
    bad = commit("bad", f"job-{long}", time=at(log))
    got = await asyncio.gather(*[outcome(log, [one]) for one in (*good, bad)])
    assert got == ["stored"] * 5 + ["InvalidMessage"]


async def test_what_json_has_not_is_refused(log: SqlEventLog) -> None:
    for wrong in (math.nan, [math.inf], {"a": -math.inf}):
        with pytest.raises(InvalidMessage, match="JSON"):
            await log.append([commit("bad", "bad-1", result=wrong, time=at(log))])


# --- tables --------------------------------------------------------------------------------------


async def test_processes_that_start_together_make_the_tables_once(sql_url: str) -> None:
    async def start(number: int) -> None:
        async with opened(sql_url) as log:
            await log.append([commit(f"c{number}", f"job-{number}", time=at(log))])

    await asyncio.gather(*map(start, range(5)))
    async with opened(sql_url) as log:
        assert await log.count(["job"]) == 5
        assert await log._migrations.problems() == []


async def test_tables_of_others_are_left_alone(sql_url: str) -> None:
    async with other(sql_url) as connection:
        await connection.execute(sa.text("CREATE TABLE orders (id INT)"))
        await connection.execute(sa.text("INSERT INTO orders VALUES (1)"))
        await connection.commit()
        async with opened(sql_url) as log:
            await log.append([commit("a", time=at(log))])
        assert (await connection.execute(sa.text("SELECT id FROM orders"))).scalar_one() == 1


async def test_another_table_of_a_name_of_ours_is_refused(sql_url: str) -> None:
    async with other(sql_url) as connection:
        await connection.execute(sa.text("CREATE TABLE bus_snapshots (id INT)"))
        await connection.commit()
    with pytest.raises(ConfigurationError, match="bus_snapshots is not the log's: it lacks stream"):
        async with opened(sql_url):
            pass


async def test_an_index_that_is_gone_refuses_appends_until_it_is_made_again(
    log: SqlEventLog, sql_url: str
) -> None:
    dropped = "DROP INDEX bus_commits_place" + (
        "" if "postgresql" in sql_url else " ON bus_commits"
    )
    await log.append([commit("a", time=at(log))])
    async with other(sql_url) as connection:
        await connection.execute(sa.text(dropped))
        await connection.commit()
        assert await log.examine() is None
        with pytest.raises(ConcurrencyError):
            await log.append([commit("b", time=at(log))])
        await connection.execute(sa.text(dropped))
        await held_open(connection, commit("b", time=at(log)))
        await connection.commit()
    problem = await log.examine()
    assert problem is not None
    assert "several rows hold the same" in problem
    with pytest.raises(Exception, match="bus_commits_place"):
        await log.append([commit("c", "job-2", time=at(log))])
