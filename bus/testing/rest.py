"""At rest: whether anything is still to be published, delivered, handled or projected."""

from datetime import timedelta
from typing import Any

from bus import ambient
from bus.messages import category_of
from bus.parts import Parts
from bus.read.projection import Projection
from bus.stores.base import Target
from bus.testing.process import Ground

HOPELESS = 3
"""After so many failures in a row a stream is not waited for."""


async def unrest(ground: Ground, parts: Parts) -> str:
    """What is not at rest, in words; empty when everything is.

    Raises: AssertionError for a stream that a projection cannot apply.
    """
    return (
        await _unpublished(ground)
        or _undelivered(ground, parts)
        or await _unprojected(ground, parts)
    )


async def _unpublished(ground: Ground) -> str:
    far = ambient.now() + timedelta(days=365)
    pending = await ground.event_log.pending(far, 10)
    return f"not confirmed: {', '.join(commit.id for commit in pending)}" if pending else ""


def _undelivered(ground: Ground, parts: Parts) -> str:
    waiting = {one.name: len(ground.broker.queue(one.name).ready) for one in parts.topology.queues}
    for inbox in ground.inboxes:
        waiting[inbox.queue] = waiting.get(inbox.queue, 0) + inbox.unsettled
    waiting["delays"] = ground.broker.delayed
    shown = ", ".join(f"{count} in {name}" for name, count in waiting.items() if count)
    return f"deliveries not settled: {shown}" if shown else ""


async def _unprojected(ground: Ground, parts: Parts) -> str:
    for one in parts.subscriptions:
        if isinstance(one.of, Projection) and (behind := await _behind(ground, parts, one.of)):
            return f"projection {one.name!r} is behind: {behind}"
    return ""


async def _behind(ground: Ground, parts: Parts, projection: Projection[Any]) -> str:
    lineage = parts.catalogue.known(projection)
    if lineage.building:
        return f"{lineage.building} is being built"
    target = parts.catalogue.target_of(projection, lineage.of(lineage.active))
    await _check_parked(ground, target)
    written: dict[str, int] = {}
    async for commit in ground.event_log.scan(projection.categories):
        if category_of(commit.stream) in projection.categories:
            written[commit.stream] = max(commit.last, written.get(commit.stream, 0))
    reached = await ground.read_store.versions(target, list(written))
    behind = {s: v for s, v in written.items() if reached.get(s, 0) < v}
    return ", ".join(f"{s} at {reached.get(s, 0)} of {v}" for s, v in behind.items())


async def _check_parked(ground: Ground, target: Target) -> None:
    for parked in await ground.read_store.parked(target):
        if parked.tries >= HOPELESS:
            raise AssertionError(
                f"projection {target.projection!r} cannot apply {parked.stream} at version "
                f"{parked.version}: {parked.error}"
            )
