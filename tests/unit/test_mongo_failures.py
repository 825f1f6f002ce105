"""Which of our errors an error of the driver's is, and whether its remedy helps."""

from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    InvalidOperation,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
)

from bus.errors import (
    BusError,
    ConfigurationError,
    InvalidMessage,
    NotAllowed,
    OutcomeUnknown,
    StoreUnavailable,
)
from bus.stores.mongo.failures import is_callers_own, translated


def unauthorized(command: str) -> OperationFailure:
    return OperationFailure(f'not authorized on shop to execute command {{ {command}: "x" }}', 13)


def of_bulk(*codes: int, not_durable: int = 0) -> BulkWriteError:
    failed = [{"index": n, "code": code, "errmsg": "so"} for n, code in enumerate(codes)]
    concern = [{"code": not_durable, "errmsg": "so"}] if not_durable else []
    return BulkWriteError({"writeErrors": failed, "writeConcernErrors": concern})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OperationFailure("so", 10334), InvalidMessage),
        (WriteError("so", 121), InvalidMessage),
        (OperationFailure("so", 13), NotAllowed),
        (OperationFailure("so", 18), NotAllowed),
        (OperationFailure("so", 371), StoreUnavailable),
        (WriteError("so", 371), StoreUnavailable),
        (WriteError("so", 14031), StoreUnavailable),
        (OperationFailure("so", 14031), OutcomeUnknown),
        (OperationFailure("so", 8), OutcomeUnknown),
        (OperationFailure("so", 4711), OutcomeUnknown),
        (WriteConcernError("so", 11601), OutcomeUnknown),
        (of_bulk(14031), StoreUnavailable),
        (of_bulk(not_durable=64), OutcomeUnknown),
        (AutoReconnect("so"), OutcomeUnknown),
        (ServerSelectionTimeoutError("so"), StoreUnavailable),
        (InvalidOperation("so"), StoreUnavailable),
        (OperationFailure("numbers are only allowed on a replica set", 20), ConfigurationError),
        (OperationFailure("fsyncUnlock called when not locked", 20), StoreUnavailable),
    ],
)
def test_what_a_write_that_fails_is_told_as(error: Exception, kind: type[BusError]) -> None:
    assert type(translated(error, writing=True)) is kind


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OperationFailure('not authorized on shop to execute command { collMod: "x" }', 13),
            "collMod on the database 'shop'.*action collMod",
        ),
        (
            OperationFailure(
                'not authorized on shop to execute command { createIndexes: "x" }', 13
            ),
            "action createIndex",
        ),
        (OperationFailure("Authentication failed.", 18), "password"),
        (InvalidOperation("Cannot use AsyncMongoClient after close"), "client was closed"),
        (ServerSelectionTimeoutError("h:1: [Errno 32] Broken pipe"), "tlsCAFile"),
        (ServerSelectionTimeoutError("h:1: [Errno 104] Connection reset by peer"), "tlsCAFile"),
        (ServerSelectionTimeoutError("h:1: [SSL: WRONG_VERSION_NUMBER]"), "tlsCAFile"),
        (ServerSelectionTimeoutError("h:1: [Errno 111] Connection refused"), "is it running"),
        (OperationFailure("so", 14031), "look into its log.*disk"),
    ],
)
def test_the_remedy_is_one(error: Exception, words: str) -> None:
    told = translated(error, writing=False)
    with pytest.raises(BusError, match=words):
        raise told
    assert isinstance(error, ServerSelectionTimeoutError) or "is it running" not in str(told)


def test_what_a_command_holds_is_not_quoted() -> None:
    quoted = 'not authorized on shop to execute command { find: "people", filter: { pin: "1234" } }'
    assert "1234" not in str(translated(OperationFailure(quoted, 13), writing=True))


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (of_bulk(11000), True),
        (OperationFailure("so", 263), True),
        (OperationFailure("Invalid $regex", 51091), True),
        (InvalidOperation("so"), True),
        (of_bulk(14031), False),
        (of_bulk(371), False),
        (OperationFailure("so", 371), False),
        (OperationFailure("so", 46), False),
        (AutoReconnect("so"), False),
    ],
)
def test_whether_a_handler_that_uses_the_driver_is_to_blame(error: Any, own: bool) -> None:
    assert is_callers_own(error) is own
