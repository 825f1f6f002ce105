"""A place for documents of one's own, in a few lines: a folder of JSON files."""

import os
from collections.abc import Sequence
from dataclasses import replace
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest
from bson import json_util

from bus import (
    Backend,
    Bus,
    OutcomeUnknown,
    Projections,
    Settings,
    StoreUnavailable,
    Worker,
    default_backend,
)
from bus.assembly.backend import BringsBackend, MakeBackend
from bus.observe.loops import Loops
from bus.stores.collections import Changes, Collections, ReadUnit, Target, Writer
from bus.stores.memory import Saved, SavedCollections
from bus.testing.contracts.collections_contract import (
    CollectionsContract,
    ComparableContract,
    LoadsInBulkContract,
    WatchableContract,
)
from bus.testing.contracts.documents.documents_contract import (
    DocumentsContract,
    all_of,
    changing,
    counting,
)
from bus.testing.contracts.documents.updates_contract import UpdatesContract
from bus.testing.contracts.documents.values_contract import ValuesContract
from bus.testing.simulation.ground import built, shared_memory
from tests.service.wallet import GetWallet, Pay, WalletView, build
from tests.waiting import until

COLLECTION = "wallets__v1"


class JsonFiles(SavedCollections):
    """A file for each collection; whoever reads a file finds a whole one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def load(self) -> dict[str, Saved]:
        return {file.stem: loaded(file) for file in self._folder.glob("*.json")}

    def save(self, name: str, saved: Saved, before: str) -> bool:
        file, new = self._folder / f"{name}.json", self._folder / f"{name}.new"
        with (self._folder / "lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if before != (loaded(file).revision if file.exists() else ""):
                return False
            with new.open("w") as writing:
                writing.write(json_util.dumps(saved._asdict()))
                writing.flush()
                os.fsync(writing.fileno())
            new.replace(file)
        return True

    def remove(self, name: str) -> None:
        (self._folder / f"{name}.json").unlink(missing_ok=True)


def loaded(file: Path) -> Saved:
    """A collection as its file has it."""
    return Saved(**json_util.loads(file.read_text()))


async def opened(folder: Path, target: Target) -> JsonFiles:
    """As another process opens them."""
    files = JsonFiles(folder)
    await files.open()
    await files.prepare(target)
    return files


def with_files(usual: MakeBackend, folder: Path) -> MakeBackend:
    """What a bus stands on, with its documents in that folder."""

    def backend(service: str, projected: Sequence[str], loops: Loops) -> Backend:
        return replace(usual(service, projected, loops), collections=JsonFiles(folder))

    return backend


class TestJsonFiles(
    CollectionsContract,
    DocumentsContract,
    ValuesContract,
    UpdatesContract,
    LoadsInBulkContract,
    ComparableContract,
    WatchableContract,
):
    @pytest.fixture
    async def collections(self, tmp_path: Path) -> Collections:
        files = JsonFiles(tmp_path)
        await files.open()
        return files

    async def test_what_was_saved_is_there_for_the_next_process(
        self, collections: JsonFiles, target: Target, writer: Writer, tmp_path: Path
    ) -> None:
        await writer.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=3))
        await collections.set_seal({"turn": 1})
        again = JsonFiles(tmp_path)
        await again.open()
        await again.prepare(target)
        assert await all_of(again, target) == [{"_id": "a", "n": 1}]
        assert await again.versions(target, ["job-a"]) == {"job-a": 3}
        assert await again.identities() == await collections.identities()
        assert await again.seal() == {"turn": 1}

    async def test_a_standby_that_takes_over_goes_on_from_what_is_saved(
        self, collections: JsonFiles, target: Target, writer: Writer, tmp_path: Path
    ) -> None:
        standby = await opened(tmp_path, target)
        await writer.transact(["job-a"], counting(3))
        heir = standby.writer(target, "queue")
        await heir.take_over()
        assert await standby.versions(target, ["job-a"]) == {"job-a": 3}
        await heir.transact(["job-b"], counting(1, "b"))
        for one in (standby, await opened(tmp_path, target)):
            assert await all_of(one, target) == [{"_id": "a", "n": 3}, {"_id": "b", "n": 1}]

    async def test_writes_of_two_processes_by_turns_are_all_kept(
        self, collections: JsonFiles, target: Target, writer: Writer, tmp_path: Path
    ) -> None:
        other = await opened(tmp_path, target)
        others = other.writer(target, "queue")
        for version in range(1, 7):
            turn = (writer, others)[version % 2]
            await turn.transact(["job-a"], counting(version))
            await turn.transact(["job-b"], counting(version, "b"))
        for one in (collections, await opened(tmp_path, target)):
            assert await all_of(one, target) == [{"_id": "a", "n": 6}, {"_id": "b", "n": 6}]

    async def test_a_transaction_that_began_on_another_copy_begins_anew(
        self, collections: JsonFiles, target: Target, writer: Writer, tmp_path: Path
    ) -> None:
        other = await opened(tmp_path, target)
        fold, runs = counting(2), 0

        async def overtaken(unit: ReadUnit) -> Changes:
            nonlocal runs
            runs += 1
            changes = await fold(unit)
            if runs == 1:
                await other.writer(target, "queue").transact(["job-a"], counting(1))
                await writer.take_over()
            return changes

        await writer.transact(["job-a"], overtaken)
        assert (runs, await all_of(collections, target)) == (2, [{"_id": "a", "n": 2}])

    async def test_a_save_of_which_no_answer_came_is_not_repeated(
        self, target: Target, tmp_path: Path
    ) -> None:
        once = Dying(tmp_path)
        await once.open()
        await once.prepare(target)
        writer = once.writer(target, "queue")
        with pytest.raises(OutcomeUnknown):
            await writer.transact(["job-a"], counting(1))
        once.dies = False
        await writer.transact(["job-a"], counting(1))
        assert await all_of(once, target) == [{"_id": "a", "n": 1}]

    async def test_what_is_written_beside_a_worker_is_kept(
        self, collections: JsonFiles, target: Target, writer: Writer, tmp_path: Path
    ) -> None:
        late = JsonFiles(tmp_path)
        await late.open()
        another = target._replace(collection="another")
        await collections.prepare(another)
        await late.prepare(another)
        assert await late.identities() == await collections.identities()
        await writer.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=1))
        await late.insert(target, [{"_id": "b", "n": 2}])
        found = (await collections.whole(target, ["a"]))["a"]
        assert await collections.replace(target, "a", found, {**found, "n": 3})
        assert not await late.replace(target, "a", found, None)
        assert await all_of(late, target) == [{"_id": "a", "n": 3}, {"_id": "b", "n": 2}]
        await collections.set_seal({"turn": 2})
        await late.set_seal({"turn": 1})
        assert await late.seal() == {"turn": 2}
        await collections.drop(another)
        await late.writer(target, "queue").take_over()
        assert list(await late.identities()) == [target.collection]

    async def test_what_is_prepared_or_sealed_is_saved_first(
        self, collections: JsonFiles, target: Target, tmp_path: Path
    ) -> None:
        another = target._replace(collection="another")
        blocks = [tmp_path / "another.new", tmp_path / "checkpoints.new"]
        for block in blocks:
            block.mkdir()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="cannot be saved"):
                await collections.prepare(another)
            with pytest.raises(StoreUnavailable, match="cannot be saved"):
                await collections.set_seal({"turn": 1})
        assert await collections.seal() == {}
        for block in blocks:
            block.rmdir()
        await collections.prepare(another)
        await collections.set_seal({"turn": 1})
        again = JsonFiles(tmp_path)
        await again.open()
        assert await again.identities() == await collections.identities()
        assert await again.seal() == {"turn": 1}

    async def test_what_cannot_be_saved_has_not_happened(
        self, collections: JsonFiles, target: Target, writer: Writer, tmp_path: Path
    ) -> None:
        (tmp_path / f"{target.collection}.new").mkdir()
        with pytest.raises(StoreUnavailable, match="cannot be saved"):
            await writer.transact(["job-a"], changing(("a", {"$set": {"n": 1}}), a=1))
        assert await all_of(collections, target) == []
        assert await collections.versions(target, ["job-a"]) == {}


@pytest.fixture
def usual() -> MakeBackend:
    """What outlives a process here: the broker, the log, and the service's own records."""
    return default_backend(Settings.in_memory())


