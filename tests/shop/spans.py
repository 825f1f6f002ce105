"""What the processes of a watched shop exported: their spans, read from a file each."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A span as it was exported, and by which process. Ids are as in `traceparent`."""

    process: str
    name: str
    kind: str
    trace_id: str
    id: str
    parent: str
    status: str
    attributes: Mapping[str, Any]
    began: float
    """Seconds since 1970."""
    ended: float
    events: tuple[str, ...]
    links: tuple[str, ...]
    """The trace ids that it links to."""


def spans_of(folder: Path, processes: Iterable[str]) -> list[Span]:
    """Returns what was written whole so far."""
    return [
        _span(process, found)
        for process in processes
        for found in _objects((folder / f"{process}.spans").read_text())
    ]


def server_span(spans: Iterable[Span], name: str, *, after: float) -> Span | None:
    """Returns the one of an HTTP request that came after a time; None before it was exported."""
    found = [one for one in spans if (one.kind, one.name) == ("SERVER", name)]
    return next((one for one in found if one.began >= after), None)


def ancestors(span: Span, spans: Iterable[Span]) -> list[Span]:
    """Returns a span's parent, the parent's parent, and so on, as far as they were exported."""
    by_id = {one.id: one for one in spans}
    found = []
    while (parent := by_id.get(span.parent)) is not None:
        found.append(parent)
        span = parent
    return found


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects that stand in a text, up to one that is not finished."""
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            found, end = decoder.raw_decode(text, place)
        except ValueError:
            return
        yield found
        place = text.find("{", end)


def _bare(id: str) -> str:
    return id.removeprefix("0x")


def _span(process: str, found: dict[str, Any]) -> Span:
    return Span(
        process=process,
        name=found["name"],
        kind=found["kind"].rpartition(".")[2],
        trace_id=_bare(found["context"]["trace_id"]),
        id=_bare(found["context"]["span_id"]),
        parent=_bare(found["parent_id"] or ""),
        status=found["status"]["status_code"],
        attributes=found["attributes"],
        began=datetime.fromisoformat(found["start_time"]).timestamp(),
        ended=datetime.fromisoformat(found["end_time"]).timestamp(),
        events=tuple(one["name"] for one in found["events"]),
        links=tuple(_bare(one["context"]["trace_id"]) for one in found["links"]),
    )
