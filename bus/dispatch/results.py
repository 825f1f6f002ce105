"""Results: what a command's handler returns, written beside its commit and read from there."""

from functools import partial
from inspect import formatannotation
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bus.common.fingerprint import first_line, reason_of
from bus.data import payload
from bus.data.round_trip import difference
from bus.data.unwritten import unwritten
from bus.declare.router import Handler, result_adapter
from bus.errors import ConfigurationError, InvalidMessage, ResultUnreadable
from bus.messages import Receipt


class Results:
    """Writes and reads the results of one command's handler, as its annotation says."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._adapter = _complete(result_adapter(handler.name, handler.returns), handler.name)

    def written(self, result: Any) -> tuple[Any, Any]:
        """Returns a result as its handler declares it, and as JSON types.

        Raises: InvalidMessage if a repeat of the command would get a different result.
        """
        try:
            typed = self._adapter.validate_python(result)
            data = self._data(typed)
            payload.check(data, "it")
            if different := difference(typed, self._adapter.validate_python(data)):
                raise InvalidMessage(str(different))
        except (InvalidMessage, ValueError, RecursionError) as error:
            returns = self._handler.returns
            kept = f"'-> {formatannotation(returns)}'" if returns else "JSON, without an annotation"
            raise InvalidMessage(
                f"{self._handler.name}: what it returned, of type {type(result).__name__}, cannot "
                f"be stored as {kept}: {reason_of(error)}; nothing was stored: correct what it "
                f"returns, or the annotation"
            ) from None
        return typed, data

    def _data(self, typed: Any) -> Any:
        try:
            return self.data(typed)
        except Exception as error:
            raise InvalidMessage(unwritten(typed, error, partial(self.data, typed))) from None

    def data(self, typed: Any, include: Any = None) -> Any:
        """Returns a result as JSON types."""
        return self._adapter.dump_python(
            typed, mode="json", by_alias=True, round_trip=True, warnings=False, include=include
        )

    def read(self, receipt: Receipt) -> Receipt:
        """Returns the receipt with its result as declared. Raises: ResultUnreadable."""
        if receipt.result is None:
            return receipt
        try:
            # Earlier releases wrote field names instead of aliases.
            kept = payload.plain_integers(receipt.result)
            result = self._adapter.validate_python(kept, by_alias=True, by_name=True)
        except ValidationError as error:
            raise ResultUnreadable(
                f"the command {receipt.id} was carried out, but its result is not as "
                f"{self._handler.name} returns it now ({reason_of(error)}); `receipt` of this "
                f"error has it as it was kept",
                receipt,
            ) from None
        return receipt._replace(result=result)


def _complete(adapter: TypeAdapter[Any], name: str) -> TypeAdapter[Any]:
    try:
        adapter.rebuild()
    except NameError as error:
        raise ConfigurationError(
            f"{name}, what it returns: its type is not complete: {first_line(error)}; define or "
            f"import what it names in its own module, before the bus is built"
        ) from None
    return adapter
