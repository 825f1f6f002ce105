"""A database that was spoilt: `bus doctor` names it with its remedy, and what that does makes the
service well again."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from bus import Bus, Index, Recovery, Settings, Worker, clock
from bus.common.clock import Source
from bus.continuity import continuity
from bus.operate.doctor.doctor import Doctor
from bus.stores.sql import migrating
from bus.stores.sql.migrations import Migrations
from bus.stores.sql.schema import versions
from tests.databases import guarded_node, url_of
from tests.fault.diagnosis import amiss, one
from tests.fault.least_rights import role_of
from tests.service.sending import Pay as PayIn
from tests.service.sending import bank
from tests.service.test_indexes import with_index
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import until
from tools.faults import MongoSet
from tools.faults.sql import make_user
from tools.services import statements
from tools.services.mongodb import MongoNode, program
from tools.services.ports import LOOPBACK, answers, free_ports
from tools.services.sql_node import SQLNode

IN_MEMORY = "BUS_AMQP_URL is memory://"


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is written down at each look."""
    monkeypatch.setattr(continuity, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(continuity, "TURN_EVERY", 0)
    monkeypatch.setattr(continuity, "AGAIN_AFTER", 0.1)


@pytest.fixture
def settings(real_settings: Settings) -> Settings:
    """The broker has no part in these."""
    return real_settings.model_copy(update={"amqp_url": "memory://"})


@pytest.fixture
def database(settings: Settings) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](settings.mongo_url) as client:
        yield client[settings.mongo_db]


@pytest.fixture
async def bus(settings: Settings, unique: str) -> Bus:
    """A service that has worked, and does not now."""
    await worked(build(settings, Diary(), unique))
    return build(settings, Diary(), unique)


async def worked(bus: Bus, times: int = 3) -> None:
    async with bus, Worker(bus):
        for _ in range(times):
            receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
        runtime = bus.runtime
        await runtime.continuity.note_turn(await runtime.continuity.identities(), {})


async def found(bus: Bus) -> Any:
    """What is amiss, but for what is in memory on purpose."""
    return [finding for finding in await amiss(bus) if IN_MEMORY not in finding.what]


async def test_a_service_is_well(bus: Bus) -> None:
    assert await found(bus) == []


async def test_before_the_service_began_nothing_is_made_and_a_misspelt_database_neither(
    settings: Settings, unique: str, database: Any
) -> None:
    await found(build(settings, Diary(), unique))
    assert unique not in database.client.list_database_names()


async def test_in_another_services_database_health_leaves_no_lease(
    bus: Bus, database: Any, unique: str
) -> None:
    of_others = {"$set": {"service": "jobs"}}
    database["projections"].update_one({"_id": "commits/service"}, of_others)
    database["leases"].delete_many({})
    await found(bus)
    assert [lease["_id"] for lease in database["leases"].find()] == ["doctor"]


# -- the server


