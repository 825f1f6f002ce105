"""Listeners: calls functions with the signals that they listen to; their failures harm nobody."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from bus.common.exceptions import own
from bus.common.signatures import inspected, is_async, name_of
from bus.errors import ConfigurationError
from bus.observe.log import Logger
from bus.observe.logged import LEVELS, log_signal
from bus.observe.signals import KINDS, Signal

Some = TypeVar("Some", bound=Signal)
Fields = ParamSpec("Fields")
Listener = Callable[[Any], object]

log = Logger("bus.signals")


class Signals:
    """The listeners of one bus, in all of its event loops. The log is the first of them."""

    def __init__(self, service: str = "") -> None:
        self.service = service
        self.wanted: dict[type[Signal], tuple[Listener, ...]] = {}
        """Who listens, by kind. Look here before making a signal of what happens often."""
        self._failed: set[tuple[int, type[Signal]]] = set()
        for kind in LEVELS:
            self._add(kind, log_signal)

    def listen(self, kind: type[Some], listener: Callable[[Some], object]) -> Callable[[], None]:
        """Has `listener` called with each signal of a kind; returns what ends that.

        Raises: ConfigurationError.
        """
        where = f"Bus({self.service!r}).listen"
        kinds = [known for known in KINDS if isinstance(kind, type) and issubclass(known, kind)]
        if not kinds or not issubclass(kind, Signal):
            raise ConfigurationError(
                f"{where}({kind!r:.100}, ...): it is not a kind of signal; `bus.signals` has them: "
                f"write it as in bus.listen(signals.CommandHandled, count)"
            )
        if not callable(listener):
            raise ConfigurationError(
                f"{where}({kind.__name__}, {listener!r:.100}): it cannot be called; give a "
                f"function that takes the signal"
            )
        where = f"{where}({kind.__name__}, {name_of(listener)})"
        if is_async(listener):
            raise ConfigurationError(
                f"{where}: it is async, and nobody would await it; write `def`, and have it put "
                f"the signal into a queue where a task of yours is to go on with it"
            )
        _check_parameters(where, listener)
        for known in kinds:
            self._add(known, listener)

        def stop() -> None:
            while kinds:  # so that a second call does nothing
                self._remove(kinds.pop(), listener)

        return stop

    def emit(
        self,
        kind: Callable[Concatenate[str, Fields], Signal],
        /,
        *values: Fields.args,
        **named: Fields.kwargs,
    ) -> None:
        """Calls the listeners with a signal, or makes none if there are none. Raises nothing."""
        listeners = self.wanted.get(kind)  # type: ignore[call-overload]
        if listeners:
            self._call(listeners, kind(self.service, *values, **named))

    def _add(self, kind: type[Signal], listener: Listener) -> None:
        self.wanted[kind] = (*self.wanted.get(kind, ()), listener)

    def _remove(self, kind: type[Signal], listener: Listener) -> None:
        self._failed.discard((id(listener), kind))
        left = list(self.wanted[kind])
        left.remove(listener)
        if left:
            self.wanted[kind] = tuple(left)
        else:
            del self.wanted[kind]

    def _call(self, listeners: tuple[Listener, ...], signal: Signal) -> None:
        for listener in listeners:
            try:
                listener(signal)
            except BaseException as error:
                if not own(error):
                    raise
                self._note(listener, type(signal), error)

    def _note(self, listener: Listener, kind: type[Signal], error: BaseException) -> None:
        """Logs the first failure of a listener with signals of a kind."""
        if (id(listener), kind) not in self._failed:
            self._failed.add((id(listener), kind))
            log.error(
                "listener_failed",
                listener=name_of(listener),
                signal=kind.name,
                hint="it is called all the same from now on; further failures are not logged",
                exc_info=error,
            )


def _check_parameters(where: str, listener: Listener) -> None:
    try:
        taken = inspected(listener)
    except ValueError:  # some of what is written in C does not say
        return
    try:
        taken.bind(None)
    except TypeError:
        raise ConfigurationError(
            f"{where}: it takes {taken}, and is called with the signal alone; give the rest "
            f"beforehand, as functools.partial does"
        ) from None
