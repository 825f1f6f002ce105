"""Creates indexes, and says what to do about one that exists with other properties."""

import re
from collections.abc import Sequence

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from bus.errors import ConfigurationError
from bus.stores.mongo.client import Collection
from bus.stores.mongo.failures import DUPLICATE_KEY, said

OPTIONS_DIFFER, KEYS_DIFFER = 85, 86
_CANNOT_BE_MADE = {OPTIONS_DIFFER, KEYS_DIFFER, 67, 171, 197, DUPLICATE_KEY}
_EXISTING = re.compile(r"different name: (\S+)|existing index: \{.* name: \"([^\"]+)\"")


async def need_indexes(collection: Collection, models: Sequence[IndexModel]) -> None:
    """Creates indexes that are indispensable. Raises: ConfigurationError, the driver's errors."""
    if problems := await make_indexes(collection, models):
        raise ConfigurationError(f"{'; '.join(problems)}; then start again")


async def make_indexes(collection: Collection, models: Sequence[IndexModel]) -> list[str]:
    """Creates indexes; returns why others cannot be created. Raises: the driver's errors."""
    try:
        if models:
            await collection.create_indexes(models)
        return []
    except OperationFailure as error:
        if error.code not in _CANNOT_BE_MADE:
            raise
    made = [await _make(collection, model) for model in models]
    return [problem for problem in made if problem]


async def _make(collection: Collection, model: IndexModel) -> str | None:
    try:
        await collection.create_indexes([model])
    except OperationFailure as error:
        if error.code not in _CANNOT_BE_MADE:
            raise
        return _described(collection.name, str(model.document["name"]), error)
    return None


def _described(collection: str, index: str, error: OperationFailure) -> str:
    where = f"the index {index!r} of the collection {collection!r}"
    if error.code == DUPLICATE_KEY:
        return f"{where} cannot be unique: documents hold the same twice; mend them"
    if error.code not in (OPTIONS_DIFFER, KEYS_DIFFER):
        return f"{where} cannot be made: {said(error)}; declare it otherwise"
    found = _EXISTING.search(str(error))
    existing = next(filter(None, found.groups()), index) if found else index
    return exists_otherwise(collection, index, existing)


def exists_otherwise(collection: str, index: str, existing: str) -> str:
    """Returns what to say of an index that cannot be made because of an `existing` one."""
    return (
        f"the index {index!r} of the collection {collection!r} exists with other options or keys "
        f"than are declared; drop it: db.getCollection({collection!r}).dropIndex({existing!r})"
    )