@pytest.fixture
def standalone_url(tmp_path: Path) -> Iterator[str]:
    """A server without a replica set."""
    (port,) = free_ports(1)
    options = [f"--dbpath={tmp_path}", f"--port={port}", f"--bind_ip={LOOPBACK}", "--nounixsocket"]
    with subprocess.Popen([program()[0], *options], stdout=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 60
        while not answers(LOOPBACK, port) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"mongodb://{LOOPBACK}:{port}"
        server.kill()


@pytest.mark.parametrize("options", ["", "/?replicaSet=rs0"])
async def test_a_server_without_a_replica_set_is_named_and_how_to_make_one(
    options: str, standalone_url: str, settings: Settings, unique: str
) -> None:
    url = f"{standalone_url}{options}"
    alone = build(settings.model_copy(update={"mongo_url": url}), Diary(), unique)
    (finding,) = await found(alone)
    assert (finding.part, finding.level) == ("database", "error")
    assert "stands alone" in f"{finding.what} {finding.remedy}"
    assert "--replSet" in finding.remedy
    assert "rs.initiate()" in finding.remedy


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[MongoSet]:
    with MongoSet(tmp_path) as replicas:
        yield replicas


async def test_a_majority_that_is_away_is_named_with_how_many_answer(
    replicas: MongoSet, settings: Settings, unique: str
) -> None:
    several = settings.model_copy(update={"mongo_url": replicas.url})
    await worked(build(several, Diary(), unique))
    bus = build(several, Diary(), unique)
    primary = replicas.await_primary()
    others = [node for node in replicas.nodes if node is not primary]
    for node in others:
        await asyncio.to_thread(node.kill)
    finding = one(await found(bus), "database", "a majority of the replica set rs0 does not")
    assert (finding.level, finding.promise) == ("error", "G1")
    assert "start its other members" in finding.remedy

    async def counts() -> bool:
        found_now = await found(bus)
        return any("1 of 3 members answer" in finding.what for finding in found_now)

    await until(counts, "the primary has stepped down")
    await asyncio.to_thread(replicas.start)
    assert await found(bus) == []


# -- what is in it


async def test_without_the_logs_unique_index_it_says_so_until_a_process_has_made_it(
    bus: Bus, database: Any
) -> None:
    database["commits"].drop_index("stream_1_first_1")
    finding = one(await found(bus), "log", "the unique index (stream, first) of 'commits' is gone")
    assert (finding.level, finding.promise) == ("error", "G6")
    assert "start a process of the service" in finding.remedy
    async with bus:
        pass
    assert await found(bus) == []


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ("checkpoints", "'checkpoints' was dropped"),
        ("wallets__v1", "'wallets__v1' was dropped"),
        ("restored", "the log is older than what was made of it"),
    ],
)
async def test_what_was_dropped_or_restored_is_well_after_recovery(
    spoilt: str, words: str, bus: Bus, database: Any, settings: Settings, unique: str
) -> None:
    if spoilt == "restored":
        database["commits"].delete_many({"first": {"$gt": 1}})
    else:
        database.drop_collection(spoilt)
    finding = one(await found(bus), "contents", words)
    assert (finding.level, finding.promise) == ("error", "G3")
    assert "`bus events recover APP`" in finding.remedy
    recovering = build(settings, Diary(), unique)
    async with recovering, Worker(recovering):
        await Recovery(recovering).run()
    assert await found(bus) == []


async def test_another_services_database_is_named_with_both_remedies(
    bus: Bus, database: Any, unique: str
) -> None:
    of_others = {"$set": {"service": "jobs"}}
    database["projections"].update_one({"_id": "commits/service"}, of_others)
    finding = one(await found(bus), "contents", "its database is that of the service 'jobs'")
    assert finding.level == "error"
    assert "BUS_MONGO_DB" in finding.remedy
    assert "bus claim APP --from jobs" in finding.remedy
    await bus.claim("jobs")
    assert await found(bus) == []


async def test_an_index_with_other_options_is_well_once_dropped_as_it_says(
    settings: Settings, unique: str, database: Any
) -> None:
    index = Index((("paid", 1),))
    await worked(with_index(settings, unique, index))
    other = with_index(settings, unique, index._replace(unique=True))
    finding = one(await found(other), "contents", "exists with other options or keys")
    assert finding.level == "warning"
    dropped = re.search(r"getCollection\('(\w+)'\)\.dropIndex\('(\w+)'\)", finding.remedy)
    assert dropped
    database[dropped[1]].drop_index(dropped[2])
    missing = one(await found(other), "contents", "is missing")
    assert "start a worker" in missing.remedy
    async with with_index(settings, unique, index) as bus, Worker(bus):
        pass
    assert await found(with_index(settings, unique, index)) == []


# -- rights and clocks


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoNode]:
    with guarded_node(tmp_path_factory.mktemp("guarded")) as node:
        yield node


async def test_a_right_that_was_revoked_is_named_with_the_command_that_grants_it(
    guarded: MongoNode, settings: Settings, unique: str
) -> None:
    with MongoClient[dict[str, Any]](url_of(guarded, "root", "root")) as client:
        role, privileges = unique, role_of(unique)["privileges"]
        client.admin.command("createRole", role, privileges=privileges, roles=[])
        client.admin.command("createUser", unique, pwd="secret", roles=[role])
        url = url_of(guarded, unique, "secret")
        theirs = settings.model_copy(update={"mongo_url": url, "mongo_db": unique})
        await worked(build(theirs, Diary(), unique))
        bus = build(theirs, Diary(), unique)
        assert await found(bus) == []
        taken = [{**privileges[0], "actions": ["insert", "createIndex"]}]
        client.admin.command("revokePrivilegesFromRole", role, privileges=taken)
        found_now = await found(bus)
        finding = one(found_now, "database", "may not insert, createIndex in the database")
        assert finding.level == "error"
        granted = re.search(
            r'getSiblingDB\("admin"\)\.grantPrivilegesToRole\("(\w+)", (.*)\)$', finding.remedy
        )
        assert granted
        given = json.loads(re.sub(r"(\w+):", r'"\1":', granted[2]))
        client.admin.command("grantPrivilegesToRole", granted[1], privileges=given)
    assert await found(bus) == []


