"""Opening: connects the parts of a bus, and starts what goes on for as long as it is open."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from bus.assembly.runtime import Parts
from bus.common.tasks import end, together
from bus.continuity.owner import check_owner
from bus.continuity.upkeep import Upkeep
from bus.errors import BusError, ConfigurationError, NotAllowed, TransportUnavailable
from bus.observe.log import Logger, configure_default
from bus.observe.loops import pauses
from bus.recovery.losses import Losses

log = Logger("bus")


@asynccontextmanager
async def opened(parts: Parts, *, looking: bool) -> AsyncGenerator[Parts, None]:
    """The parts, open in the running loop. RabbitMQ may be away, then events wait in the log;
    MongoDB may not. For `looking`, nothing is begun that changes what there is.

    Raises: StoreUnavailable, ConfigurationError, TopologyMismatch.
    """
    configure_default()
    async with AsyncExitStack() as stack:
        try:
            await _open(parts, stack, looking=looking)
        except NotAllowed as error:
            raise ConfigurationError(str(error)) from error
        parts.state.loop = asyncio.get_running_loop()
        stack.push_async_callback(_close, parts)
        yield parts


async def _close(parts: Parts) -> None:
    """From now on nobody begins anything with them; who still works is stopped."""
    state = parts.state
    state.loop, state.is_over = None, True
    if state.guests:
        log.warning("closed before its worker, which is stopped first", bus=parts.service)
    for end_guest in list(state.guests):
        await end_guest()


async def _open(parts: Parts, stack: AsyncExitStack, *, looking: bool) -> None:
    losses = Losses(parts)
    stack.push_async_callback(parts.disconnect)
    stack.push_async_callback(parts.event_log.close)
    stack.push_async_callback(parts.read_store.close)
    stack.push_async_callback(parts.effects.close)
    stack.push_async_callback(parts.catalogue.close)
    stack.push_async_callback(parts.freshness.close)
    stack.push_async_callback(parts.live.close)
    stack.push_async_callback(parts.transport.close)
    if parts.followed:
        stack.push_async_callback(parts.followed.close)
        await parts.followed.open(makes=not looking)
    await parts.read_store.open(makes=not looking)
    await check_owner(parts.read_store, parts.service, claims=not looking)
    await together(
        parts.event_log.open(makes=not looking),
        parts.catalogue.look() if looking else parts.catalogue.open(begins=False),
        parts.signing.open(makes=not looking),
        _look(parts) if looking else _open_effects(parts),
        *([] if looking else [_connect(parts, stack)]),
    )
    await parts.continuity.open(notes=not looking)
    parts.checkup.looks_only = looking
    upkeep = _upkeep(parts)
    loops = (
        (upkeep.run, "upkeep"),
        (losses.run, "losses"),
        (parts.continuity.run, "continuity"),
    )
    for run, name in () if looking else loops:
        stack.push_async_callback(_end, parts.loops.start(run, name))
    stack.push_async_callback(parts.publisher.close)
    stack.push_async_callback(parts.checkup.close)


def _upkeep(parts: Parts) -> Upkeep:
    upkeep = Upkeep(
        parts.transport, lambda: parts.lasting_topology, every=parts.settings.sweep_every
    )
    parts.checkup.add([upkeep.check])
    return upkeep


async def _open_effects(parts: Parts) -> None:
    if parts.dispatcher.lends_sessions:
        await parts.effects.open()


async def _look(parts: Parts) -> None:
    with suppress(TransportUnavailable):  # what needs the broker says so
        await parts.transport.open()


async def _connect(parts: Parts, stack: AsyncExitStack) -> None:
    """Connects and declares; where the broker is away, goes on trying in the background."""
    try:
        await parts.transport.open()
        await parts.catalogue.learned.wait()
        await parts.transport.declare(parts.topology)
        parts.publisher.start()
    except TransportUnavailable as error:
        log.warning("broker away; events wait in the log meanwhile", reason=str(error))
        task = parts.loops.start(lambda: _declare_later(parts), "declaring")
        stack.push_async_callback(_end, task)


async def _declare_later(parts: Parts) -> None:
    for pause in pauses():
        await asyncio.sleep(pause)
        try:
            await parts.transport.declare(parts.topology)
        except TransportUnavailable:
            continue
        except BusError as error:
            log.error("queues are not as they should be", reason=str(error))
        parts.publisher.start()
        return


async def _end(task: "asyncio.Task[None]") -> None:
    await end([task])
