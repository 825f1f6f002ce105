"""Repeated deliveries: of what was handled already, and of what may kill its worker."""

from collections import OrderedDict

from bus.codec import ATTEMPT, DEAD_LETTER, RETURNED, WAITED
from bus.data.payload import Document
from bus.stores.control import Control, change_note
from bus.transports.base import Delivery

REMEMBERED = 1000
MOST_BEGUN = 1000


class RecentlyHandled:
    """Remembers what was handled last, because acknowledgements are lost with their channel.

    It recognises only what the broker delivers again. What somebody sends again is handled again.
    """

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def add(self, delivery: Delivery) -> None:
        self._keys[_key(delivery)] = None
        if len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)

    def includes(self, delivery: Delivery) -> bool:
        comes_again = delivery.redelivered or RETURNED in delivery.frame.headers
        return comes_again and _key(delivery) in self._keys


def _key(delivery: Delivery) -> tuple[object, ...]:
    """Tells a copy on the delay ladder, or a retry of a dead letter, from the first delivery."""
    get = delivery.frame.headers.get
    return delivery.frame.id, get(ATTEMPT), get(WAITED), get(DEAD_LETTER)


class Suspects:
    """Counts how often handling began for messages that the broker gave up once already.

    The broker counts every unsettled delivery, even of messages that merely waited in a worker that
    was killed or a channel that was closed. This counts only those that were being handled.
    """

    def __init__(self, control: Control, queue: str) -> None:
        self._control = control
        self._key = f"suspects/{queue}"

    async def begin(self, id: str) -> int:
        """Returns how often it has begun, this time included.

        Raises: StoreUnavailable, OutcomeUnknown.
        """
        begun = await change_note(self._control, self._key, lambda note: _counted(note, id))
        return int(dict(begun["begun"])[id])

    async def over(self, id: str) -> None:
        """Forgets a message that was settled. Raises: StoreUnavailable, OutcomeUnknown."""

        def without(note: Document) -> Document:
            return {"begun": [pair for pair in note.get("begun", []) if pair[0] != id]}

        await change_note(self._control, self._key, without)


def _counted(note: Document, id: str) -> Document:
    """Counts in pairs: an id may hold characters that a field's name may not."""
    counts = dict(note.get("begun", []))
    counts[id] = counts.get(id, 0) + 1
    return {"begun": [list(pair) for pair in counts.items()][-MOST_BEGUN:]}
