"""The helper that finds what is left behind does find it."""

import asyncio

import pytest

from tests.leaks import nothing_left
from tools.services.ports import LOOPBACK


async def test_a_task_that_is_left_behind_is_named() -> None:
    forgotten: list[asyncio.Task[bool]] = []
    with pytest.raises(AssertionError, match=r"left behind.*forgotten"):
        async with nothing_left(within=0.1):
            forgotten.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))
    forgotten[0].cancel()


@pytest.mark.real_time
async def test_a_connection_that_is_left_open_is_named() -> None:
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(AssertionError, match=f"to port {port}"):
        async with nothing_left(f"amqp://{LOOPBACK}:{port}/", within=0.1):
            writers.append((await asyncio.open_connection(LOOPBACK, port))[1])
    for writer in writers:
        writer.transport.abort()
    server.close()
