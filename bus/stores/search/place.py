"""The place of one projection's indices, while a bus is open."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from opensearchpy.exceptions import RequestError, TransportError

from bus.data.ids import key_of
from bus.data.payload import Document
from bus.errors import ConfigurationError, NotAllowed, StoreUnavailable
from bus.observe.health import Examined, Finding, fault, of_problem
from bus.stores.collections import Changes, Target
from bus.stores.search import aliases, audits
from bus.stores.search.declared import Declared, owner_of
from bus.stores.search.engine import WRITE_WITHIN, Engine
from bus.stores.search.examining import examined
from bus.stores.search.failures import EXISTS, kind_of, translated, undeclarable
from bus.stores.search.index import Index
from bus.stores.search.memory import Memory
from bus.stores.search.writing import by_document, by_stream
from bus.stores.search.writing.records import SHOWN, id_of, version_of
from bus.stores.sink import Place
from bus.stores.sinks.placed import SinkWriter

MOST_KNOWN = 10_000
"""Streams whose versions are known to be found by searches."""
OLDEST = (7, 10)
"""The first Elasticsearch that writes through an alias or not at all."""


class SearchPlace(Place, Examined):
    """Keeps a projection in indices of an engine, one for each collection."""

    def __init__(self, engine: Engine, declared: Declared, service: str, prefix: str) -> None:
        self.engine = engine
        self._declared = declared
        self._service = service
        self._prefix = prefix
        self._memories: dict[str, Memory] = {}
        self._found: dict[tuple[str, str], int] = {}
        """The versions of streams, by collection, that searches are known to find."""
        self._uuids: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        """Why a collection has no index of this service's."""

    async def open(self, *, makes: bool = True) -> None:
        """Raises: StoreUnavailable, ConfigurationError (the engine is too old)."""
        try:
            about = await self.engine.ask("GET", "/")
        except NotAllowed:  # of a user who may use indices alone
            return
        version = (about or {}).get("version", {})
        number = tuple(map(int, re.findall(r"\d+", str(version.get("number", "")))[:2]))
        if "distribution" not in version and (0,) < number < OLDEST:
            raise ConfigurationError(
                f"{self.engine.where} is Elasticsearch {version['number']}, and the first one that "
                f"will do is 7.10: use that or a later one, or OpenSearch"
            )

    async def close(self) -> None:
        await self.engine.close()

    # --- collections -----------------------------------------------------------------------------

    async def prepare(self, target: Target) -> Sequence[str]:
        try:
            problems = await self._prepare(target)
        except ConfigurationError as error:
            self._refused[target.collection] = str(error)
            raise
        self._refused.pop(target.collection, None)
        return problems

    async def _prepare(self, target: Target) -> Sequence[str]:
        index = self._index(target)
        _check_name(index.name, target)
        stored = await self._stored(index)
        if stored is None:
            await self._make(index, target)
            stored = await self._stored(index) or {}
        await self._await_started(index)
        self._check_owner(index, target, stored)
        self._know(target, f"{stored.get('settings', {}).get('index.uuid')}")
        if stored.get("aliases", {}).get(index.alias, {}).get("filter") != SHOWN:
            await aliases.hide_hidden(index)
        return self._declared.differing(index.name, stored)

    async def examined(self) -> list[Finding]:
        return await examined(self.engine)

    async def examined_collection(self, target: Target) -> list[Finding]:
        """Returns what differs in an index. Raises: StoreUnavailable, ConfigurationError."""
        index = self._index(target)
        stored = await self._stored(index)
        if stored is None:
            missing = f"{index.name}: there is no such index yet"
            return [fault(missing, "start a worker, which makes it", "G3")]
        self._check_owner(index, target, stored)
        differing = self._declared.differing(index.name, stored)
        return [of_problem(problem, promise="G3") for problem in differing]

    def _know(self, target: Target, uuid: str) -> None:
        """Forgets what is remembered of an index of this name that was there before."""
        if self._uuids.get(target.collection, uuid) != uuid:
            self._memories.pop(target.collection, None)
            self._found.clear()
        self._uuids[target.collection] = uuid

    async def _stored(self, index: Index) -> Mapping[str, Any] | None:
        found = await self.engine.ask("GET", index.path, flat_settings="true")
        stored: Mapping[str, Any] | None = (found or {}).get(index.name)
        if found and stored is None:
            raise ConfigurationError(
                f"{self.engine.where}: {index.name} is an alias of {min(found)}, so that no index "
                f"can have that name; remove the alias, or give SearchIndex(...) a prefix="
            )
        return stored

    async def _make(self, index: Index, target: Target) -> None:
        body = self._declared.body(index.alias, self._service, target.projection)
        try:
            await self.engine.raw("PUT", index.path, body, within=WRITE_WITHIN)
        except RequestError as error:
            info = error.info if isinstance(error.info, Mapping) else {}
            if kind_of(info.get("error")) != EXISTS:  # else another process was first
                raise undeclarable(f"projection {target.projection!r}", error) from None
        except TransportError as error:
            raise translated(self.engine.where, error, writing=False) from None

    async def _await_started(self, index: Index) -> None:
        """Waits until an index that was just made, here or by another process, answers."""
        health = f"/_cluster/health{index.path}"
        with suppress(NotAllowed):  # then what comes next is tried again
            await self.engine.ask("GET", health, wait_for_status="yellow", timeout="5s")

    def _is_own(self, target: Target, stored: Mapping[str, Any]) -> bool:
        owner = owner_of(stored)
        found = owner.get("service"), owner.get("projection")
        return found == (self._service, target.projection)

    def _check_owner(self, index: Index, target: Target, stored: Mapping[str, Any]) -> None:
        if not self._is_own(target, stored):
            owner = owner_of(stored)
            whose = f"of service {owner['service']!r}" if "service" in owner else "not the bus's"
            raise ConfigurationError(
                f"{self.engine.where}: the index {index.name} is {whose}, and is left as it is; "
                f"remove it, or give SearchIndex(...) a prefix= for the names of this service's"
            )

    async def drop(self, target: Target) -> None:
        """Leaves alone what is another service's."""
        index = self._index(target)
        if self._is_own(target, await self._stored(index) or {}):
            await self.engine.ask("DELETE", index.path, within=WRITE_WITHIN)
        self._memories.pop(target.collection, None)
        self._found.clear()

    async def show(self, name: str, target: Target | None) -> str | None:
        shown = f"{self._prefix}{name}"
        try:
            return await aliases.show(self.engine, shown, target and self.index(target))
        except NotAllowed as error:
            return f"there is no alias {shown!r} of what is read: {error}"

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Returns the indices' own ids, of those that this service made."""
        wanted = ["*__v*"] if names is None else sorted(names)
        if not wanted:
            return {}
        paths = ",".join(quote(f"{self._prefix}{name}", safe="*") for name in wanted)
        found: Mapping[str, Any] = (
            await self.engine.ask(
                "GET",
                f"/{paths}",
                flat_settings="true",
                ignore_unavailable="true",
                filter_path=r"*.settings.index\.uuid,*.mappings._meta.bus",
            )
            or {}
        )
        return {
            name.removeprefix(self._prefix): stored["settings"]["index.uuid"]
            for name, stored in found.items()
            if owner_of(stored).get("service") == self._service
        }

    def index(self, target: Target) -> Index:
        """Returns the index of a collection. Raises: StoreUnavailable if it was refused: there is
        none, or it is somebody else's."""
        if why := self._refused.get(target.collection):
            raise StoreUnavailable(why)
        return self._index(target)

    def _index(self, target: Target) -> Index:
        memory = self._memories.setdefault(target.collection, Memory())
        return Index(self.engine, f"{self._prefix}{target.collection}", memory)

    # --- versions --------------------------------------------------------------------------------

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """Has searches find what it returns: refreshes the index, if they may not find it yet."""
        reached = await self.stored(target, streams)
        known = {(target.collection, stream): version for stream, version in reached.items()}
        if not known.items() <= self._found.items():
            await self.index(target).refresh()
            if len(self._found) > MOST_KNOWN:
                self._found.clear()
            self._found |= known
        return reached

    async def stored(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """Returns the versions that these streams have durably reached, which searches may not find
        yet. Raises: StoreUnavailable."""
        by_key = target.versions_in_documents
        ids = {key_of(stream) if by_key else id_of(stream): stream for stream in streams}
        held = await self.index(target).read(ids, own_alone=True)
        return {ids[id]: version_of(found) for id, found in held.items()}

    def writer(self, target: Target, queue: str) -> "SearchWriter":
        return SearchWriter(self, target)

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        versioned = target.versions_in_documents
        return await audits.reached(self.index(target), after, limit, versioned=versioned)

    async def write(self, target: Target, changes: Changes, before: Mapping[str, int]) -> bool:
        """A batch that is refused, or of which another writer was first in some streams, may be
        written in part; the next call takes that into account."""
        write = by_document.write if target.versions_in_documents else by_stream.write
        return await write(self.index(target), changes, before)

    async def load_streams(self, target: Target, changes: Changes) -> Collection[str]:
        """Adds what whole streams make of documents that do not exist, with the versions that they
        reach. Returns the streams that have a version already.

        Raises: ProjectionError (a document is refused; others may be stored), StoreUnavailable,
        OutcomeUnknown (repeating is safe).
        """
        if target.versions_in_documents:
            return await by_document.load(self.index(target), changes)
        there = await self.stored(target, list(changes.versions))
        left = {stream: v for stream, v in changes.versions.items() if stream not in there}
        new = Changes([write for write in changes.writes if write.stream in left], left)
        is_first = await by_stream.write(self.index(target), new, dict.fromkeys(left, 0))
        return there if is_first else changes.versions

    # --- audits ----------------------------------------------------------------------------------

    async def page(self, target: Target, after: str, limit: int) -> list[Document]:
        versioned = target.versions_in_documents
        return await audits.page(self.index(target), after, limit, versioned=versioned)

    async def whole(self, target: Target, keys: Sequence[str]) -> dict[str, Document]:
        versioned = target.versions_in_documents
        return await audits.whole(self.index(target), keys, versioned=versioned)

    async def sample(self, target: Target, count: int) -> list[str]:
        versioned = target.versions_in_documents
        return await audits.sample(self.index(target), count, versioned=versioned)

    async def replace(
        self, target: Target, key: str, found: Document | None, wanted: Document | None
    ) -> bool:
        versioned = target.versions_in_documents
        return await audits.replace(self.index(target), key, found, wanted, versioned=versioned)


class SearchWriter(SinkWriter):
    """Writes batches by the versions that are stored: nobody waits to find them."""

    def __init__(self, place: SearchPlace, target: Target) -> None:
        super().__init__(place, target)
        self._read = place.stored


def _check_name(name: str, target: Target) -> None:
    if name != name.lower() or not name[0].isalnum() or len(name.encode()) > 200:
        raise ConfigurationError(
            f"projection {target.projection!r}: its index would be {name!r}, and an index's name "
            f"is in lower case, begins with a letter or digit, and has 200 bytes at most; rename "
            f"the projection, or give its SearchIndex a prefix="
        )
