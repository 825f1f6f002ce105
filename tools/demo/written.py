"""What the service has written: its log, the states of aggregates, and the bookings beside them.

Read from the database itself, in MongoDB or in SQL, and told in one form; no code is shared with
the bus or the service.
"""

import json
from abc import abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from pymongo.database import Database

from tools.demo.fold import Document
from tools.services import statements

Documents = dict[str, Document]


class Written(Protocol):
    """The write side as it is stored."""

    @abstractmethod
    def commits(self) -> Iterator[Document]:
        """Yields all commits, each stream's in the order of its versions."""

    @abstractmethod
    def pending(self) -> int:
        """Returns how many commits are not published."""

    @abstractmethod
    def states(self) -> Documents:
        """Returns the stored states of interviews by their ids, each with its `version`."""

    @abstractmethod
    def bookings(self) -> Documents:
        """Returns hour and room of the bookings, by their interviews."""


class WrittenInMongoDB(Written):
    """All of it in the service's database."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database

    def commits(self) -> Iterator[Document]:
        return iter(self._database["commits"].find({}).sort([("stream", 1), ("first", 1)]))

    def pending(self) -> int:
        return self._database["commits"].count_documents({"pending": True})

    def states(self) -> Documents:
        found = self._database["states"].find({"category": "interview"})
        return {_id_in(one["_id"]): _state(one["version"], one["state"]) for one in found}

    def bookings(self) -> Documents:
        found = self._database["bookings"].find({})
        return {one["interview_id"]: {"hour": one["hour"], "room": one["room"]} for one in found}


class WrittenInSQL(Written):
    """The bus's tables, and the service's own beside them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def commits(self) -> Iterator[Document]:
        rows = self._run(
            "SELECT id, stream, first, time, events FROM bus_commits ORDER BY stream, first"
        )
        for id, stream, first, time, events in rows:
            yield {
                "_id": id,
                "stream": stream,
                "first": first,
                "time": _in_utc(time),
                "events": json.loads(events),
            }

    def pending(self) -> int:
        ((count,),) = self._run("SELECT count(*) FROM bus_commits WHERE pending")
        return int(count)

    def states(self) -> Documents:
        rows = self._run(
            "SELECT stream, version, state FROM bus_states WHERE category = 'interview'"
        )
        return {_id_in(stream): _state(version, json.loads(s)) for stream, version, s in rows}

    def bookings(self) -> Documents:
        rows = self._run("SELECT interview_id, hour, room FROM bookings")
        return {interview: {"hour": hour, "room": room} for interview, hour, room in rows}

    def _run(self, statement: str) -> statements.Rows:
        return statements.run(self._url, statement)


def _state(version: int, state: Any) -> Document:
    return {**state, "version": version}


def _id_in(stream: str) -> str:
    return stream.partition("-")[2]


def _in_utc(time: datetime) -> datetime:
    """Returns a time with its zone, which MariaDB does not tell."""
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
