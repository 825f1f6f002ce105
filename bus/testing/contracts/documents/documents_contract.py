"""What every place for documents answers: filters, orders, groups; and what contracts write to it.

Subclasses give the fixture `collections`, open and empty; they close it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from bus.common import clock
from bus.data.payload import Document
from bus.errors import ProjectionError
from bus.stores.collections import (
    Changes,
    Collections,
    Fold,
    ReadUnit,
    Target,
    Write,
    Writer,
)
from bus.stores.grouping import COUNT, grouping_of

Update = Mapping[str, Any]
ALL: Update = {}

IN_DOCUMENTS = Target("jobs", "jobs", True)
IN_CHECKPOINTS = Target("board", "board", False)


def changing(*writes: tuple[str, Update | None], **versions: int) -> Fold:
    """A fold with fixed changes; `versions` by the streams' keys, in the category `job`."""
    changes = Changes(
        [Write(key, update) for key, update in writes],
        {f"job-{key}": version for key, version in versions.items()},
    )

    async def fold(unit: ReadUnit) -> Changes:
        return changes

    return fold


def counting(version: int, key: str = "a") -> Fold:
    """Folds the events of one stream up to `version`, each of which adds one."""

    async def fold(unit: ReadUnit) -> Changes:
        new = range(unit.versions[f"job-{key}"], version)
        if not new:
            return Changes([], {})
        return Changes([Write(key, {"$inc": {"n": 1}}) for _ in new], {f"job-{key}": version})

    return fold


async def written(writer: Writer, documents: Sequence[Document]) -> None:
    """Writes documents under the keys k0, k1, ..."""
    writes = [(f"k{n}", {"$set": one}) for n, one in enumerate(documents)]
    await writer.transact([], changing(*writes, **{key: 1 for key, _ in writes}))


async def all_of(collections: Collections, target: Target) -> list[Document]:
    """All documents that show, by key."""
    return await collections.documents(target).find({}, sort=[("_id", 1)])


class Place:
    """Fixtures: a target in the store under test, and a writer to it."""

    @pytest.fixture(params=[IN_DOCUMENTS, IN_CHECKPOINTS], ids=["in documents", "in checkpoints"])
    async def target(self, request: pytest.FixtureRequest, collections: Collections) -> Target:
        """Both places for the versions."""
        target: Target = request.param
        await collections.prepare(target)
        return target

    @pytest.fixture
    async def writer(self, collections: Collections, target: Target) -> AsyncIterator[Writer]:
        """A writer that has taken over."""
        writer = collections.writer(target, "queue")
        await writer.take_over()
        yield writer
        await writer.close()


