"""How all collections treat updates and impossible queries: all alike."""

import re
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import pytest

from bus.errors import ProjectionError
from bus.stores.collections import Changes, Collections, ReadUnit, Target, Write, Writer


class Case(NamedTuple):
    """A document's fields (None where there is no document), an update, and what they become."""

    fields: dict[str, Any] | None
    update: Mapping[str, Any]
    becomes: dict[str, Any]


APPLIED = [
    Case({"t": None}, {"$min": {"t": 1}}, {"t": None}),
    Case({"t": None}, {"$max": {"t": 1}}, {"t": 1}),
    Case({"t": "s"}, {"$max": {"t": 1}}, {"t": "s"}),
    Case({"t": "s"}, {"$min": {"t": 1}}, {"t": 1}),
    Case({"t": 1}, {"$max": {"t": None}}, {"t": 1}),
    Case({"t": 1}, {"$min": {"t": None}}, {"t": None}),
    Case({"t": True}, {"$max": {"t": {"a": 1}}}, {"t": True}),
    Case({"t": [1]}, {"$min": {"t": {"a": 1}}}, {"t": {"a": 1}}),
    Case({"t": [1, 2]}, {"$max": {"t": [1, 3]}}, {"t": [1, 3]}),
    Case({"t": {"a": 2}}, {"$max": {"t": {"a": 1, "b": 1}}}, {"t": {"a": 2}}),
    Case({"t": 2**40}, {"$max": {"t": Decimal("1.5")}}, {"t": 2**40}),
    Case({"t": b"x"}, {"$max": {"t": "text"}}, {"t": b"x"}),
    Case(None, {"$addToSet": {"t": {"$each": [1, 1, 2]}}}, {"t": [1, 2]}),
    Case({"t": [1]}, {"$addToSet": {"t": 1.0}}, {"t": [1]}),
    Case({"t": [{"a": 1, "b": 2}]}, {"$addToSet": {"t": {"b": 2, "a": 1}}},
         {"t": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]}),
    Case({"t": [[1]]}, {"$addToSet": {"t": [1]}}, {"t": [[1]]}),
    Case(None, {"$pop": {"t": 1}}, {}),
    Case({"t": []}, {"$pop": {"t": -1}}, {"t": []}),
    Case({"t": [1, 2, 3]}, {"$pop": {"t": -1}}, {"t": [2, 3]}),
    Case({"a": {"t": [1, 2]}}, {"$pop": {"a.t": 1}}, {"a": {"t": [1]}}),
    Case(None, {"$pop": {"a.t": 1}}, {}),
    Case(None, {"$bit": {"n": {"or": 5}}}, {"n": 5}),
    Case({"n": 6}, {"$bit": {"n": {"and": 3, "xor": 8}}}, {"n": 10}),
    Case({"n": 2**40}, {"$bit": {"n": {"or": 1}}}, {"n": 2**40 + 1}),
    Case(None, {"$pull": {"t": 1}}, {}),
    Case({"t": [1, 2, 1, 1.0]}, {"$pull": {"t": 1}}, {"t": [2]}),
    Case({"t": [1, 5, 9]}, {"$pull": {"t": {"$gt": 4}}}, {"t": [1]}),
    Case({"t": [{"a": 1, "b": 2}, {"a": 2}]}, {"$pull": {"t": {"a": 1}}}, {"t": [{"a": 2}]}),
    Case(None, {"$pullAll": {"t": [1]}}, {}),
    Case({"t": [1, 2, 3]}, {"$pullAll": {"t": [1, 3]}}, {"t": [2]}),
    Case({"t": None}, {"$unset": {"t.x": ""}}, {"t": None}),
    Case({"t": "s"}, {"$unset": {"t.x.y": ""}}, {"t": "s"}),
    Case({"t": [1, 2]}, {"$unset": {"t.0": ""}}, {"t": [None, 2]}),
    Case({"t": [1]}, {"$unset": {"t.5": ""}}, {"t": [1]}),
    Case({"t": ["a"]}, {"$set": {"t.2": "c"}}, {"t": ["a", None, "c"]}),
    Case({"t": [{"n": 1}]}, {"$inc": {"t.0.n": 2, "t.1.n": 1}}, {"t": [{"n": 3}, {"n": 1}]}),
    Case(None, {"$set": {"t.0": "x"}}, {"t": {"0": "x"}}),
    Case({"n": 2**40}, {"$inc": {"n": 1}}, {"n": 2**40 + 1}),
    Case({"n": 3}, {"$mul": {"n": 2, "m": 2}}, {"n": 6, "m": 0}),
    Case({"t": [1, 2]}, {"$push": {"t": {"$each": [3], "$position": 0}}}, {"t": [3, 1, 2]}),
    Case({"t": [1, 2]}, {"$push": {"t": {"$each": [3], "$position": -1}}}, {"t": [1, 3, 2]}),
    Case({"t": [1, 2]}, {"$push": {"t": {"$each": [3], "$slice": -2}}}, {"t": [2, 3]}),
    Case({"t": [1, 2]}, {"$push": {"t": {"$each": [], "$slice": 1}}}, {"t": [1]}),
    Case({"t": [1, 2]}, {"$push": {"t": {"$each": [3], "$slice": 0}}}, {"t": []}),
    Case(None, {"$push": {"t": {"$each": [3, 1, 2], "$sort": 1}}}, {"t": [1, 2, 3]}),
    Case({"t": [{"a": 2}]}, {"$push": {"t": {"$each": [{"a": 1}], "$sort": {"a": 1}}}},
         {"t": [{"a": 1}, {"a": 2}]}),
    Case({"a": 1}, {"$rename": {"a": "b"}}, {"b": 1}),
    Case({"a": 1}, {"$rename": {"x": "b"}}, {"a": 1}),
    Case({"a": {"b": 1}}, {"$rename": {"a.b": "c.d"}}, {"a": {}, "c": {"d": 1}}),
    Case({"a": 1}, {"$set": {}}, {"a": 1}),
    Case(None, {"$setOnInsert": {"a": 1}, "$inc": {"b": 1}}, {"a": 1, "b": 1}),
    Case({"b": 1}, {"$setOnInsert": {"a": 1}, "$inc": {"b": 1}}, {"b": 2}),
]  # fmt: skip
REFUSED: list[tuple[dict[str, Any] | None, Mapping[str, Any]]] = [
    ({"t": None}, {"$set": {"t.x": 1}}),
    ({"t": "s"}, {"$set": {"t.x": 1}}),
    ({"t": 1}, {"$inc": {"t.x.y": 1}}),
    ({"t": []}, {"$set": {"t.x": 1}}),
    ({"t": [None]}, {"$set": {"t.0.x": 1}}),
    ({"t": ["s"]}, {"$push": {"t.0": 1}}),
    (None, {"$inc": {"a": True}}),
    (None, {"$inc": {"a": "1"}}),
    (None, {"$inc": {"a": None}}),
    (None, {"$mul": {"a": True}}),
    ({"a": True}, {"$inc": {"a": 1}}),
    ({"a": None}, {"$inc": {"a": 1}}),
    ({"a": [1]}, {"$mul": {"a": 1}}),
    ({"a": 2**63 - 1}, {"$inc": {"a": 1}}),
    ({"t": None}, {"$push": {"t": 1}}),
    ({"t": {}}, {"$push": {"t": 1}}),
    (None, {"$push": {"t": {"$each": 1}}}),
    (None, {"$push": {"t": {"$each": [1], "$slice": "x"}}}),
    (None, {"$push": {"t": {"$each": [1], "$bogus": 1}}}),
    ({"t": "s"}, {"$addToSet": {"t": 1}}),
    ({"t": None}, {"$addToSet": {"t": {"$each": []}}}),
    (None, {"$addToSet": {"t": {"$each": 1}}}),
    ({"t": None}, {"$pop": {"t": 1}}),
    ({"t": "s"}, {"$pop": {"t": 1}}),
    ({"t": "s"}, {"$pop": {"t.x": 1}}),
    ({"t": []}, {"$pull": {"t.x": 1}}),
    (None, {"$pop": {"t": 2}}),
    (None, {"$pop": {"t": "x"}}),
    ({"t": None}, {"$pull": {"t": 1}}),
    ({"t": 5}, {"$pull": {"t": {"$gt": 1}}}),
    ({"t": 1}, {"$pullAll": {"t": [1]}}),
    (None, {"$pullAll": {"t": 1}}),
    ({"n": "s"}, {"$bit": {"n": {"or": 1}}}),
    ({"n": 1.5}, {"$bit": {"n": {"or": 1}}}),
    (None, {"$bit": {"n": 1}}),
    (None, {"$bit": {"n": {"nor": 1}}}),
    (None, {"$bit": {"n": {"or": True}}}),
    (None, {"$set": {"t.$[].x": 1}}),
    ({"a": 1, "b": "s"}, {"$rename": {"a": "b.c"}}),
]
CONFLICTING: list[tuple[Mapping[str, Any], str, str]] = [
    ({"$set": {"a": 1}, "$inc": {"a": 1}}, r"\$set of 'a'", r"\$inc of 'a'"),
    ({"$set": {"a": 1}, "$unset": {"a": ""}}, r"\$set of 'a'", r"\$unset of 'a'"),
    ({"$set": {"a": 1}, "$setOnInsert": {"a": 2}}, r"\$set of 'a'", r"\$setOnInsert of 'a'"),
    ({"$push": {"t": 1}, "$set": {"t": []}}, r"\$push of 't'", r"\$set of 't'"),
    ({"$set": {"a": {"b": 1}, "a.b": 2}}, r"\$set of 'a'", r"\$set of 'a\.b'"),
    ({"$set": {"a.b.c": 1}, "$inc": {"a": 2}}, r"\$inc of 'a'", r"\$set of 'a\.b\.c'"),
    ({"$setOnInsert": {"a": {}}, "$set": {"a.b": 1}}, r"\$setOnInsert of 'a'", r"\$set of 'a\.b'"),
    ({"$rename": {"a": "b"}, "$set": {"b": 1}}, r"\$rename of 'b'", r"\$set of 'b'"),
    ({"$rename": {"a": "a.b"}}, r"\$rename of 'a'", r"\$rename of 'a\.b'"),
]
PARTS: list[tuple[dict[str, Any], str]] = [
    ({"skip": -1}, r"skip=-1: give a whole number"),
    ({"skip": None}, r"skip=None: give a whole number"),
    ({"limit": -1}, r"limit=-1: give a whole number"),
    ({"limit": 2.5}, r"limit=2\.5: give a whole number"),
    ({"limit": True}, r"limit=True: give a whole number"),
    ({"sort": [("n", "asc")]}, r"sort=.*'asc'.*-1 for the highest"),
    ({"sort": [("n", 2)]}, r"sort=.*write it as"),
    ({"sort": [("n", True)]}, r"sort=.*write it as"),
    ({"sort": [("n",)]}, r"sort=.*write it as"),
    ({"sort": [(5, 1)]}, r"sort=.*write it as"),
    ({"sort": "n"}, r"sort='n'.*write it as"),
    ({"sort": {"n": 1}}, r"sort=.*write it as"),
]


