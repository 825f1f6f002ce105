"""Stores events of other services' streams as they arrive, before anybody here applies them."""

from collections.abc import Collection, Sequence

from bus.codec import check_topic, followed_commit
from bus.data.ids import category_of
from bus.errors import InvalidMessage
from bus.failures.give_up import GiveUp
from bus.stores.event_log import Commit, FollowedLog
from bus.transports.base import Delivery, Frame

Arrived = tuple[Delivery, Commit]


class ForeignEvents:
    """Stores events of the followed categories. Idempotent."""

    def __init__(
        self, followed: FollowedLog | None, categories: Collection[str], give_up: GiveUp
    ) -> None:
        self._followed = followed
        self._categories = categories
        self._give_up = give_up

    def follows(self, frame: Frame) -> bool:
        """Returns whether a frame claims to be of a followed category."""
        return category_of(str(frame.headers.get("stream", ""))) in self._categories

    def read(self, delivery: Delivery) -> list[Arrived]:
        """Returns what of a delivery must be stored, if anything. Raises: InvalidMessage."""
        if not self._categories:
            return []
        check_topic(delivery.frame)
        if not self.follows(delivery.frame):
            return []
        return [(delivery, followed_commit(delivery.frame))]

    async def keep(self, arrived: Sequence[Arrived]) -> None:
        """Stores them; gives up those that cannot be stored.

        Raises: StoreUnavailable, OutcomeUnknown.
        """
        if not arrived or self._followed is None:
            return
        try:
            await self._followed.keep([commit for _, commit in arrived])
        except InvalidMessage:
            for delivery, commit in arrived:
                await self._keep_one(self._followed, delivery, commit)

    async def _keep_one(self, followed: FollowedLog, delivery: Delivery, commit: Commit) -> None:
        try:
            await followed.keep([commit])
        except InvalidMessage as error:
            await self._give_up(delivery, error, handler=delivery.queue, attempts=1, unread=True)
