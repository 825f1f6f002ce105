"""What queries read the collections of sinks with: lent by type, for as long as a handler runs.

Where several projections lend the same type, the handler's annotation says which is meant:
`session: Annotated[AsyncSession, jobs_table]`.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from bus.common.signatures import Dependency, shown
from bus.declare.router import Handler
from bus.errors import ConfigurationError
from bus.messages import Envelope
from bus.read.projection import Projection


class Lender(NamedTuple):
    """Lends one type for one projection. Entering it raises: NotBuilt, StoreUnavailable."""

    projection: Projection[Any]
    kind: type
    lend: Callable[[], AbstractAsyncContextManager[Any]]


class Lenders:
    """All lenders of a bus."""

    def __init__(self, lenders: Sequence[Lender] = ()) -> None:
        self._lenders = lenders

    def of(self, handler: Handler, asked: Dependency) -> Lender | None:
        """Returns who lends what a query's handler asks for, or None.

        Raises: ConfigurationError if that is not clear.
        """
        found = [lender for lender in self._lenders if lender.kind is asked.kind]
        if meant := _meant(asked.written):
            named = [lender for lender in found if lender.projection in meant]
            if not named:
                raise ConfigurationError(
                    f"{handler.name}: parameter {asked.name!r}: projection {meant[0].name!r} lends "
                    f"no {shown(asked.kind)}, or is not in Bus(projections=[...])"
                )
            return named[0]
        if len(found) > 1:
            names = " and ".join(repr(lender.projection.name) for lender in found)
            raise ConfigurationError(
                f"{handler.name}: parameter {asked.name!r}: the projections {names} all lend "
                f"{shown(asked.kind)}; say which one, as in {asked.name}: "
                f"Annotated[{shown(asked.kind)}, the_projection]"
            )
        return found[0] if found else None

    def read_by(self, handler: Handler) -> list[Projection[Any]]:
        """Returns the projections that a query's handler reads by what it is lent."""
        lenders = [self.of(handler, asked) for asked in handler.dependencies]
        return list(dict.fromkeys(lender.projection for lender in lenders if lender))


def lending(
    call: Callable[..., Awaitable[Any]], values: Sequence[Callable[[Envelope], Any] | Lender]
) -> Callable[[Envelope], Awaitable[Any]]:
    """Returns a handler that is lent some of its arguments, while the others are given."""

    async def run(envelope: Envelope) -> Any:
        async with AsyncExitStack() as stack:
            arguments = [
                await stack.enter_async_context(value.lend())
                if isinstance(value, Lender)
                else value(envelope)
                for value in values
            ]
            return await call(envelope.message, *arguments)

    return run


def _meant(written: Any) -> list[Projection[Any]]:
    if get_origin(written) is not Annotated:
        return []
    return [entry for entry in get_args(written)[1:] if isinstance(entry, Projection)]
