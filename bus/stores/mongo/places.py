"""The log's indexes: created when it is opened, and checked from time to time.

Without the unique one, two commands could take the same place in a stream: then nothing is written.
"""

from collections.abc import Sequence
from typing import Any

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from bus.errors import ConfigurationError
from bus.observe.health import Finding, fault
from bus.observe.log import Logger
from bus.stores.mongo.client import Collection
from bus.stores.mongo.examining import missing_indexes
from bus.stores.mongo.failures import DUPLICATE_KEY, reading
from bus.stores.mongo.indexes import need_indexes

PLACES = [("stream", 1), ("first", 1)]

log = Logger("bus.stores")


class Places:
    """The indexes of one collection of commits, the unique one first."""

    def __init__(self, commits: Collection, models: Sequence[IndexModel]) -> None:
        self._commits = commits
        self._models = list(models)

    async def make(self, within: float) -> None:
        """Creates missing indexes. Raises: StoreUnavailable, ConfigurationError."""
        async with reading(within):
            try:
                await self._commits.create_indexes(self._models)
            except OperationFailure as error:
                if error.code == DUPLICATE_KEY:
                    raise ConfigurationError(self._taken_twice(error)) from error
                await need_indexes(self._commits, self._models)

    async def are_unique(self) -> bool:
        """Returns whether the unique index exists. Raises: StoreUnavailable."""
        async with reading():
            indexes = await self._commits.index_information()
        return any(index["key"] == PLACES and index.get("unique") for index in indexes.values())

    async def examined(self) -> list[Finding]:
        """Returns which of them are missing. Raises: StoreUnavailable."""
        if not await self.are_unique() and await self._exists():
            what, _, follows = gone(self._commits.name).partition("; ")
            remedy = f"start a process of the service, or run `bus events recover APP`: {follows}"
            return [fault(what, remedy, "G6")]
        return await missing_indexes(self._commits, self._models)

    async def _exists(self) -> bool:
        async with reading():
            return bool(await self._commits.index_information())

    async def mended(self, within: float) -> str | None:
        """Creates the unique index again; returns why it cannot, or None.

        Raises: StoreUnavailable.
        """
        try:
            await self.make(within)
        except ConfigurationError as error:
            return str(error)
        log.warning("unique_index_remade", collection=self._commits.name)
        return None

    def _taken_twice(self, error: OperationFailure) -> str:
        place: dict[str, Any] = (error.details or {}).get("keyValue", {})
        return (
            f"MongoDB: the unique index (stream, first) of {self._commits.name!r} is gone and "
            f"cannot be made again, because commits take the same place: {place.get('stream')} at "
            f"{place.get('first')}, for one; nothing is stored until it is there. Keep one of them "
            f"(db.{self._commits.name}.find of that stream shows them), remove the other, and run "
            f"`bus events recover`"
        )


def gone(collection: str) -> str:
    """Returns what to say if the unique index is missing."""
    return (
        f"MongoDB: the unique index (stream, first) of {collection!r} is gone; nothing is stored "
        f"until it is made again, which a running process does within seconds if it can"
    )
