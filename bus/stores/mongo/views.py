"""MongoDB views: what readers of the bus read, for everybody else, under a name that stays."""

import re
from typing import Any

from pymongo.errors import OperationFailure

from bus.data.payload import Document
from bus.errors import NotAllowed
from bus.stores.collections import Target
from bus.stores.documents.updates import HIDDEN, VERSION
from bus.stores.mongo.client import Database, settled
from bus.stores.mongo.failures import NAMESPACE_EXISTS, reading

NOT_AUTHORIZED = 13


async def show(database: Database, name: str, target: Target | None) -> str | None:
    """Points the view `name` at the target, or removes it; returns what prevents that, or None.

    Raises: StoreUnavailable.
    """
    if target is not None and target.collection == name:
        return (
            f"the collection {name!r} is of an earlier release, and read under its own name: it "
            f"shows hidden documents and fields of the bus's own (_hidden, _version), and stays as "
            f"it is once readers move; `bus projections rebuild`, and then drop it, to have a view "
            f"there"
        )
    try:
        async with reading():
            return await _shown(database, name, target)
    except NotAllowed as error:
        return f"there is no view {name!r} of what is read: {error}"


async def _shown(database: Database, name: str, target: Target | None) -> str | None:
    found = await _found(database, name)
    if found is None:
        if target is None:
            return None
        try:
            await database.command("create", name, **_options(target))
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
        found = await _found(database, name) or {}
    if not _is_own(name, found):
        return (
            f"there is no view {name!r} of what is read, because there is a {found.get('type')} of "
            f"that name; it is left as it is: rename or drop it (a collection of the projection's "
            f"with `bus projections drop`), or rename the projection"
        )
    if target is None:
        await database.drop_collection(name)
    elif not _options(target).items() <= found["options"].items():
        await _point(database, name, target)
    return None


async def _point(database: Database, name: str, target: Target) -> None:
    """Points the view at a target: atomically, or without the right to that, by a new view."""
    try:
        await database.command("collMod", name, **_options(target))
    except OperationFailure as error:
        if error.code != NOT_AUTHORIZED:
            raise
        await database.drop_collection(name)
        await database.command("create", name, **_options(target))


async def _found(database: Database, name: str) -> Document | None:
    cursor = await settled(database.list_collections(filter={"name": name}))
    found: list[Document] = await cursor.to_list(None)
    return found[0] if found else None


def _is_own(name: str, found: Document) -> bool:
    """Returns whether it is a view of one of the projection's collections."""
    on = found.get("options", {}).get("viewOn", "")
    return bool(re.fullmatch(rf"{re.escape(name)}(__v\d+(r\d+)?)?", on))


def _options(target: Target) -> dict[str, Any]:
    return {"viewOn": target.collection, "pipeline": _pipeline(target)}


def _pipeline(target: Target) -> list[Document]:
    if not target.versions_in_documents:
        return []
    return [{"$match": {HIDDEN: {"$exists": False}}}, {"$project": {VERSION: 0, HIDDEN: 0}}]
