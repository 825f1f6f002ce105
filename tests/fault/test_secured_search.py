"""A search engine by TLS, with a user and a password: who is let in, who is kept out, and what is
told of it."""

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from bus import (
    Bus,
    DeadLetters,
    NotAllowed,
    Receipt,
    Settings,
    StoreUnavailable,
    Unavailable,
    Worker,
)
from bus.stores.search import SearchIndex
from bus.stores.search.place import SearchPlace
from tests.fault.certificates import Certificates
from tests.service.searching import CountTowns, FindJobs, post, service
from tests.waiting import is_well, until
from tools.services.jars.search import call

SECRET = "pä%/:ss-€7-Wqx-beyond-chance"
CHUNK = 65536


class Doorkeeper:
    """Speaks TLS before an engine that has no users, and lets in who has the password."""

    def __init__(self, engine: str, certificate: Path, *, asks_for: Path | None = None) -> None:
        self.password = SECRET
        self.let_in = self.kept_out = 0
        self.port = 0
        self._engine = urlsplit(engine)
        self._refusal = refusal(call(engine, "GET", "/"))
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=asks_for)
        self._context.load_cert_chain(certificate)
        if asks_for:
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._open = set[asyncio.StreamWriter]()

    def url(self, options: str, *, host: str = "127.0.0.1", password: str = SECRET) -> str:
        return f"https://ada:{quote(password, safe='')}@{host}:{self.port}/?{options}"

    def change(self, password: str) -> None:
        """Lets in with another password only, and whoever is in has to come again."""
        self.password = password
        for writer in self._open:
            writer.transport.abort()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Doorkeeper"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.change("")
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        login = base64.b64encode(f"ada:{self.password}".encode())
        if b"authorization: basic " + login.lower() not in head.lower() or login not in head:
            self.kept_out += 1
            writer.write(self._refusal)
            await writer.drain()
            return
        self.let_in += 1
        engine = await asyncio.open_connection(self._engine.hostname, self._engine.port)
        try:
            engine[1].write(head)
            ways = [passed(reader, engine[1]), passed(engine[0], writer)]
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            engine[1].close()
            writer.transport.abort()
            await asyncio.wait(tasks)


async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


def refusal(about: dict[str, dict[str, str]]) -> bytes:
    """The answer to who has no password, as this kind of engine gives it."""
    if about["version"].get("distribution") == "opensearch":
        kind, body = "text/plain; charset=UTF-8", "Unauthorized"
    else:
        why = "unable to authenticate user [ada] for REST request [/]"
        error = {"type": "security_exception", "reason": why}
        whole = {"error": {"root_cause": [error], **error}, "status": 401}
        kind, body = "application/json; charset=UTF-8", json.dumps(whole)
    head = f"WWW-Authenticate: Basic\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 401 Unauthorized\r\n{head}\r\nConnection: close\r\n\r\n{body}".encode()


@pytest.fixture
async def keeper(search_url: str, certificates: Certificates) -> AsyncIterator[Doorkeeper]:
    async with Doorkeeper(search_url, certificates.server).listening() as keeper:
        yield keeper


@pytest.fixture
def url(keeper: Doorkeeper, certificates: Certificates) -> str:
    """With the right password, and the authority that is to be trusted."""
    return keeper.url(f"cafile={certificates.authority}")


@pytest.fixture
def settings(real_settings: Settings) -> Settings:
    """The broker has no part in these."""
    return real_settings.model_copy(update={"amqp_url": "memory://"})


@asynccontextmanager
async def placed(url: str) -> AsyncIterator[SearchPlace]:
    place = SearchIndex(url=url, mappings={"properties": {}}).place("service")
    try:
        yield place
    finally:
        await place.close()


def shown(bus: Bus, *more: object) -> str:
    """What of a service may be printed by somebody."""
    sinks = [projection.sink for projection in bus.runtime.projections]
    vars_of = [vars(sink) for sink in sinks]
    return f"{bus!r}{bus.runtime!r}{sinks!r}{[v['_address'] for v in vars_of]!r}{more!r}"


def without_password(text: str) -> None:
    login = base64.b64encode(f"ada:{SECRET}".encode()).decode()
    for form in (SECRET, quote(SECRET, safe=""), quote(SECRET), login, "Wqx-beyond-chance"):
        assert form not in text


