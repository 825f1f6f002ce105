"""Owner: one service to a database, which a note in it names.

Two services in one database would publish and mark each other's commits, and each would miss its
own.
"""

from bus.data.payload import Document
from bus.errors import ConfigurationError
from bus.stores.control import Control, change_note

OWNER_NOTE = "commits/service"
"""The key of the note that holds `{"service": ...}`."""


async def check_owner(control: Control, service: str, *, claims: bool) -> None:
    """Checks that the database is this service's; with `claims`, takes it if it is nobody's.

    Raises: ConfigurationError if it is another's, StoreUnavailable, OutcomeUnknown.
    """

    def claimed(document: Document) -> Document:
        owner = document.get("service", service)
        if owner != service:
            raise ConfigurationError(
                f"Bus({service!r}): its database is that of the service {owner!r}, and two in one "
                f"would publish and mark each other's events; give {service!r} a database of its "
                f"own (BUS_MONGO_DB, which by default is named as the service is; without MongoDB, "
                f"BUS_LOG_URL). If {owner!r} was renamed on purpose: stop it, then "
                f"`bus claim APP --from {owner}`"
            )
        return {**document, "service": service} if claims else document

    await change_note(control, OWNER_NOTE, claimed)


async def hand_over(control: Control, service: str, former: str) -> None:
    """Gives the database of the service `former` to another one.

    Raises: ConfigurationError if it is neither's, StoreUnavailable, OutcomeUnknown.
    """

    def handed_over(document: Document) -> Document:
        owner = document.get("service", "")
        if owner not in (service, former):
            raise ConfigurationError(
                f"the database is that of {repr(owner) if owner else 'no service yet'}, not of "
                f"{former!r}; nothing was changed"
            )
        return {**document, "service": service}

    await change_note(control, OWNER_NOTE, handed_over)
