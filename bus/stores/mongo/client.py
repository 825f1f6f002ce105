"""One interface to both drivers, motor and PyMongo's own asynchronous one.

They agree on collections, cursors and cursors' `to_list`. Their difference is handled only here:
which of a few calls return an awaitable.
"""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import pymongo
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.errors import NetworkTimeout, PyMongoError
from pymongo.read_concern import ReadConcern

from bus.common.tasks import OthersTime
from bus.common.urls import ENCODED
from bus.errors import ConfigurationError
from bus.stores.records import OPTIONS

Client = Any
"""motor's `AsyncIOMotorClient` or PyMongo's `AsyncMongoClient`; motor has no types."""
Database = Any
Collection = Any
MongoSession = Any

DURABLE = WriteConcern("majority", j=True)
MAJORITY = ReadConcern("majority")
LATEST = ReadConcern("local")
SNAPSHOT = ReadConcern("snapshot")

ANSWER_WITHIN = 5.0
FIND_AGAIN_MS = 1000
"""How often a server that stepped down is asked again; the driver's default is ten seconds."""
MARGIN = 2.0


class Unanswered(NetworkTimeout):
    """The driver exceeded its own timeout: its call may still be under way."""


def connect(url: str, *, select_within: float = 5.0, answer_within: float = 10.0) -> Client:
    """Returns a motor client, which finds its server or fails within the seconds given.

    Raises: ConfigurationError, which quotes nothing of the URL but the name of a missing file.
    """
    try:
        return AsyncIOMotorClient(
            url,
            serverSelectionTimeoutMS=int(select_within * 1000),
            timeoutMS=int(answer_within * 1000),
            connectTimeoutMS=int(select_within * 1000),
            heartbeatFrequencyMS=FIND_AGAIN_MS,
            appname="doubledecker",
        )
    except OSError as error:
        files = ", ".join(unreadable_files(url)) or "a certificate"
        problem = (
            f"{files} cannot be read ({error.strerror}); correct the path in the URL, or its "
            f"permissions"
        )
    except (PyMongoError, ValueError, TypeError) as error:
        problem = (
            f"it does not read as mongodb://user:password@host:port/?replicaSet=name "
            f"({type(error).__name__}); {ENCODED}, and check the values of its options"
        )
    raise ConfigurationError(f"MongoDB: the URL cannot be used: {problem}")


def unreadable_files(url: str) -> list[str]:
    """Returns the certificates and keys in a URL that cannot be read here."""
    options = parse_qsl(url.partition("?")[2])
    files = [value for name, value in options if name.lower().endswith("file")]
    return [file for file in files if not os.access(file, os.R_OK)]


def makes_clients(given: Any) -> bool:
    """Returns whether it is a function. (Not `callable`: databases are callable, only to refuse.)

    Raises: ConfigurationError for a driver's own class: called, it would look for a local server.
    """
    if given in (AsyncMongoClient, AsyncIOMotorClient):
        raise ConfigurationError(
            f"Bus(client={given.__name__}) is the class, which knows no server; make a client of "
            f"it, as in client={given.__name__}(url), or give a function that does, as in "
            f"client=lambda: {given.__name__}(url)"
        )
    return inspect.isroutine(given) or inspect.isclass(given) or isinstance(given, partial)


def checked(client: Any) -> Client:
    """Returns the client. Raises: ConfigurationError if it is not an asynchronous one."""
    if isinstance(client, pymongo.MongoClient) or not _has_databases(client):
        raise ConfigurationError(
            f"Bus(client=...) takes PyMongo's AsyncMongoClient or motor's AsyncIOMotorClient, or a "
            f"function that makes one, as in client=lambda: AsyncMongoClient(url); and not "
            f"{_named(client)}"
        )
    return client


def _has_databases(client: Any) -> bool:
    return hasattr(type(client), "get_database")


def _named(client: Any) -> str:
    if inspect.iscoroutine(client):
        client.close()
        return "an async function"
    return "PyMongo's synchronous one" if _has_databases(client) else type(client).__name__


def check_usable(client: Client) -> None:
    """Raises: ConfigurationError if the client is closed, or was used before this process was
    forked, or in another event loop."""
    # A motor client wraps PyMongo's; only its topology knows which process opened it.
    is_motors = isinstance(client, AsyncIOMotorClient)
    native = client.delegate if is_motors else client
    opened_by = getattr(getattr(native, "_topology", None), "_pid", None)
    if opened_by not in (None, os.getpid()):
        raise ConfigurationError(
            "the MongoDB client was opened before this process was forked, and its connections are "
            "the parent's; make a client in each process, after the fork"
        )
    loop = getattr(client, "_io_loop" if is_motors else "_loop", None)
    if loop is not None and loop is not asyncio.get_running_loop():
        raise _unusable("was used in another event loop, and is of that one")
    if getattr(native, "_closed", False):
        raise _unusable("is closed")


def _unusable(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the MongoDB client that the bus was given {what}; give a function that makes one, which "
        f"the bus calls and closes each time that it is opened: "
        f"Bus(client=lambda: AsyncMongoClient(url))"
    )


async def close(client: Client) -> None:
    """Closes a client of either driver."""
    await settled(client.close())


def database(client: Client, name: str) -> Database:
    """Returns the database, with concerns set here, so that no URL can weaken them."""
    return client.get_database(
        name,
        codec_options=OPTIONS,
        read_preference=ReadPreference.PRIMARY,
        write_concern=DURABLE,
        read_concern=MAJORITY,
    )


async def start_session(client: Client) -> MongoSession:
    """Starts an explicit session; the caller ends it."""
    return await settled(client.start_session())


async def start_transaction(session: MongoSession) -> None:
    """Starts a transaction that sees majority-committed data as of one moment."""
    await settled(
        session.start_transaction(
            read_concern=SNAPSHOT, write_concern=DURABLE, read_preference=ReadPreference.PRIMARY
        )
    )


async def read_of_majority(collection: Collection) -> Any:
    """Reads as a majority holds it, and returns the server's whole answer: up to `operationTime`,
    readers see all that was written; `$clusterTime` is that of the last write. A server that stands
    alone says neither."""
    looks = {"find": collection.name, "limit": 1, "projection": {"_id": 1}}
    concern = {"readConcern": MAJORITY.document}
    return await settled(collection.database.command(looks | concern))


async def settled(value: Any) -> Any:
    """Returns the value, awaited if this driver returned an awaitable."""
    return await value if inspect.isawaitable(value) else value


@asynccontextmanager
async def bounded(
    seconds: float = ANSWER_WITHIN, *, server_waits: bool = False
) -> AsyncIterator[None]:
    """Bounds what the driver does within; raises only PyMongo's errors.

    A client that the bus was given may have no timeout of its own: a frozen primary would then hold
    the caller for as long as it is frozen. If the server waits for data (`server_waits`), the
    driver must not know the bound: it would pass it on to the server, whose answer "nothing yet"
    would then come too late, or only just in time.
    """
    try:
        with OthersTime(), pymongo.timeout(0 if server_waits else seconds):
            async with asyncio.timeout(seconds + MARGIN):
                yield
    except TimeoutError as error:
        raise Unanswered(f"no answer within {seconds + MARGIN:.0f} s") from error