async def test_what_is_searched_goes_by_tls_and_with_a_password(
    keeper: Doorkeeper,
    url: str,
    settings: Settings,
    unique: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with service(settings, unique, url) as bus, Worker(bus):
        receipt = await post(bus, [f"j{number}" for number in range(5)])
        assert len(await bus.query(FindJobs(word="baker"), after=receipt, timeout=60)) == 5
        assert await bus.query(CountTowns(), after=receipt, timeout=60) == {"Bern": 5}
        await until(lambda: is_well(bus), "health tells of nothing")
        without_password(shown(bus) + caplog.text)
    assert keeper.let_in
    assert not keeper.kept_out


async def test_who_has_a_wrong_password_waits_for_the_right_one_and_nothing_is_given_up(
    keeper: Doorkeeper,
    url: str,
    settings: Settings,
    unique: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    keeper.change("another one")
    async with service(settings, unique, url) as bus, Worker(bus):
        receipt = await post(bus, ["before"])
        told = await until(health_of(bus), "health to tell")
        await nothing_is_given_up(bus)
        keeper.change(SECRET)
        await until(lambda: are_found(bus, receipt, "before"), "what came before")

        keeper.change("yet another one")
        receipt = await post(bus, ["meanwhile"])
        told += await until(health_of(bus), "health to tell again")
        with pytest.raises(NotAllowed, match="does not let this user in") as refused:
            await bus.query(FindJobs(word="baker"))
        await nothing_is_given_up(bus)
        keeper.change(SECRET)
        await until(lambda: are_found(bus, receipt, "before", "meanwhile"), "what came since")

        await until(lambda: is_well(bus), "health to be well again")
        await nothing_is_given_up(bus)
        without_password(shown(bus, refused.value, told) + caplog.text)
    assert keeper.kept_out


def health_of(bus: Bus) -> Callable[[], Awaitable[str]]:
    async def told() -> str:
        said = str((await bus.health()).as_json())
        wanted = "does not let this user in", "check user and password in the URL"
        return said if all(words in said for words in wanted) else ""

    return told


async def are_found(bus: Bus, receipt: Receipt, *jobs: str) -> bool:
    """Whether a search that waits finds these; an engine may still start what was just made."""
    with suppress(Unavailable):
        return (await bus.query(FindJobs(word="baker"), after=receipt)).keys() == {*jobs}
    return False


async def nothing_is_given_up(bus: Bus) -> None:
    letters = DeadLetters(bus)
    assert await letters.groups() == []
    assert await letters.streams() == []


@pytest.mark.parametrize(
    ("certificate", "host", "authority", "why"),
    [
        ("server", "127.0.0.1", "stranger", "CERTIFICATE_VERIFY_FAILED"),
        ("server", "127.0.0.1", "", "CERTIFICATE_VERIFY_FAILED"),
        ("server", "localhost", "authority", "Hostname mismatch.*not valid for 'localhost'"),
        ("expired", "127.0.0.1", "authority", "certificate has expired"),
    ],
)
async def test_an_engine_with_another_certificate_gets_nothing(
    search_url: str,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    certificate: str,
    host: str,
    authority: str,
    why: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    own = getattr(certificates, certificate)
    options = f"cafile={getattr(certificates, authority)}" if authority else ""
    async with Doorkeeper(search_url, own).listening() as keeper:
        async with placed(keeper.url(options, host=host)) as place:
            with pytest.raises(StoreUnavailable, match=f"(?s){why}.*cafile=FILE for") as refused:
                await place.open()
        assert not keeper.let_in + keeper.kept_out
    without_password(f"{refused.value!r}{caplog.text}")


async def test_an_engine_may_ask_for_a_certificate_of_ours(
    search_url: str, certificates: Certificates
) -> None:
    trusts = f"cafile={certificates.authority}"
    keeper = Doorkeeper(search_url, certificates.server, asks_for=certificates.authority)
    async with keeper.listening():
        async with placed(keeper.url(f"{trusts}&certfile={certificates.client}")) as place:
            await place.open()
        assert keeper.let_in
        async with placed(keeper.url(trusts)) as place:
            with pytest.raises(StoreUnavailable, match="certfile= and keyfile= if it asks for one"):
                await place.open()


async def test_who_says_http_to_an_engine_of_https_is_told(
    keeper: Doorkeeper, search_url: str, certificates: Certificates
) -> None:
    plain = keeper.url("").replace("https://", "http://").removesuffix("?")
    async with placed(plain) as place:
        with pytest.raises(StoreUnavailable, match="write https:// where the engine asks for TLS"):
            await place.open()
    port = urlsplit(search_url).port
    async with placed(f"https://127.0.0.1:{port}/?cafile={certificates.authority}") as place:
        with pytest.raises(StoreUnavailable, match="no connection by TLS"):
            await place.open()
    assert not keeper.let_in + keeper.kept_out
