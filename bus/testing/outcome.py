"""Compares the outcome of a message with what was expected."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel

from bus.data.payload import Document
from bus.errors import InvalidMessage
from bus.messages import Command, Event, Message, check_kind
from bus.read.views import read_as
from bus.testing.comparing import Said, documents_apart, listed, messages_apart


class Outcome:
    """The outcome of a `when`, to be asked about; each question raises AssertionError if not met.

    What is not asked about is not checked. All questions but `raises` fail if there was an error.
    """

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
        """Checks that these events were recorded or published, in this order, and no others."""
        return self._compare("events", events, Event, "then(...)", self._events)

    def sends(self, *commands: Command) -> Self:
        """Checks that these commands were sent, in this order, and no others."""
        return self._compare("commands", commands, Command, "sends(...)", self._commands)

    def writes(self, collection: str, documents: Mapping[Any, Mapping[str, Any]]) -> Self:
        """Checks that the handler wrote these documents, by key, and no others through its
        `Session` into a collection of the service's own."""
        _check_documents("writes(...)", documents)
        self._went_through(f"expected documents in {collection}")
        if apart := documents_apart(documents, self._wrote.get(collection, {})):
            raise AssertionError(f"expected documents in {collection}: {apart}")
        return self

    def returns(self, result: Any) -> Self:
        """Checks the result."""
        self._went_through(f"expected the result {result!r}")
        if self.result != result:
            raise AssertionError(f"expected the result {result!r}, and {self.result!r} came")
        return self

    def raises(self, kind: type[Exception], match: str = "") -> Self:
        """Checks that it raised an error of this class, in whose text the regular expression
        `match` is found."""
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise AssertionError(
                f"raises(...) takes a class of exceptions, and words of it, as in "
                f"raises(ValueError, 'not enough'), and this is {kind!r:.100}"
            )
        expected = f"expected {kind.__name__}" + (f" with {match!r}" if match else "")
        if self.error is None:
            raise AssertionError(f"{expected}, and it went through with {listed(self._events)}")
        if not isinstance(self.error, kind) or not re.search(match, str(self.error)):
            raise AssertionError(f"{expected}, and it raised {self.error!r}") from self.error
        return self

    def _compare(
        self,
        what: str,
        expected: Sequence[Any],
        kind: type[Message],
        doing: str,
        came: Sequence[Said],
    ) -> Self:
        for message in expected:
            check_given(message, kind, doing)
        self._went_through(f"expected {what}: {listed(map(Said.of, expected))}")
        if apart := messages_apart(expected, came):
            raise AssertionError(f"expected {what}: {apart}")
        return self

    def _went_through(self, expected: str) -> None:
        if self.error is not None:
            raise AssertionError(f"{expected}\nit raised: {self.error!r}") from self.error


class Folded:
    """The documents that a projection made; without a view, the rows of one with a sink."""

    def __init__(
        self, view: type[BaseModel] | None, documents: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.documents = documents
        self._view = view

    def then(self, expected: Mapping[str, BaseModel | Mapping[str, Any]]) -> Self:
        """Checks that these documents were made, by key, and no others; as views or as stored."""
        _check_documents("then(...) of a projection", expected)
        came = {
            key: read_as(self._view, {"_id": key, **document})
            if self._view and isinstance(expected.get(key), BaseModel)
            else document
            for key, document in self.documents.items()
        }
        if apart := documents_apart(expected, came):
            raise AssertionError(f"expected documents: {apart}")
        return self


def check_given(message: object, kind: type[Message], doing: str) -> None:
    """Raises: InvalidMessage if it is not a message of that kind."""
    if isinstance(message, list | tuple):
        raise InvalidMessage(
            f"{doing} takes messages one by one, and this is a {type(message).__name__} of them; "
            f"write {doing.replace('...', '*messages')}"
        )
    check_kind(type(message), kind, doing)


def _check_documents(doing: str, documents: object) -> None:
    if not isinstance(documents, Mapping):
        raise AssertionError(
            f"{doing} takes documents by their keys, as in {{'a1': ...}}, and this is of type "
            f"{type(documents).__name__}"
        )
