"""The proxy breaks what it is told to break, and nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.waiting import patience, until
from tools.faults import Proxy, Towards
from tools.services.ports import LOOPBACK


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """A server that sends back whatever it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    yield f"amqp://guest:guest@{LOOPBACK}:{server.sockets[0].getsockname()[1]}/"
    server.close()


@pytest.fixture
async def proxy(echo: str) -> AsyncIterator[Proxy]:
    async with Proxy(echo) as proxy:
        yield proxy


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def say(self, data: bytes) -> None:
        self._writer.write(data)

    async def hear(self, count: int, within: float = 5.0) -> bytes:
        async with asyncio.timeout(within):
            return await self._reader.readexactly(count)

    async def rest(self) -> bytes:
        """What still comes before the connection is reset; fails where it ends politely."""
        heard = b""
        async with asyncio.timeout(5 * patience()):
            try:
                while data := await self._reader.read(1000):
                    heard += data
            except ConnectionResetError:
                return heard
        raise AssertionError("the connection ended politely")

    def close(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def clients(proxy: Proxy) -> AsyncIterator[list[Client]]:
    made = [Client(*await asyncio.open_connection(LOOPBACK, proxy.port)) for _ in range(2)]
    for client in made:
        await client.say(b"hello")
        assert await client.hear(5) == b"hello"
    yield made
    for client in made:
        client.close()


async def new_client(proxy: Proxy) -> Client:
    return Client(*await asyncio.open_connection(LOOPBACK, proxy.port))


async def test_a_cut_resets_every_connection_and_counts_them(
    proxy: Proxy, clients: list[Client]
) -> None:
    assert proxy.connections == 2
    assert proxy.cut() == 2
    assert [await client.rest() for client in clients] == [b"", b""]
    await until(lambda: proxy.connections == 0, "the connections are gone")
    assert proxy.cut() == 0
    assert proxy.cuts == 2


async def test_a_cut_after_some_bytes_tears_exactly_there_and_only_that_connection(
    proxy: Proxy, clients: list[Client]
) -> None:
    proxy.cut_after(7, Towards.CLIENT)
    await clients[0].say(b"0123")
    assert await clients[0].hear(4) == b"0123"
    await clients[1].say(b"abcdef")
    assert await clients[1].rest() == b"abc"
    await clients[0].say(b"4")
    assert await clients[0].hear(1) == b"4"
    assert proxy.cuts == 1


async def test_half_open_connections_say_nothing_for_good_and_later_ones_work(
    proxy: Proxy, clients: list[Client]
) -> None:
    assert proxy.half_open() == 2
    await clients[0].say(b"anyone?")
    later = await new_client(proxy)
    await later.say(b"new")
    assert await later.hear(3) == b"new"
    with pytest.raises(TimeoutError):
        await clients[0].hear(1, within=0.05)
    later.close()


async def test_a_mute_proxy_accepts_and_never_answers(proxy: Proxy, clients: list[Client]) -> None:
    proxy.mute = True
    unheard = await new_client(proxy)
    await unheard.say(b"anyone?")
    await clients[0].say(b"still here")
    assert await clients[0].hear(10) == b"still here"
    with pytest.raises(TimeoutError):
        await unheard.hear(1, within=0.05)
    unheard.close()


async def test_a_delay_holds_each_chunk(proxy: Proxy, clients: list[Client]) -> None:
    proxy.delay = 0.05
    started = time.monotonic()
    await clients[0].say(b"late")
    assert await clients[0].hear(4) == b"late"
    assert 0.1 <= time.monotonic() - started < 2 * patience()


async def test_what_trickles_comes_whole_a_few_bytes_at_a_time(
    proxy: Proxy, clients: list[Client]
) -> None:
    proxy.delay, proxy.piece = 0.02, 3
    started = time.monotonic()
    await clients[0].say(b"0123456789")
    assert await clients[0].hear(1) == b"0"
    assert await clients[0].hear(9) == b"123456789"
    assert time.monotonic() - started >= 0.1
    proxy.delay, proxy.piece = 0.0, 0
    await clients[0].say(b"at once")
    assert await clients[0].hear(7) == b"at once"


@pytest.mark.parametrize("silently", [False, True])
async def test_a_lost_answer_is_that_to_the_request_named(
    proxy: Proxy, clients: list[Client], silently: bool
) -> None:
    proxy.lose_answers(b"insert\0", 1, silently=silently)
    await clients[0].say(b"find\0")
    assert await clients[0].hear(5) == b"find\0"
    await clients[0].say(b"insert\0")
    if silently:
        with pytest.raises(TimeoutError):
            await clients[0].hear(1, within=0.05)
    else:
        assert await clients[0].rest() == b""
    await clients[1].say(b"insert\0")
    assert await clients[1].hear(7) == b"insert\0"


async def test_a_shut_proxy_refuses_and_opens_again_at_the_same_port(
    proxy: Proxy, clients: list[Client]
) -> None:
    port = proxy.port
    await proxy.shut()
    assert proxy.connections == 0
    with pytest.raises(ConnectionRefusedError):
        await new_client(proxy)
    await proxy.open()
    again = await new_client(proxy)
    await again.say(b"back")
    assert await again.hear(4) == b"back"
    assert proxy.port == port
    again.close()


def test_the_url_leads_through_the_proxy_with_all_else_kept() -> None:
    broker, database = Proxy("amqp://u:p@h:1/v?x=1"), Proxy("mongodb://u:p@h:1,h:2/?replicaSet=r")
    assert broker.url == f"amqp://u:p@{LOOPBACK}:{broker.port}/v?x=1"
    assert database.url == f"mongodb://u:p@{LOOPBACK}:{database.port}/?directConnection=true"
    assert database.server == ("h", 1)
