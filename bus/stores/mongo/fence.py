"""The fence of a log: a validator that no document passes, so that the server itself refuses to
insert commits. It passes over updates of documents that are there: marks are still cleared.
"""

from typing import Any

from pymongo.errors import OperationFailure

from bus.data.payload import Document
from bus.stores.mongo.client import DURABLE, Database, settled
from bus.stores.mongo.failures import NAMESPACE_EXISTS, reading, writing

FENCED = 121
"""DocumentValidationFailure: what the server answers behind a fence."""
HANDLED = "handled"

NOTHING: Document = {"$nor": [{}]}
WITHIN = 90.0
"""Seconds: the server waits for transactions, which last a minute at most."""


class Fence:
    """The fence of a collection of commits, and of the marks beside it: a handler with a session
    would otherwise go on with what it writes."""

    def __init__(self, database: Database, commits: str) -> None:
        self._database = database
        self._commits = commits

    async def reason(self) -> str:
        """Returns why it is fenced; empty if it is not. Raises: StoreUnavailable."""
        async with reading():
            found = self._database.list_collections(filter={"name": self._commits})
            rows = await (await settled(found)).to_list(None)
        validator: Document = rows[0]["options"].get("validator", {}) if rows else {}
        return str(validator.get("$comment", "")) if "$nor" in validator else ""

    async def set(self, reason: str) -> None:
        """Raises: StoreUnavailable, OutcomeUnknown."""
        await self._validate({"$comment": reason, **NOTHING}, (HANDLED, self._commits))

    async def lift(self) -> None:
        """Raises: StoreUnavailable, OutcomeUnknown."""
        await self._validate({}, (HANDLED, self._commits))

    async def _validate(self, validator: Document, names: tuple[str, ...]) -> None:
        # Once a majority has it, a majority has each commit that came before it.
        rules: dict[str, Any] = {
            "validationLevel": "moderate",
            "validationAction": "error",
            "writeConcern": DURABLE.document,
        }
        async with writing(WITHIN):
            for name in names:  # the commits last, because they tell whether there is a fence
                await self._make(name)
                await self._database.command("collMod", name, validator=validator, **rules)

    async def _make(self, name: str) -> None:
        """Makes a collection if need be, or one made later would have no fence."""
        try:
            await self._database.create_collection(name, check_exists=False)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
