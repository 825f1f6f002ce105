"""Keeping: what arrives of other services' streams is stored before anybody here applies it."""

from collections.abc import Collection, Sequence

from bus.codec import check_topic, followed_commit
from bus.data.ids import category_of
from bus.errors import InvalidMessage
from bus.failures.give_up import GiveUp
from bus.stores.event_log import Commit, FollowedLog
from bus.transports.base import Delivery, Frame

Arrived = tuple[Delivery, Commit]


class ForeignEvents:
    """Stores events of the categories that are followed. Doing so again changes nothing."""

    def __init__(
        self, followed: FollowedLog | None, categories: Collection[str], give_up: GiveUp
    ) -> None:
        self._followed = followed
        self._categories = categories
        self._give_up = give_up

    def follows(self, frame: Frame) -> bool:
        """Whether a frame claims to be of a category that is followed."""
        return category_of(str(frame.headers.get("stream", ""))) in self._categories

    def read(self, delivery: Delivery) -> list[Arrived]:
        """What is to be kept of a delivery, if anything. Raises: InvalidMessage."""
        if not self._categories:
            return []
        check_topic(delivery.frame)
        if not self.follows(delivery.frame):
            return []
        return [(delivery, followed_commit(delivery.frame))]

    async def keep(self, arrived: Sequence[Arrived]) -> None:
        """Stores them; gives up what cannot be stored. Raises: StoreUnavailable, OutcomeUnknown."""
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