def wallets(make: MakeBackend) -> Bus:
    return build(Settings.in_memory(), backend=make)


async def test_a_bus_projects_into_files_and_goes_on_from_there_after_a_restart(
    usual: MakeBackend, tmp_path: Path
) -> None:
    for run in (1, 2, 3):
        async with wallets(with_files(usual, tmp_path)) as bus, Worker(bus):
            receipt = await bus.execute(Pay(wallet_id="a", amount=run))
            found = await bus.query(GetWallet(wallet_id="a"), after=receipt)
            assert found == WalletView(id="a", total=sum(range(run + 1)))
            assert await bus.runtime.continuity.problem() is None
            assert (await Projections(bus).audit("wallets")).differences == ()
    saved = JsonFiles(tmp_path).load()[COLLECTION]
    document = saved.documents["a"]
    assert (document["total"], document["payments"], document["_version"]) == (6, [1, 2, 3], 3)


class Dying(JsonFiles):
    """Its process dies once a batch is saved, before it is acknowledged."""

    dies = True

    def save(self, name: str, saved: Saved, before: str) -> bool:
        is_first = super().save(name, saved, before)
        if self.dies and name != "checkpoints" and saved.documents:
            raise OutcomeUnknown("the process dies here")
        return is_first


async def test_what_was_saved_before_a_crash_is_not_applied_again(
    usual: MakeBackend, tmp_path: Path
) -> None:
    def dying(service: str, projected: Sequence[str], loops: Loops) -> Backend:
        return replace(usual(service, projected, loops), collections=Dying(tmp_path))

    async def is_saved() -> bool:
        return bool(JsonFiles(tmp_path).load()[COLLECTION].documents)

    async with wallets(dying) as bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=5))
        await until(is_saved, "the batch is saved")
    async with wallets(with_files(usual, tmp_path)) as bus, Worker(bus):
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt) == WalletView(
            id="a", total=5
        )
        later = await bus.execute(Pay(wallet_id="a", amount=2))
        found = await bus.query(GetWallet(wallet_id="a"), after=later)
        assert found == WalletView(id="a", total=7)


async def test_a_standby_takes_over_with_all_that_was_saved(tmp_path: Path) -> None:
    settings = shared_memory()
    assert isinstance(settings, BringsBackend)
    one, two = [
        build(settings, backend=with_files(settings.backend, tmp_path)) for _ in ("one", "two")
    ]
    async with one, two, Worker(one) as first:
        await built(one)
        async with Worker(two):
            for wallet in ("a", "b"):
                receipt = await one.execute(Pay(wallet_id=wallet, amount=1))
                await one.query(GetWallet(wallet_id=wallet), after=receipt)
            await first.stop()
            late = await two.execute(Pay(wallet_id="late", amount=1))
            await two.query(GetWallet(wallet_id="late"), after=late)
            for wallet in ("a", "b", "late"):
                found = await two.query(GetWallet(wallet_id=wallet))
                assert found == WalletView(id=wallet, total=1)
    assert set(JsonFiles(tmp_path).load()[COLLECTION].documents) == {"a", "b", "late"}