class UpdatesContract:
    """Tests updates. Supply the fixtures `collections`, `target` and `writer`."""

    async def test_an_update_makes_of_a_document_what_mongodb_makes_of_it(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        for number, case in enumerate(APPLIED):
            key = f"k{number}"
            before = [] if case.fields is None else [Write(key, {"$set": case.fields})]
            await put(writer, [*before, Write(key, case.update)])
            found = await collections.documents(target).find_one({"_id": key})
            assert found == {"_id": key, **case.becomes}, case

    async def test_what_mongodb_refuses_is_refused_with_key_operator_field_and_a_remedy(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        for number, (fields, update) in enumerate(REFUSED):
            key = f"k{number}"
            if fields is not None:
                await put(writer, [Write(key, {"$set": fields})])
            operator, paths = next(iter(update.items()))
            field = re.escape(f"{operator} of {next(iter(paths))!r}")
            words = rf"^a\.on_it: the update of '{key}', {field}.*; see that"
            with pytest.raises(ProjectionError, match=words):
                await put(writer, [Write(key, update, "a.on_it")])
            found = await collections.documents(target).find_one({"_id": key})
            assert found == (None if fields is None else {"_id": key, **fields}), update

    async def test_two_writes_of_one_field_are_refused_in_the_update_itself(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        async def fold(unit: ReadUnit) -> Changes:
            await unit.documents.update("a", {"$set": {"n": 1}})
            for update, one, _other in CONFLICTING:
                with pytest.raises(ProjectionError, match=f"'a' writes one field twice, {one}"):
                    await unit.documents.update("a", update)
            return Changes([], {"job-a": 1})

        await writer.transact(["job-a"], fold)
        for update, one, other in CONFLICTING:
            words = f"a\\.on_it: the update of 'b' writes one field twice, {one} and {other}, which"
            with pytest.raises(ProjectionError, match=words):
                await put(writer, [Write("b", update, "a.on_it")])
        assert await collections.documents(target).find({}) == [{"_id": "a", "n": 1}]

    async def test_fields_of_similar_names_are_no_conflict(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        update = {"$set": {"a.b": 1, "a.bc": 2, "ab": 3}, "$inc": {"a.c": 4, "a-b": 5}}
        await put(writer, [Write("k", update)])
        found = await collections.documents(target).find_one({"_id": "k"})
        assert found == {"_id": "k", "a": {"b": 1, "bc": 2, "c": 4}, "ab": 3, "a-b": 5}

    async def test_what_no_document_can_hold_is_refused_with_its_field(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        words = r"^a\.on_it: the update of 'b', \$inc of 'n': .*8-byte ints; docs/projections.md"
        with pytest.raises(ProjectionError, match=words):
            await put(writer, [Write("b", {"$set": {"a": 1}, "$inc": {"n": 2**70}}, "a.on_it")])
        with pytest.raises(ProjectionError, match=r"the filter.*8-byte ints"):
            await collections.documents(target).find({"n": 2**70})
        assert await collections.documents(target).count({}) == 0

    async def test_an_order_or_a_part_that_there_is_not_is_refused_at_the_call(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await put(writer, [Write("a", {"$set": {"n": 1}})])
        for asked, words in PARTS:
            with pytest.raises(ProjectionError, match=f"^{words}"):
                await collections.documents(target).find({}, **asked)
        filters: list[Any] = [None, "a", [], 5]
        for filter in filters:
            with pytest.raises(ProjectionError, match=r"the filter is of type.*give a dict"):
                await collections.documents(target).count(filter)

    async def test_a_filter_that_is_refused_is_told_by_its_fields(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        await put(writer, [Write("a", {"$set": {"n": 1}})])
        documents = collections.documents(target)
        for unknown in ({"n": {"$bogus": 1}}, {"$bogus": 1}):
            with pytest.raises(ProjectionError, match=r"the filter has \$bogus, .*none of MongoDB"):
                await documents.find(unknown)
        with pytest.raises(ProjectionError, match=r"the filter .'n': .'\$in'.*: see that"):
            await documents.find({"n": {"$in": 1}})

    async def test_a_handler_that_swallows_what_ended_its_transaction_stores_nothing(
        self, collections: Collections, target: Target, writer: Writer
    ) -> None:
        async def update(unit: ReadUnit) -> None:
            await unit.documents.update("a", {"$inc": {"n": 1}})

        async def find(unit: ReadUnit) -> None:
            await unit.documents.find({"n": {"$in": 1}})

        async def fold(refused: Callable[[ReadUnit], Awaitable[None]], unit: ReadUnit) -> Changes:
            await unit.documents.update("a", {"$set": {"n": "text"}})
            with pytest.raises(ProjectionError):
                await refused(unit)
            return Changes([], {"job-a": 1})

        for refused in (update, find):
            with pytest.raises(ProjectionError, match=r"had ended .*swallowed the error"):
                await writer.transact(["job-a"], partial(fold, refused))
        assert await collections.documents(target).find({}) == []


async def put(writer: Writer, writes: list[Write]) -> None:
    """Writes in one transaction."""

    async def fold(unit: ReadUnit) -> Changes:
        return Changes(writes, {f"job-{write.key}": 1 for write in writes})

    await writer.transact([f"job-{write.key}" for write in writes], fold)
