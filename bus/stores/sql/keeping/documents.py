"""Documents as JSON, and back as they were: what JSON lacks (times, bytes, decimals) is written as
MongoDB's extended JSON has it."""

import json
from collections.abc import Mapping
from typing import Any

from bson import json_util
from bson.json_util import RELAXED_JSON_OPTIONS

from bus.data.payload import Document
from bus.stores.records import READING, decoded, encoded

_OPTIONS = RELAXED_JSON_OPTIONS.with_options(tz_aware=True)


def kept(document: Mapping[str, Any]) -> Any:
    """Returns a document as JSON types. Raises: InvalidMessage if it cannot be stored."""
    return json.loads(json_util.dumps(decoded(encoded(document)), json_options=_OPTIONS))


def document_in(value: Any) -> Document:
    """Returns the document that was kept."""
    found: Document = json_util.loads(json.dumps(value), json_options=_OPTIONS)
    return decoded(encoded(found), READING)
