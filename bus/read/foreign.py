"""Foreign: how much of other services' streams has arrived.

A service that begins to follow a category has none of its earlier events. It asks the owner for
them, part by part; a note for each category holds the progress.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from bus.data.payload import Document
from bus.errors import EventMissing
from bus.stores.control import Control, change_note
from bus.transports.feed import Feed


class Foreign(NamedTuple):
    """The categories that belong to other services, each with its owner.

    A missing event is waited for `gap_within` seconds, then asked for and waited for as long again;
    then its stream counts as failing. Of the categories in `feeds`, events come from there, and
    nothing is asked for.
    """

    owners: Mapping[str, str] = {}
    gap_within: float = 30.0
    feeds: Mapping[str, Feed] = {}

    @property
    def exchanges(self) -> dict[str, str]:
        """The owners of the categories that come by their owner's own exchange."""
        return {name: owner for name, owner in self.owners.items() if name not in self.feeds}

    def missing(self, category: str, version: int) -> EventMissing | None:
        """Returns the error for an event that has not arrived, if another service's."""
        owner, feed = self.owners.get(category), self.feeds.get(category)
        if owner is None:
            return None
        why = (
            feed.missing()
            if feed
            else f"it is asked for again and again: is a worker of {owner!r} running?"
        )
        return EventMissing(
            f"version {version} has not arrived from service {owner!r}, and later ones have; {why}"
        )


OWN_ALONE = Foreign()
ANSWERS_FOR = timedelta(days=1)
"""An owner that returned a question's token within that time is expected to return each one."""


class Progress(NamedTuple):
    """How much of a category's history is here: all streams up to `place`, `events` in number, or
    all of it (`is_done`).

    `compared` is the time, by the owner's clock, up to which no event of it is missing here.
    """

    category: str
    place: str = ""
    events: int = 0
    is_done: bool = False
    compared: datetime | None = None

    def document(self) -> Document:
        """Returns the progress as JSON types."""
        return {**self._asdict(), "compared": self.compared and self.compared.isoformat()}


def _progress_from(category: str, document: Document) -> Progress:
    if not document:
        return Progress(category)
    compared = document["compared"]
    return Progress(**{**document, "compared": compared and datetime.fromisoformat(compared)})


class History:
    """The progress of all followed categories. `owners` maps each to the service that owns it;
    those of `asked` are asked for it, those of the others `fed` to this service."""

    def __init__(
        self, control: Control, owners: Mapping[str, str], fed: Collection[str] = ()
    ) -> None:
        self.owners = owners
        self.asked = {name: owner for name, owner in owners.items() if name not in fed}
        self._control = control

    async def progress(self, category: str) -> Progress:
        """Returns the progress of a category. Raises: StoreUnavailable."""
        return _progress_from(category, (await self._control.note(_key(category))).value)

    async def change(self, category: str, change: Callable[[Progress], Progress]) -> Progress:
        """Changes the stored progress; returns the result. Raises: StoreUnavailable."""

        def changed(document: Document) -> Document:
            return change(_progress_from(category, document)).document()

        return _progress_from(category, await change_note(self._control, _key(category), changed))

    async def answered(self, category: str) -> None:
        """Notes that the owner returned a question's token. Raises: StoreUnavailable."""
        if not await self.answers(category, within=ANSWERS_FOR / 24):
            now = self._control.now().isoformat()
            await change_note(self._control, f"answers/{category}", lambda _: {"at": now})

    async def answers(self, category: str, within: timedelta = ANSWERS_FOR) -> bool:
        """Returns whether the owner's release returns the tokens of questions: it did so lately.

        Raises: StoreUnavailable.
        """
        value = (await self._control.note(f"answers/{category}")).value
        return bool(value) and self._control.now() - datetime.fromisoformat(value["at"]) < within

    async def note_heard(self, category: str, since: datetime, *, anew: bool = False) -> None:
        """Notes since when handlers hear of a category, unless that is noted and not to be `anew`.
        What happened before is history. Raises: StoreUnavailable."""
        noted = {"since": since.isoformat()}
        await change_note(
            self._control, f"heard/{category}", lambda found: noted if anew else found or noted
        )

    async def heard_since(self, category: str) -> datetime:
        """Returns since when handlers hear of a category: from now on, if nobody has noted it.

        Raises: StoreUnavailable.
        """
        value = (await self._control.note(f"heard/{category}")).value
        return datetime.fromisoformat(value["since"]) if value else self._control.now()

    async def missing(self, categories: Iterable[str]) -> list[Progress]:
        """Returns the progress of those categories whose history is incomplete here.

        Raises: StoreUnavailable.
        """
        found = [
            await self.progress(category) for category in categories if category in self.owners
        ]
        return [progress for progress in found if not progress.is_done]


def _key(category: str) -> str:
    return f"followed/{category}"
