"""Connects the parts of a bus, and starts what runs for as long as it is open."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from bus.assembly.runtime import Runtime
from bus.common.backoff import pauses
from bus.common.tasks import end, together
from bus.continuity.owner import check_log, check_owner, hand_over
from bus.continuity.upkeep import Upkeep
from bus.errors import BusError, ConfigurationError, NotAllowed, TransportUnavailable
from bus.observe.health import SERVICES
from bus.observe.log import Logger, configure_default
from bus.recovery.declared import note_declared, notes_queues
from bus.recovery.losses import Losses
from bus.settings import MEMORY
from bus.write import snapshots

log = Logger("bus")

attachers: list[Callable[[Runtime], Callable[[], None]]] = []
"""Who of the rooms above is told of each opening, before it opens anything: telemetry. Each returns
what ends that, and raises nothing."""


@asynccontextmanager
async def opened(runtime: Runtime, *, looking: bool) -> AsyncGenerator[Runtime, None]:
    """Opens the parts in the running loop, and closes them. RabbitMQ may be away: events then wait
    in the log. MongoDB may not. With `looking`, nothing is begun that changes anything.

    Raises: StoreUnavailable, ConfigurationError, TopologyMismatch.
    """
    configure_default()
    async with AsyncExitStack() as stack:
        for attach in attachers:
            stack.callback(attach(runtime))
        try:
            await _open(runtime, stack, looking=looking)
        except NotAllowed as error:
            raise ConfigurationError(str(error)) from error
        runtime.state.loop = asyncio.get_running_loop()
        stack.push_async_callback(_close, runtime)
        yield runtime


async def claim(runtime: Runtime, former: str) -> None:
    """Takes over the database of the service that was named `former`, of a bus that is closed.

    Raises: ConfigurationError (it belongs to another service), StoreUnavailable, OutcomeUnknown.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runtime.disconnect)
        stack.push_async_callback(runtime.control.close)
        stack.push_async_callback(runtime.event_log.close)
        await runtime.control.open()
        if runtime.log_notes:
            await runtime.event_log.open()
        await hand_over(
            runtime.control,
            runtime.service,
            former,
            log=runtime.log_notes,
            lasts=lasts(runtime),
        )


async def _close(runtime: Runtime) -> None:
    """Refuses further use of the parts, and stops what still works with them."""
    state = runtime.state
    state.loop, state.is_over = None, True
    if state.guests:
        log.warning("closed_before_worker", bus=runtime.service)
    for end_guest in list(state.guests):
        await end_guest()


def close_with(stack: AsyncExitStack, runtime: Runtime) -> None:
    """Has the stack close all parts. To be called before anything is opened, so that an opening
    that fails closes what it has opened."""
    stack.push_async_callback(runtime.disconnect)
    stack.push_async_callback(runtime.event_log.close)
    for place in runtime.places:
        stack.push_async_callback(place.close)
    stack.push_async_callback(runtime.effects.close)
    stack.push_async_callback(runtime.catalogue.close)
    stack.push_async_callback(runtime.freshness.close)
    stack.push_async_callback(runtime.live.close)
    stack.push_async_callback(runtime.transport.close)
    if runtime.followed:
        stack.push_async_callback(runtime.followed.close)


async def _open(runtime: Runtime, stack: AsyncExitStack, *, looking: bool) -> None:
    losses = Losses(runtime)
    close_with(stack, runtime)
    if runtime.followed:
        await runtime.followed.open(makes=not looking)
    for place in runtime.places:
        await place.open(makes=not looking)
    claims = not looking
    await together(
        check_owner(runtime.control, runtime.service, claims=claims and not runtime.log_notes),
        runtime.event_log.open(makes=not looking),
    )
    if runtime.log_notes:
        kept = runtime.control if lasts(runtime) else None
        await check_log(runtime.log_notes, kept, runtime.service, claims=claims)
        # Last, so that who is refused the log has taken nothing.
        await check_owner(runtime.control, runtime.service, claims=claims)
    if not looking:
        await _prepare(runtime)
    await together(
        runtime.catalogue.look() if looking else runtime.catalogue.open(begins=False),
        runtime.signing.open(makes=not looking),
        _look(runtime) if looking else _open_effects(runtime),
        *([] if looking else [_connect(runtime, stack)]),
    )
    if not looking and notes_queues(runtime):
        await note_declared(runtime)
    await runtime.continuity.open(notes=not looking)
    runtime.checkup.looks_only = SERVICES if looking else ()
    upkeep = _upkeep(runtime)
    loops = (
        (upkeep.run, "upkeep"),
        (losses.run, "losses"),
        (runtime.continuity.run, "continuity"),
    )
    for run, name in () if looking else loops:
        stack.push_async_callback(_end, runtime.loops.start(run, name))
    stack.push_async_callback(runtime.publisher.close)
    stack.push_async_callback(runtime.checkup.close)


def _upkeep(runtime: Runtime) -> Upkeep:
    upkeep = Upkeep(
        runtime.transport, lambda: runtime.lasting_topology, every=runtime.settings.sweep_every
    )
    runtime.checkup.add([upkeep.check])
    return upkeep


def lasts(runtime: Runtime) -> bool:
    """Returns whether the service's own records outlive the process."""
    return runtime.settings.mongo_url != MEMORY


async def _prepare(runtime: Runtime) -> None:
    prepared = (snapshots.prepare(runtime.event_log, kind) for kind in runtime.aggregates)
    await together(*prepared)


async def _open_effects(runtime: Runtime) -> None:
    if runtime.dispatcher.lends_sessions:
        await runtime.effects.open()


async def _look(runtime: Runtime) -> None:
    with suppress(TransportUnavailable):  # what needs the broker will say so
        await runtime.transport.open()


async def _connect(runtime: Runtime, stack: AsyncExitStack) -> None:
    """Connects and declares; if the broker is away, keeps trying in the background."""
    try:
        await runtime.transport.open()
        await runtime.catalogue.learned.wait()
        await runtime.transport.declare(runtime.topology)
        runtime.publisher.start()
    except TransportUnavailable as error:
        log.warning("broker_away", reason=str(error))
        task = runtime.loops.start(lambda: _declare_later(runtime), "declaring")
        stack.push_async_callback(_end, task)


async def _declare_later(runtime: Runtime) -> None:
    for pause in pauses():
        await asyncio.sleep(pause)
        try:
            await runtime.transport.declare(runtime.topology)
        except TransportUnavailable:
            continue
        except BusError as error:
            log.error("queues_mismatched", reason=str(error))
        runtime.publisher.start()
        return


async def _end(task: "asyncio.Task[None]") -> None:
    await end([task])