@pytest.mark.parametrize("role", ["read", "readWrite", None])
async def test_who_has_none_but_built_in_roles_is_granted_another_one(
    role: str | None, guarded: MongoNode, settings: Settings, unique: str
) -> None:
    with MongoClient[dict[str, Any]](url_of(guarded, "root", "root")) as client:
        roles = [{"role": role, "db": unique}] if role else []
        client.admin.command("createUser", unique, pwd="secret", roles=roles)
        url = url_of(guarded, unique, "secret")
        theirs = settings.model_copy(update={"mongo_url": url, "mongo_db": unique})
        bus = build(theirs, Diary(), unique)
        finding = one(await found(bus), "database", "in the database")
        granted = re.search(
            r'getSiblingDB\("admin"\)\.grantRolesToUser\("(\w+)", (.*)\)$', finding.remedy
        )
        assert granted
        given = json.loads(re.sub(r"(\w+):", r'"\1":', granted[2]))
        client.admin.command("grantRolesToUser", granted[1], roles=given)
    await worked(build(theirs, Diary(), unique))
    assert await found(bus) == []


class Ahead(Source):
    """A clock that is 42 s ahead."""

    @staticmethod
    def seconds() -> float:
        return time.time() + 42


async def test_a_clock_that_is_off_is_named_with_how_much(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(clock, "source", Ahead())
        finding = one(await found(bus), "database", "clock is 42 s ahead of")
        assert finding.level == "warning"
        assert "NTP" in finding.remedy
    assert await found(bus) == []


async def test_a_log_with_commits_of_a_time_to_come_is_named(bus: Bus, database: Any) -> None:
    (newest,) = database["commits"].find().sort([("$natural", -1)]).limit(1)
    later = {
        "$set": {"time": newest["time"] + (newest["time"] - newest["time"].replace(year=2000))}
    }
    database["commits"].update_one({"_id": newest["_id"]}, later)
    assert one(await found(bus), "log", "a clock was set back").level == "warning"


# -- a log in SQL


async def test_a_service_without_mongodb_is_well_and_its_server_is_named(
    sql_url: str, unique: str
) -> None:
    alone = Settings(amqp_url="memory://", mongo_url="", log_url=sql_url)
    async with bank(alone, unique, None) as bus:
        await bus.execute(PayIn(account_id="a", amount=1))
    assert await found(bank(alone, unique, None)) == []
    told = await Doctor(bank(alone, unique, None)).examine(["database", "log"])
    assert {finding.part for finding in told} == {"database", "log"}
    assert any(re.match(r"(PostgreSQL|MariaDB) \d", finding.what) for finding in told)


async def test_tables_of_an_earlier_release_are_well_after_the_upgrade(
    sql_url: str, settings: Settings, unique: str
) -> None:
    in_sql = settings.model_copy(update={"log_url": sql_url})
    await worked(build(in_sql, Diary(), unique))
    bus = build(in_sql, Diary(), unique)
    assert await found(bus) == []
    async with migrating(sql_url) as migrations:
        await made_by_version_1(migrations)
        finding = one(await found(bus), "log", "have version 1, and this release needs 2")
        assert finding.level == "error"
        assert "`bus stores upgrade module:function`" in finding.remedy
        await migrations.upgrade()
    assert await found(bus) == []


async def made_by_version_1(migrations: Migrations) -> None:
    await migrations._database.write(versions.update().values(version=1))


async def test_a_right_in_sql_that_was_revoked_is_named_and_what_to_grant(
    sql_node: SQLNode, settings: Settings, unique: str
) -> None:
    sql_node.create_database(unique)
    url = make_user(sql_node, unique, unique)
    in_sql = settings.model_copy(update={"log_url": url})
    await worked(build(in_sql, Diary(), unique))
    bus = build(in_sql, Diary(), unique)
    assert await found(bus) == []
    table = "bus_commits" if statements.is_postgresql(url) else f"{unique}.*"
    statements.run(sql_node.url_of(unique), f"REVOKE UPDATE ON {table} FROM {unique}")
    finding = one(await found(bus), "log", "does not allow")
    assert (finding.level, finding.promise) == ("error", "G1")
    assert "grant" in finding.remedy
    assert "UPDATE" in finding.remedy
    statements.run(sql_node.url_of(unique), f"GRANT UPDATE ON {table} TO {unique}")
    assert await found(bus) == []
