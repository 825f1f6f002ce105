"""A place for documents of one's own, in a few lines: a folder of JSON files."""

import os
from collections.abc import Sequence
from dataclasses import replace
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
from bus.assembly.backend import MakeBackend
from bus.observe.loops import Loops
from bus.stores.collections import Collections, Target, Writer
from bus.stores.memory import Saved, SavedCollections
from bus.testing.contracts.collections_contract import (
    CollectionsContract,
    ComparableContract,
    LoadsInBulkContract,
    WatchableContract,
)
from bus.testing.contracts.documents_contract import DocumentsContract, all_of, changing
from bus.testing.contracts.updates_contract import UpdatesContract
from bus.testing.contracts.values_contract import ValuesContract
from tests.service.wallet import GetWallet, Pay, WalletView, build
from tests.waiting import until

COLLECTION = "wallets__v1"


class JsonFiles(SavedCollections):
    """A file for each collection; whoever reads a file finds a whole one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def load(self) -> dict[str, Saved]:
        files = self._folder.glob("*.json")
        return {file.stem: Saved(**json_util.loads(file.read_text())) for file in files}

    def save(self, name: str, saved: Saved) -> None:
        new = self._folder / f"{name}.new"
        with new.open("w") as file:
            file.write(json_util.dumps(saved._asdict()))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._folder / f"{name}.json")

    def remove(self, name: str) -> None:
        (self._folder / f"{name}.json").unlink(missing_ok=True)


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

    def save(self, name: str, saved: Saved) -> None:
        super().save(name, saved)
        if name == COLLECTION and saved.documents:
            raise OutcomeUnknown("the process dies here")


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
