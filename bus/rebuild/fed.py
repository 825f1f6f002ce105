"""Which documents certain streams feed."""

from collections.abc import Collection
from typing import Any

from bus.codec import envelopes_of
from bus.errors import ProjectionError
from bus.read.projection import Projection
from bus.rebuild.replay import NOTHING
from bus.stores.collections import Write
from bus.stores.event_log import Streams


async def keys_fed(projection: Projection[Any], streams: Collection[str], log: Streams) -> set[Any]:
    """Returns the keys of the documents. Raises: ProjectionError if that cannot be told."""
    if streams and any(handler.is_async for handler in projection.handlers.values()):
        raise ProjectionError(
            f"projection {projection.name!r}: async handlers do not tell beforehand "
            f"which documents they write; name the documents, or audit all"
        )
    registry = projection.registry()
    return {
        _keyed(projection, write)
        for stream in streams
        for commit in await log.read(stream)
        for envelope in envelopes_of(commit, registry)
        for write in await projection.changes(envelope, NOTHING)
    }


def _keyed(projection: Projection[Any], write: Write) -> Any:
    if projection.sink is None or projection.sink.names_row(write.update):
        return write.key
    raise ProjectionError(
        f"{write.by} returned a statement of SQL, which does not tell the rows that it changes; "
        f"name these (--document), or have all of them put right: bus projections audit APP "
        f"{projection.name} --all --repair"
    )
