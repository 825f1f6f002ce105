"""Copies the states of aggregates that are stored by their state, along with a log."""

from collections.abc import AsyncIterator, Iterable

from bus.data.ids import category_of
from bus.stores.event_log import EventLog, Snapshot

PAGE = 200


class States:
    """The states beside one log, and what another one has of them."""

    def __init__(self, origin: EventLog, target: EventLog) -> None:
        self._origin = origin
        self._target = target
        self._categories: set[str] = set()
        """Those that have any."""

    async def copy_all(self, *, anew: bool) -> None:
        """Copies what differs; `anew`, forgets at first what the target has."""
        if anew:
            await self._target.forget_states()
        for category in await self._origin.categories():
            async for page in _pages(self._origin, category):
                self._categories.add(category)
                for state in await self._lacking(page):
                    await self._target.save_state(state)

    async def copy(self, streams: Iterable[str]) -> None:
        """Copies the states of streams that have commits which were copied."""
        for stream in streams:
            if category_of(stream) in self._categories:
                state = await self._origin.state(stream)
                if state is not None:
                    await self._target.save_state(state)

    async def _lacking(self, page: list[Snapshot]) -> list[Snapshot]:
        found = [(state, await self._target.state(state.stream)) for state in page]
        return [state for state, there in found if state != there]


async def _pages(log: EventLog, category: str) -> AsyncIterator[list[Snapshot]]:
    after = ""
    while page := await log.states(category, {}, PAGE, after=after):
        yield page
        after = page[-1].stream
