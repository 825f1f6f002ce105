"""Gives projections with a sink their places, and queries what they read these with."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from bus.dispatch.lending import Lender, Lenders
from bus.read.projection import Projection
from bus.rebuild.catalogue import Catalogue
from bus.stores.collections import Collections, able
from bus.stores.sink import Lend, Place, Sink
from bus.stores.sinks.divided import DividedCollections
from bus.stores.sinks.placed import PlacedCollections
from bus.stores.sinks.sent import SentPlace


def with_sinks(
    service: str, own: Collections, projections: Sequence[Projection[Any]]
) -> Collections:
    """Returns the service's own place, joined with those of sinks if there are any.

    Raises: ConfigurationError.
    """
    placed = {
        projection.name: PlacedCollections(projection.sink, _place(service, own, projection))
        for projection in projections
        if projection.sink is not None
    }
    return DividedCollections(own, placed) if placed else own


def _place(service: str, own: Collections, projection: Projection[Any]) -> Place:
    place = cast(Sink, projection.sink).place(service)
    if isinstance(place, SentPlace):
        place.keep_versions_in(own)
    return place


def lenders_of(
    collections: Collections, catalogue: Catalogue, projections: Sequence[Projection[Any]]
) -> Lenders:
    """Returns who lends queries what they read the collections of sinks with."""
    return Lenders(
        [
            Lender(projection, kind, partial(_lent, lend, collections, catalogue, projection))
            for projection in projections
            if projection.sink is not None
            for kind, lend in projection.sink.lends().items()
        ]
    )


@asynccontextmanager
async def _lent(
    lend: Lend,
    collections: Collections,
    catalogue: Catalogue,
    projection: Projection[Any],
) -> AsyncIterator[Any]:
    target = await catalogue.target(projection)
    placed: PlacedCollections = able(collections, Collections, target)
    async with lend(placed.place, target) as lent:
        yield lent
