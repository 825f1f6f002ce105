"""Dead letters in memory."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from operator import itemgetter
from threading import Lock

from bus.common import clock
from bus.data.payload import Document
from bus.stores.deadletters import FAILED, GROUPED, KeepsLetters


class MemoryLetters(KeepsLetters):
    """Dead letters by `_id`, in the order in which they were last seen."""

    def __init__(self) -> None:
        self._letters: dict[str, Document] = {}
        self._lock = Lock()

    async def add_dead_letter(self, letter: Document, times: int = 1) -> None:
        now, letter = clock.now(), deepcopy(letter)
        id = letter["_id"]
        with self._lock:
            stored = self._letters.pop(id, {**letter, "first_seen": now, "seen": 0})
            stored |= {field: letter[field] for field in FAILED if field in letter}
            self._letters[id] = {**stored, "seen": stored["seen"] + times, "last_seen": now}

    async def dead_letters(
        self,
        limit: int = 100,
        *,
        skip: int = 0,
        where: Mapping[str, str] = {},
        fields: Sequence[str] = (),
    ) -> list[Document]:
        found = self._letters_where(where)[::-1][skip : skip + limit]
        if fields:
            found = [{k: v for k, v in letter.items() if k in ("_id", *fields)} for letter in found]
        return deepcopy(found)

    async def dead_letter_ids(self, where: Mapping[str, str] = {}) -> list[str]:
        found = sorted(self._letters_where(where), key=itemgetter("first_seen"))
        return [letter["_id"] for letter in found]

    async def dead_letter_groups(self) -> list[Document]:
        groups: dict[str, Document] = {}
        for letter in list(self._letters.values()):
            group = groups.pop(letter["fingerprint"], {"count": 0, **letter})
            groups[letter["fingerprint"]] = {
                **{field: letter[field] for field in GROUPED},
                "count": group["count"] + 1,
                "first_seen": min(group["first_seen"], letter["first_seen"]),
                "last_seen": letter["last_seen"],
            }
        return list(groups.values())[::-1]

    async def change_dead_letter(self, id: str, changes: Document) -> bool:
        found = self._letters.get(id)
        if found is not None:
            found |= deepcopy(changes)
        return found is not None

    async def remove_dead_letters(self, ids: Sequence[str]) -> int:
        return sum(self._letters.pop(id, None) is not None for id in ids)

    def _letters_where(self, where: Mapping[str, str]) -> list[Document]:
        return [
            letter
            for letter in list(self._letters.values())
            if all(_at(letter, field) == value for field, value in where.items())
        ]


def _at(letter: Document, field: str) -> object:
    """Returns a field, or one within another: `headers.stream`."""
    outer, _, inner = field.partition(".")
    found = letter.get(outer)
    return found.get(inner) if inner and isinstance(found, dict) else found
