"""What an index is declared with: mapping, analysers, settings. No I/O.

They are part of the projection's version: an index takes few changes of them once documents are in
it, and never makes anything else of those.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from bus.errors import ConfigurationError
from bus.stores.search.writing.records import PROPERTIES, SHOWN
from bus.stores.search.writing.values import OWN

_WHERE = "SearchIndex(...)"
_OPERATORS = ("index.number_of_replicas", "index.refresh_interval", "index.auto_expand_replicas")
"""Settings that an operator may change without changing what is found."""


_BY = ", analysed by "
"""Engines add the analyser that a kind of fields has by itself; of one that was taken out of a
declaration, the digest says that it was another."""


class Declared:
    """The declaration of one index."""

    def __init__(self, mappings: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Raises: ConfigurationError."""
        self.mappings = {"dynamic": "strict", **_json(mappings, "mappings")}
        self.settings = _json(settings, "settings")
        _check_mappings(self.mappings)
        _check_settings(_flat_settings(self.settings))
        known = {"mappings": self.mappings, "settings": self.settings}
        self.digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def body(self, alias: str, service: str, projection: str) -> dict[str, Any]:
        """Returns the request that makes the index, with its alias."""
        mappings: dict[str, Any] = deepcopy(self.mappings)
        mappings["properties"][OWN] = dict(PROPERTIES)
        meta = {"service": service, "projection": projection, "declared": self.digest}
        mappings["_meta"] = {**mappings.get("_meta", {}), "bus": meta}
        return {
            "aliases": {alias: {"filter": SHOWN}},
            "mappings": mappings,
            "settings": self.settings,
        }

    def differing(self, index: str, stored: Mapping[str, Any]) -> Sequence[str]:
        """Returns how a stored index (mappings, flat settings) differs from what is declared, each
        with its remedy."""
        found = [*self._differing_fields(stored), *self._differing_settings(stored)]
        if not found and owner_of(stored).get("declared") != self.digest:
            found = ["its mapping or settings were others when it was made"]
        return [
            f"{index}: {what}; an index that has documents keeps what it was made with: raise the "
            f"projection's version=, and one is built as declared now while this one is read"
            for what in found
        ]

    def _differing_fields(self, stored: Mapping[str, Any]) -> Iterator[str]:
        here, there = dict(_kinds(self.mappings)), dict(_kinds(stored.get("mappings", {})))
        for name, kind in here.items():
            if name not in there:
                yield f"the field {name!r} is not in its mapping"
            elif there[name] != kind and not there[name].startswith(f"{kind}{_BY}"):
                yield f"the field {name!r} is {there[name]} in its mapping, and declared as {kind}"
        dynamic = str(stored.get("mappings", {}).get("dynamic", "true"))
        if dynamic.lower() != str(self.mappings["dynamic"]).lower():
            yield f"dynamic is {dynamic} in its mapping"

    def _differing_settings(self, stored: Mapping[str, Any]) -> Iterator[str]:
        there = stored.get("settings", {})
        for name, value in _flat_settings(self.settings).items():
            known = there.get(name, value)
            if name not in _OPERATORS and _text(known) != _text(value):
                yield f"the setting {name} is another one"


def owner_of(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what an index says of who made it; nothing if the bus did not."""
    meta = stored.get("mappings", {}).get("_meta", {})
    found = meta.get("bus") if isinstance(meta, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _json(value: Any, name: str) -> dict[str, Any]:
    try:
        if not isinstance(value, Mapping):
            raise TypeError
        copied: dict[str, Any] = json.loads(json.dumps(value))
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{_WHERE}: {name}= is a mapping, as the engine's own documentation writes it in JSON"
        ) from None
    return copied


def _check_mappings(mappings: Mapping[str, Any]) -> None:
    properties = mappings.get("properties")
    if not isinstance(properties, Mapping):
        raise ConfigurationError(
            f'{_WHERE}: mappings= has no "properties"; write the fields as in mappings='
            f'{{"properties": {{"title": {{"type": "text"}}}}}}'
        )
    if OWN in properties:
        raise ConfigurationError(
            f"{_WHERE}: the field {OWN} is the bus's own; give yours another name"
        )
    source = mappings.get("_source")
    if source not in (None, {"enabled": True}):
        raise ConfigurationError(
            f"{_WHERE}: mappings= leaves out parts of _source, from which documents are changed "
            f"and audited; leave _source as it is"
        )
    if "_routing" in mappings:
        raise ConfigurationError(
            f"{_WHERE}: mappings= asks for routing, and documents are found by their keys alone; "
            f"leave _routing out"
        )


def _check_settings(settings: Mapping[str, Any]) -> None:
    if settings.get("index.translog.durability", "request") != "request":
        raise ConfigurationError(
            f"{_WHERE}: settings= has index.translog.durability, by which an engine forgets what "
            f"it has acknowledged when it crashes; leave it out"
        )


def _flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(_flat(settings))
    return {n if n.startswith("index.") else f"index.{n}": value for n, value in flat.items()}


def _flat(settings: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{outer}{name}.")
        else:
            yield f"{outer}{name}", value


def _kinds(mapping: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, str]]:
    """Yields each field's name and type, with those within it."""
    for part in ("properties", "fields"):
        for name, field in (mapping.get(part) or {}).items():
            kind = field.get("type", "object")
            yield f"{outer}{name}", f"{kind}{_analysed(field)}"
            yield from _kinds(field, f"{outer}{name}.")


def _analysed(field: Mapping[str, Any]) -> str:
    analyzer = field.get("analyzer", "default")
    return "" if analyzer in ("default", "standard") else f"{_BY}{analyzer}"


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(part) for part in value]
    return str(value).lower() if isinstance(value, bool) else str(value)