class DocumentsContract(Place):
    """Reads of documents."""

    async def test_documents_are_filtered_sorted_and_paged(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        keys = [f"k{n}" for n in range(9)]
        writes = [(key, {"$set": {"n": n % 3, "m": n}}) for n, key in enumerate(keys)]
        await writer.transact([], changing(*writes, **dict.fromkeys(keys, 1)))
        documents = collections.documents(target)
        order = [("n", 1), ("m", -1)]
        found = await documents.find({"m": {"$gte": 2}}, sort=order, skip=1, limit=4)
        assert [one["m"] for one in found] == [3, 7, 4, 8]
        assert [one["m"] for one in await documents.find({}, sort=[("m", 1)], skip=7)] == [7, 8]
        assert await documents.count({"n": 1}) == 3
        assert await documents.find_one({"_id": "k4"}) == {"_id": "k4", "n": 1, "m": 4}

    async def test_what_is_no_number_is_found_and_is_neither_more_nor_less(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        nan = float("nan")
        await written(writer, [{"n": nan}, {"n": 1.0}, {"n": [nan]}, {}])
        documents = collections.documents(target)
        for asked, keys in (
            (nan, ["k0", "k2"]),
            ({"$gte": nan}, ["k0", "k2"]),
            ({"$gt": nan}, []),
            ({"$lt": 2}, ["k1"]),
            ({"$ne": nan}, ["k1", "k3"]),
        ):
            found = await documents.find({"n": asked}, sort=[("_id", 1)])
            assert [one["_id"] for one in found] == keys, asked

    async def test_different_values_come_once_each_in_their_order(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        values: list[Document] = [
            {"n": 1, "tags": ["x", "y"], "owner": {"cities": [{"name": "Ulm"}, {"name": "Bern"}]}},
            {"n": 1.0, "tags": [], "owner": {"cities": [{"name": "Ulm"}, 3, [{"name": "no"}]]}},
            {"n": None, "tags": "x", "owner": "nobody"},
            {"n": "one", "tags": ["z", ["x"]], "m": True},
            {"n": True, "m": 1},
        ]
        await written(writer, values)
        documents = collections.documents(target)
        assert await documents.distinct("n", {}) == [None, 1, "one", True]
        assert await documents.distinct("n", {"m": {"$exists": True}}) == ["one", True]
        assert await documents.distinct("tags", {}) == ["x", "y", "z", ["x"]]
        assert await documents.distinct("owner.cities.name", {}) == ["Bern", "Ulm"]
        assert await documents.distinct("owner.cities.1.name", {}) == ["Bern"]
        assert await documents.distinct("_id", {"m": {"$exists": False}}) == ["k0", "k1", "k2"]
        assert await documents.distinct("nothing", {}) == []
        with pytest.raises(ProjectionError):
            await documents.distinct("n", {"n": {"$what": 1}})

    async def test_documents_are_grouped_with_totals(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        values: list[Document] = [
            {"city": "Ulm", "pay": 3, "at": {"day": 1}},
            {"city": "Ulm", "pay": 4.5, "at": {"day": 2}},
            {"city": "Bern", "pay": 10, "at": {"day": 1}},
            {"city": None, "pay": "unknown"},
            {"pay": True, "at": {"day": 1}},
            {"city": "Bern", "at": {"day": 1}},
        ]
        await written(writer, values)
        documents = collections.documents(target)

        async def groups(
            *by: str, filter: Update = ALL, limit: int = 0, sort: Any = (), **totals: Any
        ) -> list[tuple[Any, ...]]:
            asked = {name: {total[0]: total[1]} for name, total in totals.items()}
            rows = await documents.group(grouping_of(by, asked, sort, limit), filter)
            assert all(list(row) == [*by, *totals] for row in rows)
            return [tuple(row.values()) for row in rows]

        jobs = ("$sum", 1)
        assert await groups("city", n=jobs) == [(None, 2), ("Bern", 2), ("Ulm", 2)]
        pay: Any = {
            "total": ("$sum", "$pay"), "mean": ("$avg", "$pay"),
            "least": ("$min", "$pay"), "most": ("$max", "$pay"),
        }  # fmt: skip
        assert await groups("city", **pay) == [
            (None, 0, None, "unknown", True),
            ("Bern", 10, 10.0, 10, 10),
            ("Ulm", 7.5, 3.75, 3, 4.5),
        ]
        most = await groups("at.day", "city", sort=[("n", -1)], limit=2, n=jobs)
        assert most == [(1, "Bern", 2), (None, None, 1)]
        assert await groups(filter={"city": "Ulm"}, n=jobs, day=("$max", "$at.day")) == [(2, 2)]
        assert await groups(filter={"city": "Rome"}, n=jobs) == []
        assert await groups("at.day", filter={"city": "Ulm"}) == [(1,), (2,)]
        with pytest.raises(ProjectionError):
            await groups("city", filter={"city": {"$what": 1}}, n=jobs)

    async def test_totals_are_of_the_type_that_mongodb_gives_them(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        values: list[Document] = [
            {"whole": 2**62, "tenth": 0.1, "list": [{"n": 1}, {"n": 3}], "key": [2, 1]},
            {"whole": 2**62, "tenth": 0.1, "list": [{"n": 2}], "key": [1, 2]},
            {"whole": 1, "tenth": 0.1, "list": 7, "key": [2, 1]},
        ]
        values = [{**one, "exact": Decimal("0.1")} for one in values]
        await written(writer, values)
        documents = collections.documents(target)
        asked = {name: {"$sum": f"${name}"} for name in ("whole", "tenth", "list", "list.n")}
        totals = {name.replace(".", "_"): one for name, one in asked.items()}
        totals |= {"exact": {"$sum": "$exact"}, "mean": {"$avg": "$exact"}}
        totals["first"] = {"$min": "$list.n"}
        (row,) = await documents.group(grouping_of((), totals, (), 0), {})
        assert row == {
            "whole": float(2**63), "exact": Decimal("0.3"), "mean": Decimal("0.1"),
            "tenth": pytest.approx(0.3, abs=1e-15), "list": 7, "list_n": 0,
            "first": [1, 3],
        }  # fmt: skip
        assert await documents.distinct("exact", {"exact": Decimal("0.1")}) == [Decimal("0.1")]
        counted = await documents.group(grouping_of("key", {"n": COUNT}, (), 0), {})
        assert sorted(map(repr, counted)) == [
            "{'key': [1, 2], 'n': 1}",
            "{'key': [2, 1], 'n': 2}",
        ]

    async def test_hidden_documents_are_in_no_group_and_no_value_of_theirs_shows(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await written(writer, [{"n": 1}, {"n": 2}])
        await writer.transact([], changing(("k1", None), k1=2, k5=1))
        documents = collections.documents(target)
        assert await documents.distinct("_id", {}) == ["k0"]
        assert await documents.group(grouping_of("n", {"count": COUNT}, (), 0), {}) == [
            {"n": 1, "count": 1}
        ]

    async def test_a_fold_groups_its_own_writes(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await written(writer, [{"n": 1}])
        found: list[Any] = []

        async def fold(unit: ReadUnit) -> Changes:
            await unit.documents.update("k1", {"$set": {"n": 2}})
            found.append(await unit.documents.distinct("n", {}))
            grouping = grouping_of((), {"sum": {"$sum": "$n"}}, (), 0)
            found.append(await unit.documents.group(grouping, {}))
            return Changes([], {"job-k1": 1})

        await writer.transact(["job-k1"], fold)
        assert found == [[1, 2], [{"sum": 3}]]

    async def test_times_come_back_in_utc(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        now = clock.now()
        await writer.transact([], changing(("a", {"$set": {"time": now}}), a=1))
        (found,) = await all_of(collections, target)
        assert found["time"] == now
