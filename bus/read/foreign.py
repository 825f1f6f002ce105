"""History: how much of other services' streams is here yet.

A service that begins to follow a category has nothing of what happened before. It asks the owner
for that, part by part; how far it is stands in one note for each category.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from bus.data.payload import Document
from bus.stores.control import Control, change_note


class Foreign(NamedTuple):
    """The categories that belong to other services, each with its owner.

    An event that has not arrived is waited for `gap_within` seconds, then asked for, and as long
    again before its stream counts as failing.
    """

    owners: Mapping[str, str] = {}
    gap_within: float = 30.0


OWN_ALONE = Foreign()
ANSWERS_FOR = timedelta(days=1)
"""An owner that told the token of a question within that time is expected to tell it always."""


class Progress(NamedTuple):
    """How far the history of a category is: all streams up to `place`, so many events; or done.

    `compared` is the time, by the owner's clock, up to which nothing of it is missed here.
    """

    category: str
    place: str = ""
    events: int = 0
    is_done: bool = False
    compared: datetime | None = None

    def document(self) -> Document:
        """The progress as JSON types."""
        return {**self._asdict(), "compared": self.compared and self.compared.isoformat()}


def _progress_from(category: str, document: Document) -> Progress:
    if not document:
        return Progress(category)
    compared = document["compared"]
    return Progress(**{**document, "compared": compared and datetime.fromisoformat(compared)})


class History:
    """The progress of all categories that are followed. `owners` names whose they are."""

    def __init__(self, control: Control, owners: Mapping[str, str]) -> None:
        self.owners = owners
        self._control = control

    async def progress(self, category: str) -> Progress:
        """Raises: StoreUnavailable."""
        return _progress_from(category, (await self._control.note(_key(category))).value)

    async def change(self, category: str, change: Callable[[Progress], Progress]) -> Progress:
        """Changes the progress, from what stands there. Raises: StoreUnavailable."""

        def changed(document: Document) -> Document:
            return change(_progress_from(category, document)).document()

        return _progress_from(category, await change_note(self._control, _key(category), changed))

    async def answered(self, category: str) -> None:
        """Notes that its owner told the token of a question. Raises: StoreUnavailable."""
        if not await self.answers(category, within=ANSWERS_FOR / 24):
            now = self._control.now().isoformat()
            await change_note(self._control, f"answers/{category}", lambda _: {"at": now})

    async def answers(self, category: str, within: timedelta = ANSWERS_FOR) -> bool:
        """Whether its owner is of a release that tells the tokens of questions: lately it did.

        Raises: StoreUnavailable.
        """
        value = (await self._control.note(f"answers/{category}")).value
        return bool(value) and self._control.now() - datetime.fromisoformat(value["at"]) < within

    async def missing(self, categories: Iterable[str]) -> list[Progress]:
        """Of these categories, those whose history is not all here. Raises: StoreUnavailable."""
        found = [await self.progress(one) for one in categories if one in self.owners]
        return [one for one in found if not one.is_done]


def _key(category: str) -> str:
    return f"followed/{category}"
