"""What an event handler's session is, and what runs it: effects that happen exactly once.

Knows no database. Every implementation passes the contract in `tests/service/session_contract.py`.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

from bus.errors import ConfigurationError
from bus.stores.base import Commit, Target, WritableDocuments

OWN_COLLECTIONS = frozenset(
    [
        "commits",
        "snapshots",
        "projections",
        "checkpoints",
        "writers",
        "parked",
        "swept",
        "leases",
        "dead_letters",
        "handled",
        "followed",
    ]
)
"""The collections that only the bus writes."""


class Session(Protocol):
    """What an event handler writes, in one transaction with the mark that it handled the event.

        @mails.event
        async def on_paid(event: Paid, envelope: Envelope, session: Session) -> None:
            queue = session.documents("mail_queue")
            await queue.update(envelope.id, {"$set": {"to": event.payer}})

    What the handler records on aggregates and sends through its `Outbox` is stored in the same
    transaction. Lost against another writer, the handler runs again, and only what its last run
    wrote counts; effects outside of the session may repeat. One operation at a time.
    """

    def documents(self, collection: str) -> WritableDocuments:
        """A collection of the service's own, in the service's database. It keeps Python's values in
        the same forms as read collections do (docs/projections.md).

        Raises: ConfigurationError where it belongs to the bus or to a projection.
        """
        ...

    @property
    def native(self) -> Any:
        """The driver's session: an operation without `session=session.native` is outside of it.

        Raises: ConfigurationError in memory.
        """
        ...

    @property
    def database(self) -> Any:
        """The driver's database. Raises: ConfigurationError in memory."""
        ...


Handling = Callable[[Session], Awaitable[Sequence[Commit]]]


class Effects(Protocol):
    """Runs event handlers so that what they store happens exactly once."""

    async def open(self) -> None:
        """Makes what it needs. Raises: StoreUnavailable, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Ends its own tasks and sessions; the client remains the caller's."""
        ...

    async def once(self, id: str, handling: Handling) -> Sequence[Commit] | None:
        """Stores what `handling` writes, the commits that it returns, and the mark `id`: at once.

        None where the mark stands already; then nothing is stored. `handling` may run several
        times; its own exceptions pass through, and then nothing is stored.
        Raises: ConcurrencyError, InvalidMessage, ProjectionError (a write is refused),
        StoreUnavailable, OutcomeUnknown (repeating is safe: the mark decides).
        """
        ...

    async def marks(self, after: str, limit: int) -> list[str]:
        """The marks that stand, in order, from beyond `after` on."""
        ...

    async def forget(self, marks: Sequence[str]) -> None:
        """Removes marks: these events are handled if they come again."""
        ...


def own_target(collection: str, projected: Collection[str]) -> Target:
    """A collection of the service's own. Raises: ConfigurationError where it is not."""
    if owner := owner_of(collection, projected):
        raise ConfigurationError(
            f"session.documents({collection!r}): this collection belongs to {owner}; "
            f"choose another name for what the handler writes"
        )
    return Target(collection, collection, versions_in_documents=False)


def owner_of(collection: str, projected: Collection[str]) -> str:
    """Whose a collection is, in words; empty where it is the service's own."""
    if any(collection == one or collection.startswith(f"{one}__v") for one in projected):
        return "a projection"
    of_bus = collection in OWN_COLLECTIONS or collection.startswith("system.")
    return "the bus" if of_bus else ""
