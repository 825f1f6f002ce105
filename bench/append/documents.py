"""The document of one commit and its collection's indexes, as the event log keeps them.

Knows no bus: it is what somebody would write who keeps the same by hand.
"""

from datetime import UTC, datetime
from typing import Any

from pymongo import IndexModel

from bench.queues import data_of

INDEXES = [
    IndexModel([("stream", 1), ("first", 1)], unique=True),
    IndexModel([("category", 1), ("time", 1), ("first", 1)]),
    IndexModel([("pending", 1), ("time", 1)], partialFilterExpression={"pending": True}),
]


def document_of(number: int) -> dict[str, Any]:
    command = f"c{number}"
    return {
        "_id": command,
        "stream": f"account-a{number}",
        "category": "account",
        "first": 1,
        "events": [{"name": "AccountOpened", "schema": 1, "data": data_of(number)}],
        "time": datetime.now(UTC),
        "correlation_id": command,
        "causation_id": command,
        "message": "OpenAccount",
        "pending": True,
    }
