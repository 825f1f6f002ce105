"""The same peer, with what its documentation names for high throughput: more workers, larger
fetches, and rows deleted a hundred at a time."""

from typing import Any

from bench import side
from bench.outbox import faststream_style

MANY = {"max_workers": 16, "fetch_batch_size": 200, "terminal_flush_batch_size": 100}


async def work(arguments: dict[str, Any]) -> None:
    await faststream_style.work(arguments, **MANY)


if __name__ == "__main__":
    side.run(faststream_style.measure, worker=work)
