"""The rights that docs/security.md gives: an API and a worker run with them, and with no more."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from bus import Bus, DeadLetters, Settings, Worker
from bus.delivery import projection_runner
from bus.operate.projections import Projections
from bus.stores.session import OWN_COLLECTIONS
from tests.databases import guarded_node, url_of
from tests.fault.least_rights import rights_of, role_of
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import problems, until
from tools.services import RabbitMQNode
from tools.services.mongodb import MongoNode


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoNode]:
    with guarded_node(tmp_path_factory.mktemp("guarded")) as node:
        yield node


@pytest.fixture
def role(guarded: MongoNode, unique: str) -> str:
    """The URL of a user who has the role of the page alone."""
    with MongoClient[dict[str, Any]](url_of(guarded, "root", "root")) as client:
        role = role_of(unique)
        privileges, roles = role["privileges"], role["roles"]
        client.admin.command("createRole", role["role"], privileges=privileges, roles=roles)
        client.admin.command("createUser", unique, pwd="secret", roles=[unique])
    return url_of(guarded, unique, "secret")


async def user(node: RabbitMQNode, name: str, rights: list[str]) -> str:
    """The URL of a user with these rights."""
    await asyncio.to_thread(node.control, "add_user", name, "secret")
    await asyncio.to_thread(node.control, "set_permissions", name, *rights)
    return node.url.replace("guest:guest", f"{name}:secret")


async def test_an_api_and_a_worker_run_with_the_least_rights_and_no_more(
    broker: RabbitMQNode, role: str, unique: str
) -> None:
    urls = {
        name: await user(broker, f"{unique}-{name}", rights_of(name, unique))
        for name in ("who declares", "API", "worker")
    }
    common = {"mongo_url": role, "mongo_db": unique, "sweep_every": 1.0}
    settings = {name: Settings(amqp_url=url, **common) for name, url in urls.items()}
    diary = Diary()
    async with build(settings["who declares"], diary, unique):
        pass
    never = {name: one.model_copy(update={"declare": "never"}) for name, one in settings.items()}
    async with (
        build(never["API"], Diary(), unique) as api,
        build(never["worker"], diary, unique) as bus,
        Worker(bus),
    ):
        receipt = await api.execute(Pay(wallet_id="a", amount=3, mood="needs the ladder"))
        found = await api.query(GetWallet(wallet_id="a"), after=receipt, timeout=20)
        assert found is not None
        assert (await api.request(Pay(wallet_id="a", amount=1))).result == 4
        await api.execute(Pay(wallet_id="b", amount=1, mood="rejects"))
        await until(lambda: ("wallet-a", 1) in diary.seen, "by way of the delay ladder", within=30)
        letters = DeadLetters(bus)

        async def given_up() -> bool:
            return len(await letters.list()) == 1

        await until(given_up, "one is given up")
        assert len((await letters.retry(all=True)).done) == 1
        await still_fine(api)
        await still_fine(bus)
    with MongoClient[dict[str, Any]](role) as client:
        assert client[unique]["wallets"].find_one({"_id": "b"}, {"total": 1}) == {
            "_id": "b",
            "total": 1,
        }


async def test_without_the_right_to_a_view_all_goes_on_and_that_is_told_once(
    guarded: MongoNode, unique: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with MongoClient[dict[str, Any]](url_of(guarded, "root", "root")) as client:
        (rights,) = role_of(unique)["privileges"]
        actions = [one for one in rights["actions"] if one != "createCollection"]
        may_make = [
            {"resource": {"db": unique, "collection": name}, "actions": ["createCollection"]}
            for name in (*OWN_COLLECTIONS, "wallets__v1")
        ]
        privileges = [{**rights, "actions": actions}, *may_make]
        client.admin.command("createRole", unique, privileges=privileges, roles=[])
        client.admin.command("createUser", unique, pwd="secret", roles=[unique])
    url = url_of(guarded, unique, "secret")
    settings = Settings(amqp_url="memory://", mongo_url=url, mongo_db=unique)
    told = ""

    def is_told() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return "not_shown_by_name" in told

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection_runner, "SHOW_EVERY", 0.0)
        async with build(settings, Diary(), unique) as bus, Worker(bus):
            receipt = await bus.execute(Pay(wallet_id="a", amount=3))
            assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=20)
            await until(is_told, "what is missing is told")
            receipt = await bus.execute(Pay(wallet_id="a", amount=3))
            assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=20)
            await asyncio.sleep(2)  # two more turns of the worker's
            await still_fine(bus)
    told += capsys.readouterr().err
    assert told.count("not_shown_by_name") == 1
    assert "grant the user of the URL the action createCollection" in told


async def test_without_the_right_to_move_a_view_it_is_made_anew(
    guarded: MongoNode, role: str, unique: str
) -> None:
    with MongoClient[dict[str, Any]](url_of(guarded, "root", "root")) as client:
        (rights,) = role_of(unique)["privileges"]
        actions = [one for one in rights["actions"] if one != "collMod"]
        changed = [{**rights, "actions": actions}]
        client.admin.command("updateRole", unique, privileges=changed)
    settings = Settings(amqp_url="memory://", mongo_url=role, mongo_db=unique)
    async with build(settings, Diary(), unique) as bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=20)
        collection = await Projections(bus).rebuild("wallets")
        with MongoClient[dict[str, Any]](role) as client:

            def shown() -> bool:
                views = client[unique].list_collections(filter={"type": "view"})
                return [one["options"]["viewOn"] for one in views] == [collection]

            await until(shown, "the view shows the other collection", within=60)


async def still_fine(bus: Bus) -> None:
    async def fine() -> bool:
        return not [one for one in await problems(bus) if "parked" not in one.what]

    await until(fine, f"no problem: {await bus.health()}")
