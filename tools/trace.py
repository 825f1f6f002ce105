"""`bin/trace [FILE]`: draws the trace of one request over the three services of the tests' shop, of
the spans that their processes exported."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.shop.processes import PROCESSES, running
from tests.shop.spans import Span, ancestors, server_span, spans_of
from tests.waiting import until
from tools.services import services
from tools.services.errors import ServiceUnavailable

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "trace.svg"
NAME = "shop"
COLOURS = {"api": "#4c6ef5", "orders": "#0ca678", "payments": "#f08c00", "shipping": "#ae3ec9"}
WIDTH, NAMES, ROW, TOP, INDENT = 1180, 500, 22, 56, 14
STILL = 1.0
"""Seconds without another span after which a trace is taken for whole."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/trace", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE)
    chosen = parser.parse_args()
    try:
        with services(need=("rabbitmq", "mongodb")) as found:
            urls = found.environment["BUS_AMQP_URL"], found.environment["BUS_MONGO_URL"]
            spans = asyncio.run(traced(*urls))
    except ServiceUnavailable as error:
        sys.exit(f"bin/trace: {error}")
    chosen.file.write_text(drawn(spans))
    print(chosen.file)


async def traced(amqp_url: str, mongo_url: str) -> list[Span]:
    """Places an order in a shop; returns the spans of that, once all services are done with it."""
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        async with running(amqp_url, mongo_url, NAME, folder, watched=True) as shop:
            await shop.until_shown(await shop.place(), courier="Ada")  # the first one is slow
            began = time.time()
            await shop.until_shown(await shop.place(), courier="Ada")
            found, since = list[Span](), time.monotonic()

            def is_whole() -> bool:
                nonlocal found, since
                spans = spans_of(folder, PROCESSES)
                root = server_span(spans, "POST /orders", after=began)
                now = [one for one in spans if root and one.trace_id == root.trace_id]
                if len(now) != len(found):
                    found, since = now, time.monotonic()
                return bool(found) and time.monotonic() - since > STILL

            await until(is_whole, "the spans of the order")
            return found


class Row(NamedTuple):
    """A span in the picture, beneath so many others."""

    span: Span
    depth: int


def drawn(spans: Sequence[Span]) -> str:
    """Returns the picture of a trace: a line for each span, beneath the one that caused it."""
    rows = _rows(spans)
    began, ended = min(span.began for span in spans), max(span.ended for span in spans)
    scale = (WIDTH - NAMES - 90) / (ended - began)
    height = TOP + ROW * len(rows) + 12
    parts = [_legend(), *(_line(row, TOP + ROW * n, began, scale) for n, row in enumerate(rows))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _rows(spans: Sequence[Span]) -> list[Row]:
    ids = {span.id for span in spans}
    return [
        row for root in _in_time(spans) if root.parent not in ids for row in _beneath(root, spans)
    ]


def _beneath(span: Span, spans: Sequence[Span]) -> Iterator[Row]:
    yield Row(span, len(ancestors(span, spans)))
    for child in _in_time(spans):
        if child.parent == span.id:
            yield from _beneath(child, spans)


def _in_time(spans: Sequence[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: span.began)


def _legend() -> str:
    boxes = [
        f'<rect x="{16 + 120 * n}" y="16" width="12" height="12" rx="2" fill="{colour}"/>'
        f'<text x="{34 + 120 * n}" y="26">{process}</text>'
        for n, (process, colour) in enumerate(COLOURS.items())
    ]
    return "\n".join(boxes)


def _line(row: Row, y: int, began: float, scale: float) -> str:
    span, colour = row.span, COLOURS[row.span.process]
    x, width = NAMES + (span.began - began) * scale, max((span.ended - span.began) * scale, 2)
    took = f"{(span.ended - span.began) * 1000:.1f} ms"
    return (
        f'<text x="{16 + INDENT * row.depth}" y="{y + 11}">{escape(span.name)}</text>'
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="14" rx="2" fill="{colour}"/>'
        f'<text x="{x + width + 5:.1f}" y="{y + 11}" fill="#666">{took}</text>'
    )


if __name__ == "__main__":
    main()
