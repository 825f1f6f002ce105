"""Owner: one service to a database, which a note in it names.

Two services in one database would publish and mark each other's commits, and each would miss its
own. So would one service whose log is in SQL, beside two databases of MongoDB: a note in the log's
database names the service, and by an id the place of what is kept besides.
"""

from collections.abc import Callable
from functools import partial

from bus.common import clock
from bus.data.payload import Document
from bus.errors import ConfigurationError
from bus.stores.control import Notes, change_note

OWNER_NOTE = "commits/service"
"""The key of the note that holds `{"service": ...}`, and where the log is elsewhere its own `id`;
beside the log stands the same note, with that id as `beside`."""


async def check_owner(control: Notes, service: str, *, claims: bool) -> None:
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
        if beside := document.get("beside"):
            raise ConfigurationError(_elsewhere(service, beside, ""))
        return {**document, "service": service} if claims else document

    await change_note(control, OWNER_NOTE, claimed)


async def check_log(
    notes: Notes, control: Notes | None, service: str, *, claims: bool, moves: bool = False
) -> None:
    """Checks that a log with a database of its own is this service's, beside this `control` (None
    if that is lost with its process); with `claims`, takes it if it is nobody's. Whoever `moves` a
    log does not ask what it stands beside.

    Raises: ConfigurationError, StoreUnavailable, OutcomeUnknown.
    """
    id = "" if moves and not claims else await _id_of(control, makes=claims)

    def claimed(document: Document) -> Document:
        owner, beside = document.get("service", service), document.get("beside", "")
        if owner != service:
            raise ConfigurationError(
                f"Bus({service!r}): the event log at BUS_LOG_URL is that of the service {owner!r}, "
                f"and two in one would publish and mark each other's events; give {service!r} a "
                f"database of its own (BUS_LOG_URL). If {owner!r} was renamed on purpose: stop it, "
                f"then `bus claim APP --from {owner}`"
            )
        if "service" in document and beside != id and (claims or not moves):
            raise ConfigurationError(_elsewhere(service, beside, id))
        return {**document, "service": service, "beside": id} if claims else document

    await change_note(notes, OWNER_NOTE, claimed)


async def hand_over(
    control: Notes,
    service: str,
    former: str,
    *,
    log: Notes | None = None,
    lasts: bool = True,
) -> None:
    """Gives the database of the service `former` to another one, or to the same; and the `log`, if
    it has a database of its own, which then stands beside this `control`, if that `lasts`.

    Raises: ConfigurationError if one is neither's, StoreUnavailable, OutcomeUnknown.
    """
    check = partial(_check_former, service, former)
    if log:
        check((await log.note(OWNER_NOTE)).value)
    is_new = log and not (await control.note(OWNER_NOTE)).value.get("service")
    await change_note(control, OWNER_NOTE, _given(service, None if is_new else check))
    if log:
        id = await _id_of(control, makes=True) if lasts else ""
        await change_note(log, OWNER_NOTE, _given(service, check, id))


def _given(
    service: str, check: Callable[[Document], None] | None, beside: str = ""
) -> Callable[[Document], Document]:
    def given(document: Document) -> Document:
        if check:
            check(document)
        return {**document, "service": service, "beside": beside}

    return given


def _check_former(service: str, former: str, document: Document) -> None:
    owner = document.get("service", "")
    if owner not in (service, former):
        raise ConfigurationError(
            f"the database is that of {repr(owner) if owner else 'no service yet'}, not of "
            f"{former!r}; nothing was changed"
        )


async def _id_of(control: Notes | None, *, makes: bool) -> str:
    """Returns the id of a place of notes; without `makes`, an empty one if it has none yet."""

    def identified(document: Document) -> Document:
        return document if document.get("id") or not makes else {**document, "id": clock.new_id()}

    return (await change_note(control, OWNER_NOTE, identified)).get("id", "") if control else ""


def _elsewhere(service: str, there: str, here: str) -> str:
    if not there:
        was, remedy = "was used without BUS_MONGO_URL", "take BUS_MONGO_URL out"
    elif here:
        was = "stands beside another database of MongoDB"
        remedy = "set BUS_MONGO_URL and BUS_MONGO_DB as its other processes have them"
    else:
        was, remedy = "stands beside a database in MongoDB", "set BUS_MONGO_URL and BUS_MONGO_DB"
    return (
        f"Bus({service!r}): the event log at BUS_LOG_URL {was}, where dead letters, leases and "
        f"notes of the service are kept, and they would be in two places; {remedy}. If it is to "
        f"stand beside this one from now on: stop all processes of the service, then "
        f"`bus claim APP --from {service}`"
    )
