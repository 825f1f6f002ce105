"""Puts the parts of a bus together; what each does is written in its own module.

It does so for each opening, because what it makes belongs to one event loop. What is in memory is
shared.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bus.assembly.arguments import check_lent, check_made
from bus.assembly.backend import MakeBackend, brought_by, default_backend, read_log_of
from bus.assembly.declarations import check_declarations, check_fed, taken_categories
from bus.assembly.runtime import BusState, Runtime, command_registry, subscriptions_of
from bus.assembly.sinks import lenders_of, with_sinks
from bus.continuity.checks import service_checks
from bus.continuity.continuity import Continuity
from bus.declare.router import Router
from bus.dispatch.dependencies import Provided
from bus.dispatch.dispatcher import Dispatcher
from bus.dispatch.middleware import Middleware
from bus.observe.health import Checkup
from bus.observe.listeners import Signals
from bus.observe.loops import Loops
from bus.read.documents import Documents
from bus.read.foreign import Foreign, History
from bus.read.freshness import Freshness
from bus.read.live import Live
from bus.read.projection import Projection
from bus.rebuild.catalogue import Catalogue, CurrentDocuments
from bus.settings import Settings
from bus.signing import Signing
from bus.transports.feed import Feed
from bus.write.publisher import Publisher


class Assembly:
    """What a bus is made of, as its service declares it.

    Raises: ConfigurationError.
    """

    def __init__(
        self,
        *,
        service: str,
        routers: Sequence[Router],
        projections: Sequence[Projection[Any]],
        settings: Settings,
        provide: Mapping[Any, Any],
        middleware: Sequence[Middleware],
        foreign: Mapping[str, str | Feed],
        backend: MakeBackend | None,
        client: Any,
        signals: Signals,
    ) -> None:
        owned = {name: o.owner if isinstance(o, Feed) else o for name, o in foreign.items()}
        check_declarations(service, routers, projections, owned)
        self._feeds = _once({n: feed for n, feed in foreign.items() if isinstance(feed, Feed)})
        check_fed(service, routers, settings, self._feeds)
        self._service = settings.named(service)
        self._routers = tuple(routers)
        self._projections = tuple(projections)
        self._settings = settings
        self._provide = dict(provide)
        self._middleware = tuple(middleware)
        self._owners = {category: settings.named(owner) for category, owner in owned.items()}
        brought = backend or brought_by(settings)
        self._is_default = brought is None
        self._signals = signals
        self._make_backend = brought or default_backend(settings, client)

    def runtime(self) -> Runtime:
        """Makes the runtime of one opening. Raises: ConfigurationError."""
        service, settings, projections = self._service, self._settings, self._projections
        loops = Loops(self._signals)
        projected = [
            projection.name
            for projection in projections
            if projection.sink is None or projection.sink.versions_in_checkpoints
        ]
        backend = self._make_backend(service, projected, loops)
        check_made(service, backend)
        check_lent(service, backend.effects.lends, self._provide)
        transport, event_log = backend.transport, backend.event_log
        collections = with_sinks(service, backend.collections, projections)
        control = backend.control
        signing = Signing(control, settings.signing_secret)
        taken = taken_categories(service, self._routers, projections, self._owners)
        publisher = Publisher(event_log, transport, signing.sign, self._signals, taken)
        copied = self._copied()
        history = History(control, copied, self._feeds)
        read = {feed: backend.feed(feed) for feed in self._feeds.values()}
        feeds = {category: read[feed] for category, feed in self._feeds.items()}
        foreign = Foreign(self._owners, settings.gap_within, feeds)
        read_log, followed = read_log_of(service, event_log, backend.followed, copied)
        catalogue = Catalogue(projections, read_log, collections, control, history)
        continuity = Continuity(
            event_log, collections, control, catalogue, projections, signing, loops
        )
        freshness = Freshness(collections, catalogue.target)
        handlers = [handler for router in self._routers for handler in router.handlers]
        documents = {
            projection.view: Documents(
                CurrentDocuments(projection, catalogue, collections),
                projection.view,
                waiting=_waiting(freshness, projection),
            )
            for projection in projections
            if projection.sink is None
        }
        lenders = lenders_of(collections, catalogue, projections)
        dispatcher = Dispatcher(
            service,
            handlers,
            provided=Provided(self._provide, documents, backend.effects.lends, lenders),
            middleware=[*self._middleware, *backend.middleware],
            event_log=event_log,
            publishing=publisher,
            effects=backend.effects,
            foreign=self._owners,
            may_be_former=signing.may_be_former,
            signals=self._signals,
        )
        checks = service_checks(
            transport, event_log, read_log, collections, control, catalogue, projections, history
        )
        return Runtime(
            service=service,
            settings=settings,
            transport=transport,
            event_log=event_log,
            collections=collections,
            control=control,
            effects=backend.effects,
            join=backend.join,
            log_notes=backend.log_notes,
            dispatcher=dispatcher,
            publisher=publisher,
            declared=subscriptions_of(service, self._routers, projections, foreign.exchanges),
            catalogue=catalogue,
            commands=command_registry(handlers),
            checkup=Checkup([*checks, *continuity.checks], loops=loops),
            routers={router.name: router for router in self._routers},
            read_log=read_log,
            followed=followed,
            foreign=foreign,
            history=history,
            signing=signing,
            loops=loops,
            continuity=continuity,
            freshness=freshness,
            live=Live(collections, catalogue.target, loops),
            disconnect=backend.disconnect,
            has_default_backend=self._is_default,
            state=BusState(),
        )

    def _copied(self) -> dict[str, str]:
        """Returns the owners of the other services' categories that projections read, or feeds
        bring."""
        projected = {name for projection in self._projections for name in projection.categories}
        return {
            name: owner
            for name, owner in self._owners.items()
            if name in projected | self._feeds.keys()
        }


def _once(feeds: Mapping[str, Feed]) -> dict[str, Feed]:
    """Returns the feeds with one object for those that are equal."""
    known: dict[Feed, Feed] = {}
    return {category: known.setdefault(feed, feed) for category, feed in feeds.items()}


def _waiting(freshness: Freshness, projection: Projection[Any]) -> Any:
    async def waiting(versions: Mapping[str, int], timeout: float) -> None:
        await freshness.wait_for([projection], versions, timeout)

    return waiting
