"""What came of a message, against what was expected."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from pydantic import BaseModel

from bus.codec import address, record
from bus.messages import Command, Event
from bus.read.views import read_as
from bus.stores.base import Document


class Said(NamedTuple):
    """An event or a command as it is stored."""

    name: str
    schema: int
    data: Mapping[str, Any]

    @classmethod
    def of(cls, message: Event | Command) -> "Said":
        if isinstance(message, Event):
            return cls(*record(message)[:3])
        return cls(*address(message, "")[1:])

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.data.items())})"


class Outcome:
    """What came of it. Whatever is not asked about is not checked; an error is, by all but
    `raises`."""

    def __init__(
        self,
        events: Sequence[Said] = (),
        commands: Sequence[Said] = (),
        result: Any = None,
        error: Exception | None = None,
        *,
        wrote: Mapping[str, Mapping[Any, Document]] | None = None,
    ) -> None:
        self.result = result
        self.error = error
        self._wrote = wrote or {}
        self._events = list(events)
        self._commands = list(commands)

    def then(self, *events: Event) -> Self:
        """These events were recorded or published, in this order, and no others."""
        return self._compare("events", [Said.of(event) for event in events], self._events)

    def sends(self, *commands: Command) -> Self:
        """These commands were sent, in this order, and no others."""
        return self._compare("commands", [Said.of(one) for one in commands], self._commands)

    def writes(self, collection: str, documents: Mapping[Any, Mapping[str, Any]]) -> Self:
        """These documents, by key, and no others stand in a collection of the service's own: what
        the handler wrote by its `Session`."""
        expected = f"expected documents in {collection}: {_listed(_pairs(documents))}"
        self._went_through(expected)
        came = self._wrote.get(collection, {})
        if came != documents:
            raise AssertionError(f"{expected}\nthere came: {_listed(_pairs(came))}")
        return self

    def returns(self, result: Any) -> Self:
        """This came back."""
        self._went_through(f"expected the result {result!r}")
        if self.result != result:
            raise AssertionError(f"expected the result {result!r}, and {self.result!r} came")
        return self

    def raises(self, kind: type[Exception], match: str = "") -> Self:
        """It ended in an error of this kind, whose text `match` is found in (an expression)."""
        expected = f"expected {kind.__name__}" + (f" with {match!r}" if match else "")
        if self.error is None:
            raise AssertionError(f"{expected}, and it went through with {_listed(self._events)}")
        if not isinstance(self.error, kind) or not re.search(match, str(self.error)):
            raise AssertionError(f"{expected}, and it raised {self.error!r}") from self.error
        return self

    def _compare(self, what: str, expected: list[Said], came: list[Said]) -> Self:
        self._went_through(f"expected {what}: {_listed(expected)}")
        if expected != came:
            raise AssertionError(
                f"expected {what}: {_listed(expected)}\nthere came: {_listed(came)}"
            )
        return self

    def _went_through(self, expected: str) -> None:
        if self.error is not None:
            raise AssertionError(f"{expected}\nit raised: {self.error!r}") from self.error


class Folded:
    """The documents that a projection made."""

    def __init__(self, view: type[BaseModel], documents: Mapping[str, Mapping[str, Any]]) -> None:
        self.documents = documents
        self._view = view

    def then(self, expected: Mapping[str, BaseModel | Mapping[str, Any]]) -> Self:
        """These documents were made, by key, and no others: as views, or as they are stored."""
        came = {
            key: read_as(self._view, {"_id": key, **document})
            if isinstance(expected.get(key), BaseModel)
            else document
            for key, document in self.documents.items()
        }
        if came != expected:
            raise AssertionError(
                f"expected documents: {_listed(_pairs(expected))}\n"
                f"there came: {_listed(_pairs(came))}"
            )
        return self


def _pairs(documents: Mapping[Any, Any]) -> list[str]:
    return sorted(f"{key}: {document!r}" for key, document in documents.items())


def _listed(items: Iterable[object]) -> str:
    return "".join(f"\n  {item}" for item in items) or "none"
