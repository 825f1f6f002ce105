"""What a search engine answers, and what that is for the bus: closed lists, and no values."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.errors import (
    BusError,
    ConfigurationError,
    NotAllowed,
    OutcomeUnknown,
    ProjectionError,
    StoreUnavailable,
)
from bus.stores.collections import Changes, ReadUnit, Target, Write
from bus.stores.search import SearchIndex
from bus.stores.search.engine import address_of
from bus.stores.search.failures import said
from bus.stores.search.place import SearchPlace
from bus.stores.sink import Increment, Upsert

pytestmark = pytest.mark.real_time

TARGET = Target("jobs", "jobs__v1", True, place="index")
FIRST = Changes([Write("a", Upsert(title="x"), "", "job-a", 1)], {"job-a": 1})


class Canned:
    """A server that answers each request with the same status and body, or hangs up."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {}
        self.hangs_up = False
        self.requests: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                self.requests.append(lines[0])
                lengths = [line[16:] for line in lines if line.lower().startswith("content-length")]
                await reader.readexactly(int(lengths[0]) if lengths else 0)
                if self.hangs_up:
                    return
                content = json.dumps(self.body).encode()
                writer.write(
                    f"HTTP/1.1 {self.status} x\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def item(self, status: int, kind: str, reason: str = "secret") -> None:
        """Every document is answered like this."""
        error = {"type": kind, "reason": reason}
        self.body = {"items": [{"create": {"status": status, "error": error}}]}

    def error(self, status: int, kind: str) -> None:
        """Every request is answered like this."""
        self.status = status
        self.body = {"status": status, "error": {"type": kind, "reason": "secret"}}


@pytest.fixture
async def canned() -> AsyncIterator[tuple[Canned, SearchPlace]]:
    canned = Canned()
    server = await asyncio.start_server(canned.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://user:sec%20ret@127.0.0.1:{port}"
    sink = SearchIndex(url=url, mappings={"properties": {"title": {"type": "text"}}})
    place = sink.place("service")
    try:
        yield canned, place
    finally:
        await place.close()
        server.close()


async def written(place: SearchPlace) -> BusError:
    with pytest.raises(BusError) as failure:
        await place.write(TARGET, FIRST, {"job-a": 0})
    assert "secret" not in str(failure.value)
    assert "sec%20ret" not in str(failure.value)
    return failure.value


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "mapper_parsing_exception", ProjectionError),
        (400, "strict_dynamic_mapping_exception", ProjectionError),
        (400, "illegal_argument_exception", ProjectionError),
        (400, "index_closed_exception", StoreUnavailable),
        (400, "something_new_exception", StoreUnavailable),
        (403, "cluster_block_exception", StoreUnavailable),
        (429, "cluster_block_exception", StoreUnavailable),
        (429, "es_rejected_execution_exception", StoreUnavailable),
        (429, "circuit_breaking_exception", StoreUnavailable),
        (503, "unavailable_shards_exception", StoreUnavailable),
        (404, "index_not_found_exception", StoreUnavailable),
        (403, "security_exception", NotAllowed),
        (500, "engine_exception", OutcomeUnknown),
    ],
)
async def test_each_answer_to_a_document_is_one_of_ours(
    canned: tuple[Canned, SearchPlace], status: int, kind: str, error: type[BusError]
) -> None:
    engine, place = canned
    engine.item(status, kind)
    found = await written(place)
    assert type(found) is error
    assert kind in str(found)


@pytest.mark.parametrize(
    ("status", "kind", "reading", "writing"),
    [
        (401, "security_exception", NotAllowed, NotAllowed),
        (403, "security_exception", NotAllowed, NotAllowed),
        (403, "cluster_block_exception", StoreUnavailable, StoreUnavailable),
        (429, "circuit_breaking_exception", StoreUnavailable, StoreUnavailable),
        (503, "no_shard_available_action_exception", StoreUnavailable, StoreUnavailable),
        (504, "timeout_exception", StoreUnavailable, OutcomeUnknown),
        (400, "parse_exception", StoreUnavailable, StoreUnavailable),
    ],
)
async def test_each_answer_to_a_request_is_one_of_ours(
    canned: tuple[Canned, SearchPlace],
    status: int,
    kind: str,
    reading: type[BusError],
    writing: type[BusError],
) -> None:
    engine, place = canned
    engine.error(status, kind)
    assert type(await written(place)) is writing
    with pytest.raises(BusError) as failure:
        await place.versions(TARGET, ["job-a"])
    assert type(failure.value) is reading
    assert "secret" not in str(failure.value)
    assert len(engine.requests) == 2  # nothing is tried again unseen


async def test_a_connection_that_ends_leaves_open_what_was_written(
    canned: tuple[Canned, SearchPlace],
) -> None:
    engine, place = canned
    engine.hangs_up = True
    assert type(await written(place)) is OutcomeUnknown
    with pytest.raises(StoreUnavailable):
        await place.versions(TARGET, ["job-a"])


async def test_an_engine_that_does_not_listen_was_asked_nothing() -> None:
    sink = SearchIndex(url="http://user:secret@127.0.0.1:9", mappings={"properties": {}})
    place = sink.place("service")
    try:
        assert type(await written(place)) is StoreUnavailable
    finally:
        await place.close()


