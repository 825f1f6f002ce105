"""Answers commands whose requesters wait for the receipt.

A worker answers with the receipt or with the error. Then the command is done with: what to do about
an error is for the requester to decide. `receipt_in` is the requester's side.
"""

from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from bus import errors
from bus.codec import Registry, read_frame
from bus.common import clock
from bus.common.exceptions import outage
from bus.common.fingerprint import failure_of, reason_of
from bus.dispatch.dispatcher import Dispatcher
from bus.errors import (
    BusError,
    InvalidMessage,
    OutcomeUnknown,
    RemoteError,
    ResultUnreadable,
    Retry,
)
from bus.messages import Command, Receipt
from bus.observe.log import Logger
from bus.transports.base import REPLY, Delivery, Frame, Transport

RECEIPT, BUS_ERROR, OTHER_ERROR = "receipt", "bus_error", "error"
WITHIN = 5.0

log = Logger("bus.replies")


class ReplySender(NamedTuple):
    """Answers a service's requested commands."""

    transport: Transport
    dispatcher: Dispatcher
    commands: Registry[Command]

    async def settled(
        self, delivery: Delivery, error: BaseException | None
    ) -> BaseException | None:
        """Answers if somebody asked; returns the error that must still be dealt with here.

        An outage is not answered: the command may yet be carried out.
        """
        if not delivery.frame.reply_to or (error is not None and outage(error)):
            return error
        if error is not None:
            failure = failure_of(error, delivery.frame.name, "")
            log.info(
                "error_replied",
                error=failure.error,
                reason=failure.reason[:500],
                raised_in=failure.frames,
            )
        try:
            await self._answer(delivery.frame, error)
        except Exception as problem:
            log.warning("reply_lost", reason=str(problem)[:500])
        return None

    async def _answer(self, request: Frame, error: BaseException | None) -> None:
        reply = await self._receipt(request) if error is None else _failed(request, error)
        failure = await self._send(reply)
        if isinstance(failure, InvalidMessage):
            too_large = OutcomeUnknown(
                f"it was carried out, but its receipt cannot come: {failure}"
            )
            failure = await self._send(_failed(request, too_large))
        if failure is not None:
            raise failure

    async def _receipt(self, request: Frame) -> Frame:
        """Returns the receipt that the log holds, the same whenever it is asked for."""
        receipt = await self.dispatcher.recorded(read_frame(request, self.commands))
        assert receipt is not None, "it was carried out under this id"
        return _reply(request, RECEIPT, {"versions": receipt.versions, "result": receipt.result})

    async def _send(self, reply: Frame) -> Exception | None:
        failures = await self.transport.publish([reply], timeout=WITHIN)
        return failures.get(reply.id)


def _failed(request: Frame, error: BaseException) -> Frame:
    own = type(error).__module__ == errors.__name__
    content = {"error": type(error).__name__, "reason": reason_of(error)}
    return _reply(request, BUS_ERROR if own else OTHER_ERROR, content)


def _reply(request: Frame, name: str, content: dict[str, Any]) -> Frame:
    return Frame(
        address=REPLY,
        topic=request.reply_to,
        id=request.id,
        name=name,
        body=to_json(content),
        time=clock.now(),
        correlation_id=request.correlation_id,
    )


def receipt_in(reply: Frame, command: str = "") -> Receipt:
    """Returns the receipt that a reply carries, its result as JSON types. `command` is what was
    asked, for errors.

    Raises: the bus's own error, or RemoteError, if the command failed.
    """
    content = from_json(reply.body)
    if reply.name == RECEIPT:
        return Receipt(reply.id, content["versions"], content["result"])
    raise _error(reply, content["error"], content["reason"], command)


def _error(reply: Frame, name: str, reason: str, command: str) -> BusError:
    kind = getattr(errors, name, None) if reply.name == BUS_ERROR else None
    if kind is OutcomeUnknown:
        return OutcomeUnknown(reason, id=reply.id)
    if kind in (None, RemoteError, ResultUnreadable, Retry) or not issubclass(kind, BusError):
        return RemoteError(name, reason, f"{command} {reply.id}".strip())
    return kind(reason)  # type: ignore[no-any-return]
