"""Draws what `bin/bench growth` measured: `python bench/growth/plot.py growth.png < growth.json`.

Runs in the peers' environment, which has matplotlib. Small multiples: one column for each thing
that grows, throughput above, latency below; beneath them what waits.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

LINE = Mapping[str, Any]
COLUMNS = {
    "events in the log": "events in the log",
    "streams": "streams",
    "partitions": "partitions",
    "bytes of an event": "bytes of an event",
    "projections of the same events": "projections",
}
WAITING, OUTBOX = "messages waiting", "commits waiting for the broker"
NEW, LOADED, EXECUTE, VISIBLE, PALE = "#1f5fa8", "#c2571a", "#7a7a7a", "#1f5fa8", "#dddddd"
BUSY = "#3d8b4f"
LOOKS = {
    "10 thousand": (BUSY, "10k of its streams, loaded"),
    "loaded": (LOADED, "any stream, loaded"),
    "": (NEW, "new streams"),
}
STYLE = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "lines.marker": "o",
}


def draw(result: Mapping[str, Any], picture: str) -> None:
    """Makes the picture."""
    mpl.rcParams.update(STYLE)
    by_variable: dict[str, list[LINE]] = {}
    for line in result["lines"]:
        by_variable.setdefault(line["variable"], []).append(line)
    figure = plt.figure(figsize=(12, 9), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(2, 1), hspace=0.05)
    grid = upper.subplots(2, len(COLUMNS), sharey="row")
    for column, (variable, title) in enumerate(COLUMNS.items()):
        found = by_variable.get(variable, [])
        _throughput(grid[0, column], found, first=column == 0)
        _latency(grid[1, column], found, first=column == 0)
        grid[0, column].set_title(title)
        grid[1, column].set_xlabel(title)
    for row in grid:
        row[0].set_ylim(0, 1.12 * row[0].get_ylim()[1])
    _waiting(lower, by_variable)
    figure.savefig(picture, dpi=130)


def _throughput(axes: Any, lines: Sequence[LINE], *, first: bool) -> None:
    for line in lines:
        colour, text = next(look for name, look in LOOKS.items() if name in line["name"])
        at, values = _series(line, "per_second")
        axes.plot(at, values, color=colour, label=text)
    if first:
        axes.legend(frameon=False, loc="lower left", labelcolor="linecolor", handlelength=0)
    _finish(axes, lines, "commands/s" if first else "")


def _latency(axes: Any, lines: Sequence[LINE], *, first: bool) -> None:
    for line in lines[:1]:
        for metric, colour, text in (
            ("visible_ms", VISIBLE, "until visible"),
            ("execute_ms", EXECUTE, "execute"),
        ):
            at, values = _series(line, metric)
            axes.plot(at, values, color=colour)
            if first:
                axes.text(at[0], values[0] + 1.2, text, color=colour)
    _finish(axes, lines, "ms, one at a time" if first else "")


def _waiting(figure: Any, lines: Mapping[str, Sequence[LINE]]) -> None:
    """The lower row: what a worker and a relay make of what waits for them."""
    grid = figure.subplots(1, 3)
    for column, (variable, metric, title, unit) in enumerate(
        (
            (WAITING, "per_second", "a worker starts before a full queue", "events/s"),
            (WAITING, "memory_mb", "the same: its peak memory", "MB"),
            (OUTBOX, "per_second", "a relay, the broker being back", "commits/s"),
        )
    ):
        axes = grid[column]
        found = lines.get(variable, [])
        for line in found:
            at, values = _series(line, metric)
            axes.plot(at, values, color=NEW)
        axes.set_title(title)
        axes.set_xlabel(variable)
        _finish(axes, found, unit)
        axes.set_ylim(0, 1.12 * axes.get_ylim()[1])


def _series(line: LINE, metric: str) -> tuple[list[float], list[float]]:
    points = [one for one in line["points"] if metric in one["metrics"]]
    return [one["at"] for one in points], [one["metrics"][metric] for one in points]


def _finish(axes: Any, lines: Sequence[LINE], unit: str) -> None:
    """Log x with the measured points as ticks; y from zero."""
    axes.set_xscale("log")
    axes.minorticks_off()
    points = {one["at"]: _short(one["label"]) for line in lines for one in line["points"]}
    axes.set_xticks(list(points), list(points.values()))
    axes.margins(x=0.12)
    axes.grid(axis="y", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,g}"))
    axes.set_ylabel(unit)


def _short(label: str) -> str:
    label = label.partition(",")[0].replace("all new", "new")
    for long, short in ((" thousand", "k"), (" million", "M"), (" KB", "k"), (" B", "")):
        label = label.replace(long, short)
    return label


if __name__ == "__main__":
    draw(json.load(sys.stdin), sys.argv[1])
