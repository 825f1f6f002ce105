"""The queues that a service once declared, with their bindings, in a note of its database: what the
code no longer declares can then be looked up by name. RabbitMQ lists its queues to nobody by AMQP.
"""

from collections.abc import Collection, Mapping

from bus.assembly.runtime import Runtime
from bus.data.payload import Document
from bus.settings import MEMORY
from bus.stores.control import change_note

Bindings = frozenset[tuple[str, str]]
"""Pairs of an exchange and a topic."""


def notes_queues(runtime: Runtime) -> bool:
    """Returns whether a process of this service declares anything at a broker."""
    return runtime.settings.declare == "always" and runtime.settings.amqp_url != MEMORY


async def note_declared(runtime: Runtime) -> None:
    """Adds what is declared now. Raises: StoreUnavailable, OutcomeUnknown."""
    declared = _declared(runtime)
    await change_note(
        runtime.control, _key(runtime), lambda note: _document({**_queues(note), **declared})
    )


async def forget_declared(runtime: Runtime, kept: Collection[str]) -> None:
    """Forgets all but these queues, and what is declared now. Raises: StoreUnavailable,
    OutcomeUnknown."""
    names = {*kept, *_declared(runtime)}

    def without(note: Document) -> Document:
        return _document({name: of for name, of in _queues(note).items() if name in names})

    await change_note(runtime.control, _key(runtime), without)


async def declared_once(runtime: Runtime) -> Mapping[str, Bindings]:
    """Returns the bindings of all queues that were noted, by name. Raises: StoreUnavailable."""
    return _queues((await runtime.control.note(_key(runtime))).value)


def _declared(runtime: Runtime) -> dict[str, Bindings]:
    from bus.transports.rabbitmq.planning.wanted import wanted_queues  # aio-pika comes with it

    return {queue.name: frozenset(queue.bindings) for queue in wanted_queues(runtime.topology)}


def _key(runtime: Runtime) -> str:
    return f"topology/{runtime.service}"


def _queues(note: Document) -> dict[str, Bindings]:
    return {
        name: frozenset((exchange, topic) for exchange, topic in bindings)
        for name, bindings in note.get("queues", ())
    }


def _document(queues: Mapping[str, Bindings]) -> Document:
    """Returns the note; in pairs, because names hold dots, which a field's name may not."""
    pairs = sorted(queues.items())
    return {"queues": [[name, [list(pair) for pair in sorted(of)]] for name, of in pairs]}
