"""What both sides do, by the case's `what`: our own sides of other comparisons."""

import json
import sys

from bench import side
from bench.consume import ours as consume
from bench.consume import ours_projection as projection
from bench.dispatch import ours as dispatch
from bench.dispatch import ours_query as query
from bench.end_to_end import ours as whole

WHAT = {
    "dispatch": dispatch.measure,
    "query": query.measure,
    "consume": consume.measure,
    "projection": projection.measure,
    "whole": whole.drive,
}
FILLS = {"consume": consume.fill_queue, "projection": projection.fill_queue}


async def measure(arguments: side.Arguments) -> side.Metrics:
    found = await WHAT[arguments["what"]](arguments)
    if "microseconds" in found:
        found["per_second"] = 1e6 / found.pop("microseconds")
    return found


def run() -> None:
    """Measures, or plays the role that the other comparison's side has."""
    what = json.loads(sys.argv[1])["what"]
    fill = FILLS.get(what, whole.work)
    side.run(measure, fill=fill, worker=whole.work)
