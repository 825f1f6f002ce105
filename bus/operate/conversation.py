"""Tracing: the commands and events of a conversation, each beneath the one that caused it. No I/O.

Handling a command or an event leaves commits that bear its id; their events and the commands that
they send are what it caused.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from bus.messages import Fault
from bus.operate.deadletter_view import DeadLetter
from bus.stores.event_log import Commit

Kind = Literal["command", "event", "dead letter"]


class TraceEntry(NamedTuple):
    """A command, an event or a dead letter (or parked stream) of a conversation.

    `cause` is the id of the message that caused it, `depth` how many levels down it stands. `time`
    is None for a command that was not carried out yet; `note` says what else is known.
    """

    depth: int
    kind: Kind
    name: str
    id: str
    cause: str = ""
    time: datetime | None = None
    stream: str = ""
    version: int = 0
    note: str = ""


def traced(commits: Sequence[Commit], letters: Sequence[DeadLetter]) -> list[TraceEntry]:
    """Returns the conversation from its beginning, each entry after its cause."""
    found = {entry.id: entry for entry in _messages(commits, letters)}
    caused: dict[str, list[TraceEntry]] = defaultdict(list)
    for entry in (*found.values(), *_given_up(found.values(), letters)):
        caused[entry.cause if entry.cause in found else ""].append(entry)
    ordered: list[TraceEntry] = []
    left = [entry._replace(depth=0) for entry in caused.pop("", ())][::-1]
    while left:  # no recursion: a conversation may be longer than Python's stack is deep
        entry = left.pop()
        ordered.append(entry)
        left += [
            below._replace(depth=entry.depth + 1)
            for below in reversed(caused.pop(entry.id, ()) if entry.kind != "dead letter" else ())
        ]
    return ordered


def _messages(commits: Sequence[Commit], letters: Sequence[DeadLetter]) -> Iterator[TraceEntry]:
    """Yields commands and events in the order in which they happened, waiting commands last."""
    own = {commit.id: commit for commit in commits}
    known = {commit.event_id(place) for commit in commits for place in range(len(commit.events))}
    known |= {command.id for commit in commits for command in commit.outgoing}
    for commit in commits:
        if (cause := _cause_of(commit)) not in known and not _is_bare_fact(commit):
            known.add(cause)
            yield _beginning(cause, own.get(cause), commit, letters)
        yield from _caused_by(commit, own)
    for letter in letters:
        if letter.kind == "message" and letter.message_id not in known:
            known.add(letter.message_id)
            yield _lost(letter)


def _caused_by(commit: Commit, own: dict[str, Commit]) -> Iterator[TraceEntry]:
    cause = _cause_of(commit)
    for place, event in enumerate(commit.events):
        id, version = commit.event_id(place), commit.first + place
        yield TraceEntry(
            depth=0,
            kind="event",
            name=event.name,
            id=id,
            cause=cause,
            time=commit.time,
            stream=commit.stream,
            version=version,
        )
    for command in commit.outgoing:
        done = own.get(command.id)
        note = "" if done else "not carried out"
        yield TraceEntry(
            depth=0,
            kind="command",
            name=command.name,
            id=command.id,
            cause=cause,
            time=done and done.time,
            note=note,
        )


def _beginning(
    cause: str, own: Commit | None, commit: Commit, letters: Sequence[DeadLetter]
) -> TraceEntry:
    """Returns what nothing in the log caused: a command from outside, or another log's event."""
    if own is not None:
        return TraceEntry(0, "command", own.message, cause, time=own.time)
    for letter in letters:
        if letter.message_id == cause:
            return _lost(letter)
    name = "?" if commit.message == Fault.wire_name else commit.message
    return TraceEntry(
        0, "event" if ":" in cause else "command", name, cause, note="not in this log"
    )


def _lost(letter: DeadLetter) -> TraceEntry:
    """Returns a message that left nothing but its dead letter."""
    kind: Kind = "event" if letter.stream else "command"
    note = "not in this log" if letter.stream else "not carried out"
    return TraceEntry(
        0, kind, letter.message, letter.message_id,
        stream=letter.stream, version=letter.version, note=note,
    )  # fmt: skip


def _given_up(
    messages: Iterable[TraceEntry], letters: Sequence[DeadLetter]
) -> Iterator[TraceEntry]:
    """Yields an entry per dead letter, and per event that a parked stream stops at or holds up."""
    parked = [letter for letter in letters if letter.kind == "stream"]
    for letter in letters:
        if letter.kind == "message":
            yield _row(letter, letter.message_id, f"{letter.error}: {letter.reason}")
    for entry in messages:
        for letter in parked:
            if entry.kind == "event" and entry.stream == letter.stream and entry.version > 0:
                if entry.version == letter.version:
                    yield _row(letter, entry.id, f"{letter.error}: {letter.reason}")
                elif entry.version > letter.version:
                    yield _row(letter, entry.id, f"waits behind version {letter.version}")


def _row(letter: DeadLetter, cause: str, note: str) -> TraceEntry:
    return TraceEntry(
        depth=0,
        kind="dead letter",
        name=letter.handler,
        id=letter.id,
        cause=cause,
        time=letter.last_seen,
        stream=letter.stream,
        version=letter.version,
        note=note,
    )


def _cause_of(commit: Commit) -> str:
    """Returns the id of the message whose handling stored a commit; "" for `Bus.publish`."""
    return "" if _is_bare_fact(commit) else commit.causation_id or commit.id


def _is_bare_fact(commit: Commit) -> bool:
    """Returns whether nothing was handled: `Bus.publish` stored the event under its own name."""
    is_first = commit.id == (commit.causation_id or commit.id)
    return is_first and [event.name for event in commit.events] == [commit.message]
