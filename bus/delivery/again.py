"""What comes again: deliveries that were handled already, and those that may end their workers."""

from collections import OrderedDict

from bus.codec import ATTEMPT, DEAD_LETTER, RETURNED, WAITED
from bus.data.payload import Document
from bus.stores.control import Control, change_note
from bus.transports.base import Delivery

REMEMBERED = 1000
MOST_BEGUN = 1000


class RecentlyHandled:
    """Remembers what was handled last: an acknowledgement gets lost with its channel.

    Only what the broker delivers again is recognised. What somebody sends again is handled again.
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
    """A copy on the delay ladder, and a retry of a dead letter, are other deliveries."""
    get = delivery.frame.headers.get
    return delivery.frame.id, get(ATTEMPT), get(WAITED), get(DEAD_LETTER)


class Suspects:
    """Counts how often the handling of a message has begun that the broker gave up once already.

    The broker counts whatever was not settled: also what merely waited in a worker that was killed,
    or in a channel that was closed. This counts only what was being handled then.
    """

    def __init__(self, control: Control, queue: str) -> None:
        self._control = control
        self._key = f"suspects/{queue}"

    async def begin(self, id: str) -> int:
        """How often it has begun, this time included. Raises: StoreUnavailable, OutcomeUnknown."""
        begun = await change_note(self._control, self._key, lambda note: _counted(note, id))
        return int(dict(begun["begun"])[id])

    async def over(self, id: str) -> None:
        """It was settled. Raises: StoreUnavailable, OutcomeUnknown."""

        def without(note: Document) -> Document:
            return {"begun": [pair for pair in note.get("begun", []) if pair[0] != id]}

        await change_note(self._control, self._key, without)


def _counted(note: Document, id: str) -> Document:
    """In pairs: an id may hold what no name of a field may."""
    counts = dict(note.get("begun", []))
    counts[id] = counts.get(id, 0) + 1
    return {"begun": [list(pair) for pair in counts.items()][-MOST_BEGUN:]}