async def test_a_url_may_come_from_a_function_which_is_called_as_a_bus_opens() -> None:
    passwords = iter(["first", "second"])
    sink = SearchIndex(
        url=lambda: f"http://ada:{next(passwords)}@127.0.0.1:9", mappings={"properties": {}}
    )
    for password in ("first", "second"):
        place = sink.place("service")
        (host,) = place.engine.client.transport.hosts
        assert b64decode(host["headers"]["authorization"].split()[1]).decode() == f"ada:{password}"
        await place.close()
    wrong: Any = lambda: 9  # noqa: E731
    with pytest.raises(ConfigurationError, match="or a function that returns either"):
        SearchIndex(url=wrong, mappings={"properties": {}}).place("service")


async def test_what_is_too_large_goes_by_halves_and_alone_it_is_refused(
    canned: tuple[Canned, SearchPlace],
) -> None:
    engine, place = canned
    engine.error(413, "content_too_long_exception")
    many = [Write(f"k{n}", Upsert(title="x"), "", f"job-k{n}", 1) for n in range(4)]
    changes = Changes(many, {write.stream: 1 for write in many})
    with pytest.raises(ProjectionError, match=r"a document has .* bytes"):
        await place.write(TARGET, changes, {})
    assert len(engine.requests) == 3


async def test_a_batch_has_nothing_refreshed_and_who_waits_has(
    canned: tuple[Canned, SearchPlace],
) -> None:
    server, place = canned
    source = {"_bus": {"key": "a", "hidden": False, "version": 1}}
    server.body = {
        "docs": [
            {"_id": "a", "found": True, "_seq_no": 0, "_primary_term": 1, "_source": source},
        ],
        "items": [{"index": {"status": 200, "_seq_no": 1, "_primary_term": 1}}],
    }

    async def folded(unit: ReadUnit) -> Changes:
        assert unit.versions == {"job-a": 1}
        return Changes([Write("a", Upsert(title="y"), "", "job-a", 2)], {"job-a": 2})

    await place.writer(TARGET, "queue").transact(["job-a"], folded)
    assert [line for line in server.requests if "_refresh" in line] == []
    await place.versions(TARGET, ["job-a"])
    assert len([line for line in server.requests if "_refresh" in line]) == 1


async def test_an_engine_that_is_too_old_is_told(canned: tuple[Canned, SearchPlace]) -> None:
    engine, place = canned
    engine.body = {"version": {"number": "7.9.3"}}
    with pytest.raises(ConfigurationError, match=r"Elasticsearch 7\.9\.3, .* 7\.10"):
        await place.open()
    engine.body = {"version": {"number": "2.1.0", "distribution": "opensearch"}}
    await place.open()


def test_words_of_an_engine_are_shown_up_to_where_it_quotes() -> None:
    reason = "failed to parse field [pay] of type [integer] in document with id 'secret'. Preview "
    error = {
        "type": "mapper_parsing_exception",
        "reason": f"{reason} of field's value: 'secret'",
        "caused_by": {"type": "number_format_exception", "reason": 'For input string: "secret"'},
    }
    words = "mapper_parsing_exception: failed to parse field [pay] of type [integer]"
    assert said(error) == words
    assert said({"type": "Secret words", "reason": "secret"}) == "error"
    assert said(None) == "error"


@pytest.mark.parametrize(
    "url",
    ["http://", "ftp://sec", "http://sec:0x", "http://a@sec@c", "https://h/?no_verify_ssl=sec", []],
)
def test_a_url_that_cannot_be_is_told_without_quoting_it(url: Any) -> None:
    with pytest.raises(ConfigurationError) as failure:
        address_of(url)
    assert "sec" not in str(failure.value)


def test_a_url_says_where_nodes_are_and_who_asks() -> None:
    address = address_of(["http://ann:p%40ss@one", "https://two/path"])
    assert address.label == "one:9200, two:443"
    one, two = address.hosts
    assert one["headers"] == {"authorization": f"Basic {b64encode(b'ann:p@ss').decode()}"}
    assert two["use_ssl"]
    assert two["url_prefix"] == "path"


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("", Upsert(), "is not a text, or is empty"),
        (7, Upsert(), "is not a text, or is empty"),
        ("\ud800", Upsert(), "half a character"),
        ("__stream__/job-a", Upsert(), "which the bus has for itself"),
        ("a", Upsert({"": 1}), "cannot be a field's name"),
        ("a", Upsert(_bus={}), "cannot be a field's name"),
        ("a", Upsert(title="\ud800"), "half a character"),
        ("a", Upsert(title=b"x"), "holds a bytes"),
        ("a", Upsert(place={7: "x"}), "a mapping with the key 7"),
        ("a", Upsert(pay=float("inf")), "holds inf"),
        ("a", Increment(pay=True), "adds a bool"),
    ],
)
def test_what_an_index_cannot_hold_is_refused(key: Any, change: Any, words: str) -> None:
    sink = SearchIndex(url="http://h", mappings={"properties": {}})
    with pytest.raises(ProjectionError, match=words):
        sink.check(key, change)
